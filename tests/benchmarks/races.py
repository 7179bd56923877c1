"""What a racing confirmation saves, and whether repeating trials within the search pays.

`python -m tests.benchmarks.races`; `python -m tests.benchmarks.efficiency` prints it, too. First with made-up noise as
in `tests.benchmarks.confirmation`, then with the noise of the recorded pools: the best of random trials race, their
values being their true worth and residuals of their own runs around configuration + seed. Where nothing is better, it
counts how often the winner is said to be. Then whole searches of the pools at equal trial-epochs.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np
import optuna

from haan.cli import show_table, tell
from search.replays.pool import Scale, nearest_row
from search.results import race
from search.results.meancurve import Choice, MeanCurve
from search.space.model import base_point
from search.study.algorithms import silent
from tests.benchmarks import pools
from tests.benchmarks.confirmation import Estimate, runs
from tests.benchmarks.pools import FIXED, OFFICIAL, REDRAWN, Recorded

CANDIDATES, SEARCHED = 5, 24  # so many of so many random trials are confirmed, with the base
WAYS = {  # seeds before the first look, and at most
    "3 seeds each": (3, 3),
    "6 seeds each": (6, 6),
    "10 seeds each": (10, 10),
    "race of up to 4": (race.FIRST, 4),
    "race of up to 6": (race.FIRST, 6),
    "race of up to 10": (race.FIRST, 10),
}
LONG = {  # the same, of two configurations alone
    "10 seeds each": (10, 10),
    "race of up to 20": (race.FIRST, 20),
    "race of up to 20, looked at from 3 on": (3, 20),
}
RATIOS = (0.5, 1.0, 2.0)  # sd of a run's noise over that of true values
TOTALS = (24, 48)  # whole trials


@dataclass(frozen=True)
class Repeats:
    """How a search looks twice. most: runs of a trial in the search. contenders: how many of the best are repeated.

    top: how many are confirmed at its end, with so many new seeds. raced: how many runs are kept for them, where they
    race. A pool has five runs that no truth comes from.
    """

    most: int = 1
    contenders: int = 0
    top: int = 0
    seeds: int = 0
    raced: int = 0

    @property
    def confirmed(self) -> int:
        return self.raced or self.top * self.seeds


REPLICATED = {
    "each trial once, nothing confirmed": Repeats(),
    "each once, the best 5 confirmed with 2 seeds": Repeats(top=5, seeds=2),
    "each once, the best 3 confirmed with 4 seeds": Repeats(top=3, seeds=4),
    "each once, the best 5 and the base race with up to 4 seeds": Repeats(top=5, seeds=4, raced=16),
    "the best one repeated up to 5 times": Repeats(most=5, contenders=1),
    "the best three repeated up to 5 times": Repeats(most=5, contenders=3),
    "the best three repeated up to 3 times": Repeats(most=3, contenders=3),
}


class _All:
    """Every run has ended."""

    def __contains__(self, run: object) -> bool:
        return True


@dataclass(frozen=True)
class Outcome:
    """Of a confirmation. winner: its row. intervals: of each gain over the base, by row. claims: says it is better."""

    winner: int
    num_runs: int
    intervals: Mapping[int, tuple[float, float]]
    claims: bool


def confirm(values: np.ndarray, first: int) -> Outcome:
    """Of [configs, seeds], the base first. first: seeds before the first look."""

    def seen(seeds: Sequence[int]) -> dict[int, dict[int, float]]:
        return {number: dict(zip(seeds, row[list(seeds)].tolist(), strict=True)) for number, row in enumerate(values)}

    done = race.follow(range(len(values)), 0, range(values.shape[1]), first, _All(), seen)
    assert done.ranking is not None
    intervals = {one.number: one.interval for one in done.ranking.order if one.interval is not None}
    return Outcome(done.ranking.winner.number, len(done.wanted), intervals, done.ranking.distinguishable)


@dataclass(frozen=True)
class Figures:
    """Means over repeats. below: how far the winner's true value lies under the best one's. num_runs: trained.

    right: share of winners that are truly the best. holds: how often all intervals of gains hold their true ones.
    claims: how often the winner is said to be better than the base.
    """

    right: Estimate
    below: Estimate
    num_runs: Estimate
    holds: Estimate
    claims: Estimate

    def cells(self) -> list[str]:
        shares = (self.holds.percent(), self.claims.percent())
        return [f"{self.num_runs.share:.1f}", self.right.percent(), self.below.points(), *shares]


HEAD = ["runs", "the best won, %", "below the best", "all intervals hold, %", "said to gain, %"]
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]  # so many seeds: true values, and those of [configs, seeds]


def figures(draw: Draw, first: int, most: int, repeats: int) -> Figures:
    """Of confirmations of what is drawn, the base first."""
    found = []
    for _ in range(repeats):
        true, values = draw(most)
        made = confirm(values, first)
        gains = true - true[0]
        holds = all(low <= gains[row] <= high for row, (low, high) in made.intervals.items())
        below = true.max() - true[made.winner]
        found.append((below == 0, below, made.num_runs, holds, made.claims))
    return Figures(*(Estimate.of(column) for column in np.array(found, dtype=float).T))


def two(ratio: float, random: np.random.Generator) -> Draw:
    """Two configurations, one of them the base."""

    def draw(seeds: int) -> tuple[np.ndarray, np.ndarray]:
        true = random.normal(0, 1, 2)
        return true, runs(true, seeds, ratio, random)

    return draw


def best_of(ratio: float, random: np.random.Generator, trials: int = 50) -> Draw:
    """The base and the best of random trials by a single run of each."""

    def draw(seeds: int) -> tuple[np.ndarray, np.ndarray]:
        true = random.normal(0, 1, trials)
        once = runs(true, 1, ratio, random)[:, 0]
        true = true[[0, *(1 + np.argsort(-once[1:])[:CANDIDATES])]]
        return true, runs(true, seeds, ratio, random)

    return draw


def point(pool: Recorded, config: int) -> tuple[int, int]:
    """Epoch and setting where a configuration is truly best."""
    mean = pool.scores[OFFICIAL][config].mean(axis=0)
    epoch, detect = np.unravel_index(int(mean.argmax()), mean.shape)
    return int(epoch), int(detect)


@cache
def at_best(pool: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """[configs] true values, [configs, seeds] those on redrawn holdouts, all at each one's best point."""
    points = [point(pool, config) for config in range(len(pool.params))]
    true = np.array([pool.worth(config, *place) for config, place in enumerate(points)])
    return true, np.array([pool.scores[REDRAWN][config, :, epoch, d] for config, (epoch, d) in enumerate(points)])


def of_pool(pool: Recorded, random: np.random.Generator) -> Draw:
    """The base and the best of random trials of a pool; noise is what their own runs have."""
    true, values = at_best(pool)
    single = pool.scores[REDRAWN][:, 0].max(axis=(1, 2))
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    left *= sqrt(values.shape[1] / (values.shape[1] - 1))  # a mean of three hides a third of the variance

    def draw(seeds: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = random.choice(np.arange(1, len(single)), SEARCHED, replace=False)
        chosen = [0, *drawn[np.argsort(-single[drawn])][:CANDIDATES].tolist()]
        noise = np.array([random.choice(left[config], seeds) for config in chosen])
        return true[chosen], true[chosen, None] + noise

    return draw


def permuted(pool: Recorded, random: np.random.Generator) -> Draw:
    """Nothing is better: in each seed, the values of other configurations of the pool."""
    _, values = at_best(pool)

    def draw(seeds: int) -> tuple[np.ndarray, np.ndarray]:
        rows = [random.choice(values[:, random.integers(values.shape[1])], CANDIDATES + 1, False) for _ in range(seeds)]
        return np.zeros(CANDIDATES + 1), np.array(rows).T

    return draw


def equal(random: np.random.Generator) -> Draw:
    """Nothing is better."""
    return lambda seeds: (np.zeros(CANDIDATES + 1), runs(np.zeros(CANDIDATES + 1), seeds, 1.0, random))


def claims(draw: Draw, first: int, most: int, repeats: int) -> tuple[Estimate, Estimate]:
    """How often the winner of what is equal is said to be better, and how many runs that takes."""
    made = [confirm(draw(most)[1], first) for _ in range(repeats)]
    return Estimate.of([one.claims for one in made]), Estimate.of([one.num_runs for one in made])


def tables(recorded: Sequence[Recorded], repeats: int) -> Iterator[list[list[str]]]:
    """Confirmations, a way a row."""
    random = np.random.default_rng(0)
    sources = {f"two configurations, noise {ratio:g}": two(ratio, random) for ratio in RATIOS}
    sources |= {f"best {CANDIDATES} and the base, noise {ratio:g}": best_of(ratio, random) for ratio in RATIOS}
    sources |= {pool.name: of_pool(pool, random) for pool in recorded}
    for title, draw in sources.items():
        yield [[title, *HEAD], *([way, *figures(draw, *seeds, repeats).cells()] for way, seeds in WAYS.items())]
    nothing = {"equal": equal(random), **{f"{pool.name} permuted": permuted(pool, random) for pool in recorded}}
    found = {way: [claims(draw, *seeds, repeats) for draw in nothing.values()] for way, seeds in WAYS.items()}
    head = ["nothing is better: said to be, %; runs", *nothing]
    yield [head, *([way, *(f"{c.percent()}; {r.share:.1f}" for c, r in row)] for way, row in found.items())]
    long = {way: figures(two(1.0, np.random.default_rng(0)), *seeds, 4 * repeats) for way, seeds in LONG.items()}
    yield [["two configurations, noise 1", *HEAD], *([way, *row.cells()] for way, row in long.items())]


class Repeated:
    """A search whose trials may be repeated with other seeds and holdouts; its sampler is told their means.

    A trial is the nearest configuration that was not tried yet, or a few would be all finalists; the sampler is told
    which. most: runs of one; 1 repeats none. contenders: how many of the highest means are repeated until they have so
    many.
    """

    def __init__(self, pool: Recorded, draw: int, most: int, seed: int):
        kinds = [pool.scores[REDRAWN], pool.scores[FIXED]]
        values = np.concatenate(kinds, axis=1)
        order = [draw, *(place for place in range(values.shape[1]) if place != draw)]
        self._pool, self._values, self._most = pool, values[:, order], most
        self._scale = Scale(pool.space.parameters, base_point(pool.space))
        self._points = np.stack([self._scale.point(one) for one in pool.params])
        self._sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True)
        self._configs: list[int] = []  # of each trial; the base first
        self.counts: list[int] = []
        self._first: dict[int, int] = {}  # of a trial's runs, whose curves count
        self.raced = 0  # runs of a race

    def _point(self, trial: int) -> tuple[float, Choice]:
        scores = self._values[self._configs[trial], self._first.get(trial, 0) : self.counts[trial]]
        epochs = tuple(range(1, scores.shape[1] + 1))
        choice = MeanCurve(tuple(range(len(scores))), epochs, self._pool.space.detects, scores).choice("best")
        return float(scores.mean(axis=0)[self._place(choice)]), choice

    def ranked(self) -> list[int]:
        """Trials, the highest mean first."""
        return sorted(range(len(self._configs)), key=lambda trial: -self._point(trial)[0])

    def step(self, contenders: int) -> None:
        """One run: again one of the best, or a new one."""
        for trial in self.ranked()[:contenders]:
            if self.counts[trial] < self._most:
                self.counts[trial] += 1
                return
        self._configs.append(self._asked() if self._configs else 0)
        self.counts.append(1)

    def _asked(self) -> int:
        study = optuna.create_study(direction="maximize", sampler=self._sampler)
        space = dict(self._pool.space.parameters)
        for trial, config in enumerate(self._configs):
            params = dict(self._pool.params[config])
            study.add_trial(optuna.create_trial(params=params, distributions=space, value=self._point(trial)[0]))
        left = np.setdiff1d(np.arange(len(self._points)), self._configs)
        return int(left[nearest_row(self._points[left], self._scale.point(study.ask(space).params))])

    def confirm(self, top: int, seeds: int) -> None:
        """So many new runs of each of the best, which alone decide."""
        for trial in self.ranked()[:top]:
            self.counts[trial] += seeds
            self._first[trial] = 1

    def race(self, top: int, seeds: int) -> float:
        """The winner's true worth; the best and the base race for so many new runs."""
        numbers = list(dict.fromkeys([*self.ranked()[:top], 0]))
        for number in numbers:
            self._first[number] = 1

        def seen(some: Sequence[int]) -> dict[int, dict[int, float]]:
            found = {}
            for number in numbers:
                self.counts[number] = 1 + len(some)
                place = self._place(self._point(number)[1])
                values = self._values[self._configs[number], 1 : 1 + len(some)]
                found[number] = dict(zip(some, values[:, *place].tolist(), strict=True))
            return found

        done = race.follow(numbers, 0, range(seeds), race.FIRST, _All(), seen)
        assert done.ranking is not None
        best = done.ranking.winner.number
        self.raced = len(done.wanted)
        return self._pool.worth(self._configs[best], *self._place(self._point(best)[1]))

    def _place(self, choice: Choice) -> tuple[int, int]:
        return choice.epochs - 1, self._pool.space.detects.index(choice.detect)

    def worth(self) -> float:
        """The true one, of the highest mean among those repeated; where none is, of the highest value."""
        ranked = self.ranked()
        best = next((trial for trial in ranked if self.counts[trial] > 1), ranked[0])
        return self._pool.worth(self._configs[best], *self._place(self._point(best)[1]))


def repeated(pool: Recorded, way: Repeats, total: int, seed: int) -> float:
    """The worth of what leaves a search at the epochs of so many whole trials, those confirmed among them."""
    one = Repeated(pool, seed % pools.SEEDS[REDRAWN], way.most, seed)
    for _ in range(total - way.confirmed):
        one.step(way.contenders)
    if way.raced:
        return one.race(way.top, way.seeds)
    one.confirm(way.top, way.seeds)
    return one.worth()


def replicates(pool: Recorded, repeats: int) -> list[list[str]]:
    """TPE without a pruner, a way a row."""
    head = [f"{pool.name}: worth after the epochs of", *(f"{total} trials" for total in TOTALS)]
    with silent():
        rows = [
            [title, *(Estimate.of([repeated(pool, way, n, seed) for seed in range(repeats)]).points() for n in TOTALS)]
            for title, way in REPLICATED.items()
        ]
    return [head, *rows]


def show(recorded: Sequence[Recorded], repeats: int) -> None:
    """Prints all tables."""
    for table in tables(recorded, repeats):
        show_table(table)
        tell("")
    for pool in recorded:
        show_table(replicates(pool, max(repeats // 8, 2)))
        tell("")


def main() -> None:
    """Prints all tables, of all pools that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500)
    given = parser.parse_args()
    show([pools.read(name) for name in pools.recorded()], given.repeats)


if __name__ == "__main__":
    main()
