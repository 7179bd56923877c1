"""The statistics of the confirmation: which configuration wins over several seeds, and whether noise explains its gain.

The confirmation is a randomised block design: every configuration is trained with the same seeds, and a seed is a block
that moves all of them alike (initial weights, order of the batches, the clips that are clustered, the holdout where
each has its own). Model: value = configuration + seed + noise, noise independent and normal with one sd (Montgomery,
Design and Analysis of Experiments, ch. 4). A gain is a mean of differences over the seeds that a configuration shares
with the base, so the seeds cancel; its standard error is sqrt(2 s2 / seeds), with the residual variance s2 of all
configurations, because three differences alone say next to nothing about their spread.

The winner is picked after looking, so each of the m gains over the base gets an interval of confidence 1 - 0.05 / m
(Bonferroni): with at least 95 % all m hold at once, hence the winner's, whichever it is. Dunnett's test (1955) is exact
for comparisons with one base, and its intervals are 6 % narrower (5 candidates, 3 seeds), but only where no cell is
missing; scipy.stats.dunnett knows no blocks at all and would count the seeds' spread as noise. Bonferroni doesn't ask
how the gains are correlated, so it holds after failed runs, too.

The intervals are about other seeds on these videos, and other holdouts of them. They don't speak of other videos, and
holdouts of few videos share some, so that blocks are not quite independent (Nadeau and Bengio, 2003).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, stdev

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
Values = Mapping[int, Mapping[int, float]]  # avg.mAP in percent of [trial number][seed]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One configuration in the ranking; values are avg.mAP in percent.

    mean, sd (over n - 1; None with one seed) and n: of its own seeds. shared: how many of them the base has, too; gain:
    mean difference from the base over those (None without any; 0 for the base). interval: of the gain; the intervals of
    all configurations hold together with 95 %. None for the base, and where fewer than two seeds are shared.
    """

    number: int
    mean: float
    sd: float | None
    n: int
    shared: int
    gain: float | None
    interval: tuple[float, float] | None

    @property
    def distinguishable(self) -> bool:
        """Whether the interval of its gain excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Ranking:
    """The confirmed configurations, best first; base: the number of the base, which may be missing among them.

    most: how many seeds each could have, where they raced; see search.results.race.
    """

    order: tuple[Standing, ...]
    base: int | None
    most: int | None = None

    @property
    def winner(self) -> Standing:
        """The configuration with the highest mean."""
        return self.order[0]

    @property
    def gain(self) -> float | None:
        """The winner's mean minus the base's, over the seeds both have; None where they share none."""
        return self.winner.gain

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the winner's gain."""
        return self.winner.interval

    @property
    def distinguishable(self) -> bool:
        """Whether the interval of the winner's gain excludes 0."""
        return self.winner.distinguishable

    def sentence(self) -> str:
        """What came out, in plain words."""
        if all(standing.number != self.base for standing in self.order):
            return "the base has no confirmed value, so the gain over it is not known"
        if self.winner.number == self.base:
            if len(self.order) == 1:
                return "nothing but the base has a confirmed value, so there is nothing to compare"
            return "the base itself has the highest mean; nothing found is better"
        (base,) = (standing for standing in self.order if standing.number == self.base)
        return gained(self.winner, base, self.most)


def gained(one: Standing, base: Standing, most: int | None = None, called: str = "the base") -> str:
    """What a configuration gained over the base, in words; both are of one ranking. most: as there."""
    gain = f"{one.gain:+.2f} avg.mAP over {called}"
    if one.interval is None:
        return f"{gain}; {'one seed each' if one.n == 1 else 'one seed in common'}: no spread is known"
    low, high = one.interval
    noise = "" if one.distinguishable else ", not distinguishable from noise"
    seeds = f"{base.n} seeds each" if one.n == base.n == one.shared else f"the {one.shared} seeds that both have"
    seeds += f", in a race of up to {most}" if most is not None else ""
    return f"{gain}{noise} ({CONFIDENCE * 100:g} % interval {low:+.2f} to {high:+.2f}, {seeds})"


def in_short(standing: Standing | None) -> str:
    """A gain with its interval, and whether it is noise."""
    if standing is None or standing.gain is None:
        return "–"
    if standing.interval is None:
        return f"{standing.gain:+.2f}"
    low, high = standing.interval
    return f"{standing.gain:+.2f} ({low:+.2f} to {high:+.2f})" + ("" if standing.distinguishable else " noise")


def rank(values: Values, base: int | None, miss: float = 1 - CONFIDENCE) -> Ranking:
    """Ranks configurations by their mean over seeds, compared on the seeds that they share with the base.

    values: avg.mAP in percent of [trial number][seed]; a run that failed is left out, and a trial without any value
    does not take part. base: trial number of the base. miss: how likely it may be that one of the intervals doesn't
    hold. Equal ones: the base first, then the lower number.

    Where every cell is there, the order is that of the means. Where some are missing, means are of different seeds, so
    the order is that of the gains over the base, in which the seeds cancel; without the base, it is that of the means.
    Raises ValueError where there is no value at all, or one is not finite.
    """
    numbers, table = _tabulated(values, base)
    # Without the base there is nothing to compare with: as if it shared no seed with anyone.
    differences = table - (table[0] if numbers[0] == base else np.nan)
    comparisons = int((~np.isnan(differences[1:])).any(axis=1).sum())
    tail = miss / (2 * max(comparisons, 1))
    standings = [_standing(table, differences, row, number, tail) for row, number in enumerate(numbers)]
    return Ranking(tuple(sorted(standings, key=_merit, reverse=True)), base)


def lags(values: Values, leader: int) -> dict[int, float]:
    """How likely each configuration would lie so far behind the leader if it were as good: one-sided t, paired.

    Without those that share fewer than two seeds with it.
    """
    numbers, table = _tabulated(values, leader)
    found = {}
    for row, number in enumerate(numbers[1:], start=1):
        behind = table[row] - table[0]
        behind = behind[~np.isnan(behind)]
        if len(behind) > 1:
            found[number] = _below(float(behind.mean()), *_error(table, row, len(behind)))
    return found


def _tabulated(values: Values, first: int | None) -> tuple[list[int], Float[np.ndarray, "configs seeds"]]:
    """Who has a value, `first` at the head if it has one, and all values by seed; NaN where there is none."""
    numbers = sorted((number for number, runs in values.items() if runs), key=lambda number: (number != first, number))
    if not numbers:
        raise ValueError("values must hold at least one value, got none")
    for number in numbers:
        for seed, value in values[number].items():
            if not np.isfinite(value):
                raise ValueError(f"values[{number}][{seed}] must be finite, got {value}")
    seeds = sorted({seed for number in numbers for seed in values[number]})
    table = [[values[number].get(seed, np.nan) for seed in seeds] for number in numbers]
    return numbers, np.array(table, dtype=float)


def _merit(standing: Standing) -> tuple[float, float]:
    """What to sort by: who shares no seed with the base comes last, by the mean.

    Rounded, because equal values may differ in their last digits once they are summed in another order.
    """
    gain = -np.inf if standing.gain is None else round(standing.gain, 9)
    return gain, round(standing.mean, 9) if standing.gain is None else 0.0


def _standing(
    table: Float[np.ndarray, "configs seeds"],
    differences: Float[np.ndarray, "configs seeds"],
    row: int,
    number: int,
    tail: float,
) -> Standing:
    own, gains = table[row][~np.isnan(table[row])], differences[row][~np.isnan(differences[row])]
    gain = float(gains.mean()) if len(gains) else None
    interval = None
    if gain is not None and row > 0 and len(gains) > 1:
        error, degrees = _error(table, row, len(gains))
        half = _quantile(tail, degrees) * error
        interval = (gain - half, gain + half)
    return Standing(
        number=number,
        mean=float(own.mean()),
        sd=float(own.std(ddof=1)) if len(own) > 1 else None,
        n=len(own),
        shared=len(gains),
        gain=gain,
        interval=interval,
    )


def _error(table: Float[np.ndarray, "configs seeds"], row: int, shared: int) -> tuple[float, int]:
    """Standard error of a row's mean difference from row 0 over so many seeds, and its degrees of freedom."""
    variance, degrees = residual_variance(_complete_block(table, row))
    return float(np.sqrt(2 * variance / shared)), degrees


def _complete_block(
    table: Float[np.ndarray, "configs seeds"], row: int
) -> Float[np.ndarray, "complete_configs complete_seeds"]:
    """The part without a missing cell that tells most of the noise: with row 0, with `row`, and the others that fit.

    Others join in the order of how few of the shared seeds they miss, for as long as the degrees of freedom grow. The
    block holds both compared rows, because only then is its residual variance independent of their difference.
    """
    shared = table[:, ~np.isnan(table[0] - table[row])]
    missing = np.isnan(shared)
    joining = np.argsort(missing.sum(axis=1), kind="stable")  # those that miss none come first, the two among them
    blocks = []
    for count in range(int((~missing.any(axis=1)).sum()), len(table) + 1):
        rows = joining[:count]
        blocks.append(shared[np.ix_(rows, ~missing[rows].any(axis=0))])
    return max(blocks, key=lambda block: (block.shape[0] - 1) * (block.shape[1] - 1))


def residual_variance(block: Float[np.ndarray, "configs seeds"]) -> tuple[float, int]:
    """Variance around configuration + seed, and its (configs - 1)(seeds - 1) degrees of freedom; both axes >= 2."""
    left = block - block.mean(axis=1, keepdims=True) - block.mean(axis=0) + block.mean()
    degrees = (block.shape[0] - 1) * (block.shape[1] - 1)
    return float((left**2).sum() / degrees), degrees


def half_width(values: Sequence[float]) -> float | None:
    """Of the 95 % interval of a mean (Student's t); None with fewer than two values."""
    count = len(values)
    return _quantile((1 - CONFIDENCE) / 2, count - 1) * stdev(values) / math.sqrt(count) if count > 1 else None


@dataclass(frozen=True)
class Paired:
    """Differences seed by seed, in percent: mean and half width of a 95 % interval (Student), None of one seed."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        between = "" if self.half is None else f" ({self.mean - self.half:+.2f} to {self.mean + self.half:+.2f})"
        return f"{self.mean:+.2f}{between}"


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """One less the other, both by seed, over the seeds that both have; None where they share none."""
    apart = [score - other[seed] for seed, score in one.items() if seed in other]
    return Paired(mean(apart), half_width(apart)) if apart else None


def _below(difference: float, error: float, degrees: int) -> float:
    """How likely such a difference or a smaller one is where there is none in truth."""
    from scipy.special import stdtr  # slow to import, as below

    if error == 0:
        return 0.5 if difference == 0 else float(difference > 0)
    return float(stdtr(degrees, difference / error))


@cache
def _quantile(tail: float, degrees: int) -> float:
    """Of Student's t, above which so much lies."""
    from scipy.special import stdtrit  # slow to import, for whoever lists runs without a confirmation

    return float(stdtrit(degrees, 1 - tail))
