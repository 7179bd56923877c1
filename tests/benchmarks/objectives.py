"""Which epoch is to count: `python -m tests.benchmarks.objectives`.

On each recorded pool (`tests.benchmarks.pools`): a search of whole trials, the base and random ones, takes the trial of
the highest value and exports it. The value, and the epoch and detection setting that leave, are those of the best
epoch, of the last one, or of the mean over the last few (which leaves at the last epoch). What counts is the true worth
of what is exported, its mean on the official videos; it is exact over all searches of the pool's configurations, and
its interval is of other configurations (bootstrap). Then the same of trials whose weights were averaged over epochs,
and by how much the best epoch at the best setting flatters a value on the videos that chose both.
"""

import argparse
from collections.abc import Iterator, Mapping
from statistics import fmean

import numpy as np
from jaxtyping import Float

from haan.cli import show_table, tell
from tests.benchmarks import pools
from tests.benchmarks.pools import OFFICIAL, REDRAWN, Recorded

TRIALS = (10, 20, 40)
OBJECTIVES: Mapping[str, int] = {"best epoch": 0, "last": 1, "mean of the last 3": 3, "mean of the last 5": 5}
_BOOTSTRAPS = 400
_TODAY = "best epoch"

Values = Float[np.ndarray, "draws configs"]


def seen(pool: Recorded, last: int) -> tuple[Values, Values]:
    """What each draw's search says of every configuration, and what that is worth as it leaves.

    last: over so many of the last epochs; 0: the best epoch counts.
    """
    scores = pool.scores[REDRAWN].swapaxes(0, 1)  # [draws, configs, epochs, detects]
    epochs, detects = scores.shape[2:]
    if last:
        means = scores[:, :, -last:].mean(axis=2)
        values, chosen = means.max(axis=2), (epochs - 1) * detects + means.argmax(axis=2)
    else:
        flat = scores.reshape(*scores.shape[:2], -1)
        values, chosen = flat.max(axis=2), flat.argmax(axis=2)
    official = pool.scores[OFFICIAL].mean(axis=1).reshape(len(pool.params), -1)
    return values, np.take_along_axis(official.T, chosen, axis=0)


def expected(values: Float[np.ndarray, " configs"], worth: Float[np.ndarray, " configs"], trials: int) -> float:
    """The worth that a search of so many trials exports, the mean over all of them that have the first configuration.

    Of the others, n, a search takes k = trials - 1; the one of which m are better wins in C(n - m - 1, k - 1) of
    C(n, k), where it is better than the first one; otherwise that one wins.
    """
    order = 1 + np.argsort(-values[1:], kind="stable")
    n, k = len(order), trials - 1
    better = np.arange(n)
    # C(n - m - 1, k - 1) / C(n, k), from one m to the next
    ratios = np.clip(n - better[1:] - k + 1, 0, None) / (n - better[1:])
    wins = k / n * np.concatenate([[1.0], np.cumprod(ratios)])
    wins = np.where(values[order] > values[0], wins, 0.0)
    return float(wins @ worth[order] + (1 - wins.sum()) * worth[0])


def table(pool: Recorded, trials: int) -> Iterator[list[str]]:
    """A row for what chooses, a column for what leaves."""
    made = {name: seen(pool, last) for name, last in OBJECTIVES.items()}
    yield [f"{trials} trials: chosen by", *(f"leaves by {name}" for name in OBJECTIVES)]
    for choice, (values, _) in made.items():
        yield [choice, *(_cell(values, worth, made[_TODAY], trials) for _, worth in made.values())]


def _cell(values: Values, worth: Values, today: tuple[Values, Values], trials: int) -> str:
    def mean(one: tuple[Values, Values], chosen: np.ndarray) -> float:
        return fmean(expected(v[chosen], w[chosen], trials) for v, w in zip(*one, strict=True))

    whole = np.arange(values.shape[1])
    own = mean((values, worth), whole)
    if values is today[0] and worth is today[1]:
        return f"{own:.2f}"
    random = np.random.default_rng(0)
    again = [np.append(0, 1 + random.integers(len(whole) - 1, size=len(whole) - 1)) for _ in range(_BOOTSTRAPS)]
    low, high = np.quantile([mean((values, worth), one) - mean(today, one) for one in again], (0.025, 0.975))
    return f"{own:.2f} ({low:+.2f} to {high:+.2f})"


def flattery(pool: Recorded) -> dict[str, float]:
    """By how much a run's value lies above what it scored where another run of its configuration chose.

    The other run has its own seed and holdout, so that nothing of this one's videos chose.
    """
    scores = pool.scores[REDRAWN]
    configs, seeds, epochs, detects = scores.shape
    flat = scores.reshape(configs, seeds, epochs * detects)
    ways = {
        "best epoch and setting": (flat, flat.argmax(axis=2)),
        "best setting of the last epoch": (scores[:, :, -1], scores[:, :, -1].argmax(axis=2)),
    }
    found = {}
    for name, (points, chosen) in ways.items():
        own = np.take_along_axis(points, chosen[:, :, None], axis=2)[:, :, 0]
        pairs = [(a, b) for a in range(seeds) for b in range(seeds) if a != b]
        others = [np.take_along_axis(points[:, a], chosen[:, b, None], axis=1)[:, 0] for a, b in pairs]
        found[name] = float(np.mean([own[:, a] - other for (a, _), other in zip(pairs, others, strict=True)]))
    return found


def part(pool: Recorded, count: int) -> Recorded:
    """Its first configurations."""
    scores = {kind: one[:count] for kind, one in pool.scores.items()}
    return Recorded(pool.name, pool.space, pool.params[:count], scores)


def averaged(pool: Recorded, other: Recorded) -> Iterator[list[str]]:
    """The same configurations without and with averaged weights: what counts also leaves. other: with."""
    pool = part(pool, len(other.params))
    assert pool.params == other.params
    yield ["trials, what counts", "the last step's weights", "averaged", "difference, all configurations"]
    for trials in TRIALS[:2]:
        for name, last in OBJECTIVES.items():
            made = [seen(one, last) for one in (pool, other)]
            means = [fmean(expected(v, w, trials) for v, w in zip(*one, strict=True)) for one in made]
            apart = (made[1][1] - made[0][1]).mean(axis=0)  # of each configuration's worth, as it leaves
            error = 1.96 * apart.std(ddof=1) / len(apart) ** 0.5
            yield [f"{trials}, {name}", *(f"{mean:.2f}" for mean in means), f"{apart.mean():+.2f} ± {error:.2f}"]


def main() -> None:
    """Prints the tables of all pools that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="*", help="names; default: all that are recorded")
    given = parser.parse_args()
    for name in given.pools or pools.recorded():
        pool = pools.read(name)
        tell(f"{name}, worth of what is exported, in brackets its distance from the best epoch of both:")
        for trials in TRIALS:
            show_table(list(table(pool, trials)))
            tell("")
        if pools.path_of(name + pools.AVERAGED).exists():
            show_table(list(averaged(pool, pools.read(name + pools.AVERAGED))))
            tell("")
        for way, points in flattery(pool).items():
            tell(f"{way} of {len(pool.space.detects)}: {points:+.2f} avg.mAP above where another run's lies")
        tell("")


if __name__ == "__main__":
    main()
