"""When `search.stop: {gain: noise}` ends a search, and what it gives up: `python -m tests.benchmarks.stopping`.

On each recorded pool (`tests.benchmarks.pools`) random search without a pruner, on the mean of the last epochs, runs in
virtual time: a model that proposes near what was good meets the same recorded trials again, which is no end of gains.
Printed are the trials after which the rule ends it, the true worth of what would be exported then, and after all
trials; and the noise that the rule goes by beside that of seeds and holdouts.
"""

import argparse
from statistics import fmean, median, stdev

import numpy as np

from haan.cli import show_table, tell
from search.study.algorithms import Component, silent
from search.study.record import RECENT
from search.study.stagnation import Expectation
from tests.benchmarks import pools
from tests.benchmarks.efficiency import nearest_of
from tests.benchmarks.pools import REDRAWN, Recorded
from tests.benchmarks.rivals import Ours, exported, search

TRIALS, AHEAD, SEEDS, REPEATS = 80, (10, 20, 40), 3, 15


def ended(pool: Recorded, repeat: int) -> tuple[dict[int, tuple[int, float]], float]:
    """By how far the rule looks ahead: after how many trials it ends, and the worth then; the worth in the end."""
    draw, epochs = repeat % pools.SEEDS[REDRAWN], pool.space.base.optim.epochs
    rival = Ours(pool.space, repeat, Component("random", {}), Component("none", {}), "recent")
    rules = {ahead: Expectation(ahead, SEEDS, RECENT) for ahead in AHEAD}
    found, worth = dict[int, tuple[int, float]](), 0.0
    curves = pool.scores[REDRAWN][:, draw].max(axis=2)
    for count, moment in enumerate(search(rival, nearest_of(pool), curves, 1, TRIALS * epochs), start=1):
        worth = exported(pool, draw, moment)
        for ahead, rule in rules.items():
            rule.add(rival.trial(count - 1))
            if rule.is_enough and ahead not in found:
                found[ahead] = count, worth
    return {ahead: found.get(ahead, (TRIALS, worth)) for ahead in AHEAD}, worth


def noises(pool: Recorded) -> tuple[float, float]:
    """sd of a value over seeds and holdouts; and of an epoch, by how it jumps from one to the next."""
    scores = pool.scores[REDRAWN]
    values = scores[:, :, -RECENT:].mean(axis=2).max(axis=2)
    curves = scores.max(axis=3)
    late = curves[:, :, curves.shape[2] // 2 :]
    return float(values.var(axis=1, ddof=1).mean() ** 0.5), float(np.median(np.diff(late).std(axis=2, ddof=1)) / 2**0.5)


def main() -> None:
    """Prints a table a pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    for name in pools.recorded():
        pool = pools.read(name)
        with silent():
            found = [ended(pool, repeat) for repeat in range(given.repeats)]
        last = [worth for _, worth in found]
        rows = [[name, "ends after", "worth then", f"after {TRIALS}"]]
        for ahead in AHEAD:
            counts, worths = zip(*(by_ahead[ahead] for by_ahead, _ in found), strict=True)
            then = f"{fmean(worths):.2f} ± {stdev(worths):.2f}"
            trials = f"{median(counts):.0f} trials ({min(counts)} to {max(counts)})"
            rows.append([f"{ahead} ahead", trials, then, f"{fmean(last):.2f} ± {stdev(last):.2f}"])
        show_table(rows)
        runs, jumps = noises(pool)
        tell(f"a value varies by {runs:.1f} over seeds and holdouts (sd), an epoch by {jumps:.1f} as it jumps")
        tell("")


if __name__ == "__main__":
    main()
