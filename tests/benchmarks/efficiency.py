"""Which search finds configurations of more worth with fewer epochs: `python -m tests.benchmarks.efficiency`.

Every rival of `tests.benchmarks.rivals` searches each recorded pool (`tests.benchmarks.pools`) in virtual time. What
counts is the true worth of what it would export, its mean on the official videos, against the trial-epochs spent. Then
what a confirmation of two seeds is worth, each on the search's own holdout and read off its own best epoch (as before)
or each on a holdout of its own and read off the mean curve (as now), off its last epoch, or off its last few, at equal
cost. Last, what races save (`tests.benchmarks.races`).
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import fmean, stdev

import numpy as np
from scipy.stats import rankdata

from haan.cli import show_table, tell
from search.results.meancurve import MeanCurve
from search.results.ranking import rank
from search.study.algorithms import silent
from tests.benchmarks import pools, races
from tests.benchmarks.pools import FIXED, OFFICIAL, REDRAWN, Recorded, nearest_of
from tests.benchmarks.rivals import LEFT_OUT, RIVALS, exported, search

TRIALS = (5, 10, 20, 40)  # whole ones, whose epochs are the marks at which a search is looked at
WORKERS = (1, 8, 32)
REPEATS = 21  # a third of them on each draw
CANDIDATES, SEARCHED = 5, 24  # so many of so many random trials are confirmed


def found(pool: Recorded, name: str, workers: int, repeat: int) -> list[float | None]:
    """The worth of what a search would export at each mark; None before there is any."""
    draw, whole = repeat % pools.SEEDS[REDRAWN], pool.space.base.optim.epochs
    curves = pool.scores[REDRAWN][:, draw].max(axis=2)
    marks = [trials * whole for trials in TRIALS]
    worth: list[float | None] = [None] * len(marks)
    for moment in search(RIVALS[name](pool.space, repeat), nearest_of(pool), curves, workers, marks[-1]):
        for place, mark in enumerate(marks):
            if moment.spent <= mark:
                worth[place] = exported(pool, draw, moment)
    return worth


def rows(pool: Recorded, workers: int, repeats: int, names: Sequence[str]) -> Iterator[list[str]]:
    """A rival a row: mean and sd of the worth at each mark."""
    yield [f"{workers} worker(s)", *(f"{trials} x {pool.space.base.optim.epochs}" for trials in TRIALS)]
    for name in names:
        with silent():
            values = [found(pool, name, workers, repeat) for repeat in range(repeats)]
        yield [name, *(_cell([one[place] for one in values]) for place in range(len(TRIALS)))]


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return "none yet"
    return f"{fmean(known):.2f} ± {stdev(known):.2f}" + ("" if len(known) == len(values) else f" ({len(known)})")


@dataclass(frozen=True)
class Way:
    """A confirmation of candidates. values: [candidates, seeds] that decide. worth: of each, as it would leave."""

    values: np.ndarray
    worth: np.ndarray


def before(pool: Recorded, chosen: Sequence[int]) -> Way:
    """Each seed on the search's holdout, at the setting that the search chose, in its own best epoch."""
    values, worth = [], []
    for config in chosen:
        seen = pool.scores[REDRAWN][config, 0]
        epoch, detect = np.unravel_index(seen.argmax(), seen.shape)
        values.append(pool.scores[FIXED][config, :, :, int(detect)].max(axis=1))
        worth.append(pool.worth(config, int(epoch), int(detect)))
    return Way(np.array(values), np.array(worth))


def now(pool: Recorded, chosen: Sequence[int], objective: str = "best") -> Way:
    """Each seed on a holdout of its own, at the epoch and setting of the mean curve. objective: as a space has it."""
    values, worth = [], []
    epochs = tuple(range(1, pool.space.base.optim.epochs + 1))
    for config in chosen:
        scores = pool.scores[REDRAWN][config, 1 : 1 + pools.SEEDS[FIXED]]
        choice = MeanCurve(tuple(range(len(scores))), epochs, pool.space.detects, scores).choice(objective)
        place = pool.space.detects.index(choice.detect)
        values.append(scores[:, choice.epochs - choice.over : choice.epochs, place].mean(axis=1))
        worth.append(pool.worth(config, choice.epochs - 1, place))
    return Way(np.array(values), np.array(worth))


@dataclass(frozen=True)
class Confirmed:
    """What confirmations are worth, means over repeats.

    ordered: share of pairs of candidates in the order of their worth. winner: the winner's worth. above: how far the
    confirmed gain over the base lies above the true one; covered: share of winners whose interval holds the true one.
    """

    ordered: float
    winner: float
    above: float
    covered: float


def confirmed(pool: Recorded, way: Callable[[Recorded, Sequence[int]], Way], repeats: int) -> Confirmed:
    """The best of random trials and the base, confirmed in a way."""
    random, figures = np.random.default_rng(0), []
    single = pool.scores[REDRAWN][:, 0].max(axis=(1, 2))
    for _ in range(repeats):
        drawn = random.choice(np.arange(1, len(single)), SEARCHED, replace=False)
        chosen = [*drawn[np.argsort(-single[drawn])][:CANDIDATES].tolist(), 0]
        made = way(pool, chosen)
        means = made.values.mean(axis=1)
        pairs = [(means[a] - means[b]) * (made.worth[a] - made.worth[b]) > 0 for a, b in combinations(range(6), 2)]
        ranking = rank({n: dict(enumerate(row)) for n, row in enumerate(made.values.tolist())}, CANDIDATES)
        best = ranking.winner
        true = made.worth[best.number] - made.worth[CANDIDATES]
        covered = best.interval is None or best.interval[0] <= true <= best.interval[1]
        figures.append((np.mean(pairs), made.worth[best.number], (best.gain or 0.0) - true, covered))
    return Confirmed(*(float(one) for one in np.mean(figures, axis=0)))


def _figures(one: Confirmed) -> list[str]:
    return [f"{100 * one.ordered:.0f} %", f"{one.winner:.2f}", f"{one.above:+.2f}", f"{100 * one.covered:.0f} %"]


@dataclass(frozen=True)
class Differing:
    """Is there anything to be found? true, noise: sd of configurations, and of runs of one. rank: a correlation."""

    true: float
    noise: float
    rank: float


def differing(pool: Recorded) -> Differing:
    """In the last epoch, at the setting that is best for all of them together; a seed's own share is left out."""
    official = pool.scores[OFFICIAL][:, :, -1]
    setting = int(official.mean(axis=(0, 1)).argmax())
    values = official[:, :, setting] - official[:, :, setting].mean(axis=0)
    configs, seeds = values.shape
    means = values.mean(axis=1)
    noise = float(((values - means[:, None]) ** 2).sum() / ((configs - 1) * (seeds - 1)))
    held_out = np.concatenate([pool.scores[kind][:, :, -1, setting] for kind in (REDRAWN, FIXED)], axis=1)
    rank = float(np.corrcoef(rankdata(means), rankdata(held_out.mean(axis=1)))[0, 1])
    return Differing(max(float(means.var(ddof=1)) - noise / seeds, 0.0) ** 0.5, noise**0.5, rank)


def about(pool: Recorded) -> list[str]:
    """What a pool is of, and what it can't show."""
    official = pool.scores[OFFICIAL]
    means = official.mean(axis=1).max(axis=(1, 2))  # of each configuration, at its best
    noise = float(np.sqrt(official.var(axis=1, ddof=1).mean() / official.shape[1]))
    shape = ", ".join(f"{count} {kind}" for kind, count in pools.SEEDS.items())
    apart = differing(pool)
    return [
        f"{len(pool.params)} configurations, seeds: {shape}; {official.shape[2]} epochs, {official.shape[3]} settings",
        f"worth at the best epoch and setting: base {means[0]:.2f}, mean {means.mean():.2f}, best {means.max():.2f}; "
        f"standard error of one's worth {noise:.2f}, less than which no difference between two means anything",
        f"in the last epoch, at one setting, configurations differ by {apart.true:.2f} (sd), runs of one by "
        f"{apart.noise:.2f}; rank correlation of official and all held-out means {apart.rank:.2f}",
        "it can't show: better than the best recorded; what proposals near each other differ in, for each gets the "
        "nearest recorded one",
    ]


def main() -> None:
    """Prints the tables of all pools that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="*", help="names; default: all that are recorded")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--rivals", nargs="+", choices=list(RIVALS), metavar="NAME", help="these alone, nothing else")
    given = parser.parse_args()
    names = given.pools or pools.recorded()
    for rival, missing in LEFT_OUT.items():
        tell(f"{rival} is left out: {', '.join(missing)} not installed")
    for name in names:
        pool = pools.read(name)
        tell(f"{name}: {'; '.join(about(pool))}")
        for workers in given.workers:
            tell("")
            show_table(list(rows(pool, workers, given.repeats, given.rivals or list(RIVALS))))
        tell("")
        if given.rivals:
            continue
        head = ["confirmation, 2 seeds", "pairs in order", "winner's worth", "gain above the true", "interval holds"]
        ways = {
            "on one holdout, own best epochs": before,
            "on two holdouts, mean curve": now,
            "on two holdouts, last epoch": partial(now, objective="last"),
            "on two holdouts, mean of the last": partial(now, objective="recent"),
        }
        made = {title: confirmed(pool, way, 20 * given.repeats) for title, way in ways.items()}
        show_table([head, *([title, *_figures(one)] for title, one in made.items())])
        tell("")
    if not given.rivals:
        races.show([pools.read(name) for name in names], 20 * given.repeats)


if __name__ == "__main__":
    main()
