"""What confirming over seeds is worth, by simulation with known noise.

`python -m tests.benchmarks.confirmation`. A configuration's true avg.mAP is drawn from N(20, TAU); one run adds noise
of sd `ratio` * TAU, and the effect of its seed, which all configurations of that seed share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

from search.results.ranking import Ranking, rank

MEAN, TAU = 20.0, 1.0  # avg.mAP in percent
SEED_SD = 1.0
TRIALS, TOP = 50, 5
RATIOS = (0.25, 0.5, 1.0, 2.0)
SEEDS = (2, 3, 5)


@dataclass(frozen=True)
class Estimate:
    """A mean over simulations and its standard error."""

    share: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float] | Sequence[bool] | np.ndarray) -> "Estimate":
        array = np.asarray(values, dtype=float)
        return cls(float(array.mean()), float(array.std(ddof=1) / sqrt(len(array))))

    def percent(self) -> str:
        return f"{100 * self.share:5.1f} +- {100 * self.error:3.1f}"

    def points(self) -> str:
        return f"{self.share:5.2f} +- {self.error:4.2f}"


@dataclass(frozen=True)
class Pair:
    """How often the truly better of two configurations comes first: by the single runs, by the means over new seeds."""

    single: Estimate
    confirmed: Estimate
    advantage: Estimate  # mean of the difference, simulation by simulation


@dataclass(frozen=True)
class Search:
    """A search of TRIALS single runs whose TOP are confirmed.

    differs: how often the confirmed winner is not the single best trial. better: how often it is truly better then.
    single, confirmed: how far the pick's true value lies below the truly best trial's, in avg.mAP; advantage: of both.
    """

    differs: Estimate
    better: Estimate
    single: Estimate
    confirmed: Estimate
    advantage: Estimate


@dataclass(frozen=True)
class Claims:
    """How often the winner of equal configurations is said to be better than the base.

    ours: by `search.results.ranking`; naive: by a two-sided paired t test at 5 % on the winner alone. As a winner is
    never below the base, one side of either counts: both mean 2.5 %.
    """

    ours: Estimate
    naive: Estimate


def runs(true: np.ndarray, seeds: int, noise_sd: float | np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One run of each configuration and seed: [configs, seeds]; noise_sd: of all, or of [configs, 1]."""
    noise = random.normal(size=(len(true), seeds)) * noise_sd
    return true[:, None] + random.normal(0, SEED_SD, seeds) + noise


def ranked(values: np.ndarray, base: int) -> Ranking:
    """The ranking of [configs, seeds], numbered by row."""
    return rank({number: dict(enumerate(row)) for number, row in enumerate(values.tolist())}, base)


def two_configurations(ratio: float, seeds: int, repeats: int, random: np.random.Generator) -> Pair:
    """Two configurations, one run each in the search; then both again with so many new seeds."""
    single, confirmed = [], []
    for _ in range(repeats):
        true = random.normal(MEAN, TAU, 2)
        once = runs(true, 1, ratio * TAU, random)
        again = ranked(runs(true, seeds, ratio * TAU, random), base=0)
        single.append(once.argmax() == true.argmax())
        confirmed.append(again.winner.number == true.argmax())
    advantage = np.array(confirmed, dtype=float) - np.array(single, dtype=float)
    return Pair(Estimate.of(single), Estimate.of(confirmed), Estimate.of(advantage))


def whole_search(ratio: float, seeds: int, repeats: int, random: np.random.Generator) -> Search:
    """TRIALS configurations, one run each with one seed; the TOP and the base (the first) again with new seeds."""
    picks = np.array([_one_search(ratio, seeds, random) for _ in range(repeats)])  # [repeats, 2]: true value below best
    single, confirmed = picks.T
    differ = single != confirmed
    return Search(
        differs=Estimate.of(differ),
        better=Estimate.of((confirmed < single)[differ]),
        single=Estimate.of(single),
        confirmed=Estimate.of(confirmed),
        advantage=Estimate.of(single - confirmed),
    )


def _one_search(ratio: float, seeds: int, random: np.random.Generator) -> tuple[float, float]:
    """How far the single best trial, and the confirmed winner, truly lie below the best of all trials."""
    true = random.normal(MEAN, TAU, TRIALS)
    once = runs(true, 1, ratio * TAU, random)[:, 0]
    best_first = np.argsort(-once)
    again = np.concatenate([[0], best_first[:TOP][best_first[:TOP] != 0]])  # the base may be among the best
    winner = again[ranked(runs(true[again], seeds, ratio * TAU, random), base=0).winner.number]
    return float(true.max() - true[best_first[0]]), float(true.max() - true[winner])


def false_claims(seeds: int, repeats: int, random: np.random.Generator, unequal: float = 1.0) -> Claims:
    """TOP candidates as good as the base. unequal: the noisiest configuration's sd over the calmest's."""
    ours, naive = [], []
    for _ in range(repeats):
        noise_sd = unequal ** random.uniform(-0.5, 0.5, (TOP + 1, 1))
        values = runs(np.full(TOP + 1, MEAN), seeds, noise_sd, random)
        ranking = ranked(values, base=0)
        ours.append(ranking.distinguishable)
        winner = ranking.winner.number
        naive.append(winner != 0 and stats.ttest_rel(values[winner], values[0]).pvalue < 0.05)
    return Claims(Estimate.of(ours), Estimate.of(naive))


def _print_two(random: np.random.Generator) -> None:
    print("The truly better of two configurations comes first, % (sd of a run's noise over sd of true values)")
    print(f"{'noise':>6} {'single run':>14}" + "".join(f"{f'{seeds} new seeds':>16}" for seeds in SEEDS))
    for ratio in RATIOS:
        pairs = [two_configurations(ratio, seeds, 2000, random) for seeds in SEEDS]
        print(f"{ratio:6} {pairs[0].single.percent():>14}" + "".join(f"{p.confirmed.percent():>16}" for p in pairs))


def _print_search(random: np.random.Generator) -> None:
    print(f"\nA search of {TRIALS} single runs, its best {TOP} confirmed: avg.mAP below the best, % of searches")
    heads = ("single best", "confirmed", "another wins", "truly better then")
    print(f"{'noise':>6} {'seeds':>5}" + "".join(f"{head:>18}" for head in heads))
    for ratio in RATIOS:
        for seeds in SEEDS:
            got = whole_search(ratio, seeds, 600, random)
            shown = (got.single.points(), got.confirmed.points(), got.differs.percent(), got.better.percent())
            print(f"{ratio:6} {seeds:5}" + "".join(f"{text:>18}" for text in shown))


def _print_claims(random: np.random.Generator) -> None:
    print(f"\nA winner among {TOP} candidates as good as the base is said to be better, % (2.5 are meant)")
    print(f"{'seeds':>5} {'ours':>14} {'paired t on the winner':>24} {'ours, noise sd varies fourfold':>32}")
    for seeds in SEEDS:
        equal, unequal = (false_claims(seeds, 1000, random, spread) for spread in (1.0, 4.0))
        print(f"{seeds:5} {equal.ours.percent():>14} {equal.naive.percent():>24} {unequal.ours.percent():>32}")


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    _print_two(generator)
    _print_search(generator)
    _print_claims(generator)
