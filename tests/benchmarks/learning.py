"""What a search gains by an earlier one on other data: `python -m tests.benchmarks.learning`.

On each recorded pool (`tests.benchmarks.pools`) the search of the shipped spaces, TPE under Hyperband on the mean of
the last epochs, runs in virtual time without a source, with some trials of another pool as the earlier search, and
with the same trials whose values were dealt anew among them: a source that misleads, its winner too, which isn't
pruned. What counts is the true worth of what it would export. Below them: what a source adds to what comes after the
search, in whole trainings.
"""

import argparse
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

import numpy as np

from haan.cli import show_table, tell
from search.results import retraining
from search.results.sources import FIRST
from search.space.read import read_space
from search.study.algorithms import Component, silent
from search.study.earlier import Source, Tried, Winner
from search.study.record import RECENT
from tests.benchmarks import pools
from tests.benchmarks.objectives import seen
from tests.benchmarks.pools import REDRAWN, Recorded, nearest_of
from tests.benchmarks.rivals import Ours, exported, search
from tests.paths import ROOT

TRIALS = (5, 10, 15, 20, 22, 30)  # whole ones, at whose epochs a search is looked at
KNOWN = 40  # trials of a source
REPEATS = 60  # a third of them on each draw
SPACES = "demo", "openpack", "fineaction", "finegym"
WAYS = ("no source", "the other pool", "the other pool, its values dealt anew")


def source(pool: Recorded, repeat: int, dealt: bool) -> Source:
    """Some trials of a pool as an earlier search has them. dealt: their values are another's each."""
    random = np.random.default_rng(repeat)
    chosen = random.choice(len(pool.params), KNOWN, replace=False)
    values = seen(pool, RECENT)[0][repeat % pools.SEEDS[REDRAWN], chosen]
    if dealt:
        values = random.permutation(values)
    order = np.argsort(-values)
    last = pool.space.base.optim.epochs
    tried = [Tried(dict(pool.params[chosen[place]]), float(values[place]), last, pruned=False) for place in order]
    return Source("source", KNOWN, [one.params for one in tried[:FIRST]], tried, Winner(0, tried[0].params))


def worths(pool: Recorded, sources: Sequence[Source], repeat: int) -> list[float]:
    """Of what is exported at each mark; 0 before there is any."""
    draw, whole = repeat % pools.SEEDS[REDRAWN], pool.space.base.optim.epochs
    pruner = Component("hyperband", {"min_resource": 3})
    rival = Ours(pool.space, repeat, Component("tpe", {"n_startup_trials": 8}), pruner, "recent", sources)
    curves, marks = pool.scores[REDRAWN][:, draw].max(axis=2), [trials * whole for trials in TRIALS]
    found = [0.0] * len(marks)
    for moment in search(rival, nearest_of(pool), curves, 1, marks[-1]):
        for place, mark in enumerate(marks):
            if moment.spent <= mark:
                found[place] = exported(pool, draw, moment)
    return found


def rows(name: str, other: str, repeats: int) -> Iterator[list[str]]:
    """A way a row: mean and sd of the worth at each mark."""
    pool, elsewhere = pools.read(name), pools.read(other)
    yield [f"{name}, from {other}", *(f"{trials} x {pool.space.base.optim.epochs}" for trials in TRIALS)]
    for way in WAYS:
        found = []
        for repeat in range(repeats):
            sources = () if way == WAYS[0] else (source(elsewhere, repeat, dealt=way == WAYS[2]),)
            with silent():
                found.append(worths(pool, sources, repeat))
        yield [way, *(f"{fmean(one):.2f} ± {stdev(one):.2f}" for one in zip(*found, strict=True))]


def runs_after(name: str) -> list[str]:
    """How many trainings a space confirms by at most, and ends with on all training videos: without a source, with."""
    space = read_space(ROOT / "spaces" / f"{name}.yaml")
    one = Source("source", 1, [], [], Winner(0, {next(iter(space.parameters)): object()}))
    counted = [retraining.num_runs(space, True, sources) for sources in ((), (one,))]
    return [name, *(f"{sum(rounds)} + {last}" for rounds, last in counted)]


def main() -> None:
    """Prints a table a pool, and one of trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    for name, other in (("planted-hard", "planted-easy"), ("planted-easy", "planted-hard")):
        show_table(list(rows(name, other, given.repeats)))
        tell("")
    show_table([["runs after the search", "no source", "a source"], *map(runs_after, SPACES)])


if __name__ == "__main__":
    main()
