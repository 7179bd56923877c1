"""When a search has enough: so many trials in a row, and no gain that would count."""

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Protocol

from optuna.trial import FrozenTrial, TrialState

from search.study.record import TrialRecord

_LEAST_TOP, _LEAST_TRIALS = 3, 10  # of the best, to know their tail by; ended, before a search has enough


class Rule(Protocol):
    """What ends a search before its trials are spent; `str` says how far it is."""

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended."""

    @property
    def is_enough(self) -> bool:
        """Whether no further trial is to begin."""
        ...

    @property
    def rule(self) -> str:
        """What it waits for, in words."""
        ...

    @property
    def when(self) -> str:
        """When it ends a search, in words."""
        ...


def by_their_ends(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Trials in the order in which they ended, as the driver that ran them saw it."""
    return sorted(trials, key=lambda one: (one.datetime_complete is None, one.datetime_complete, one.number))


class Stagnation:
    """Counts the trials that ended since the last gain, a value that lies above the gain before by more than `gain`.

    patience: how many are enough. Pruned and failed trials count, for they were tried and brought nothing; small gains
    add up until they are one together. Once it has enough, it stays so, whatever those under way then bring.
    """

    def __init__(self, patience: int, gain: float, ended: Iterable[FrozenTrial] = ()):
        """ended: trials that an earlier driver saw end, in any order."""
        self.patience, self.gain = patience, gain
        self.since = 0
        self.is_enough = False
        self._mark: float | None = None
        for trial in by_their_ends(ended):
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended."""
        value = trial.value if trial.state == TrialState.COMPLETE else None
        if value is not None and (self._mark is None or value > self._mark + self.gain):
            self._mark, self.since = value, 0
        else:
            self.since += 1
        if self.since >= self.patience:
            self.is_enough = True

    @property
    def rule(self) -> str:
        """What it waits for, in words."""
        return f"{self.patience} trials in a row without {f'{self.gain:+g} avg.mAP' if self.gain else 'a better one'}"

    @property
    def when(self) -> str:
        """When it ends a search."""
        return f"after {self.rule}"

    def __str__(self) -> str:
        return f"ends {self.when}, {self.since} so far"


class Expectation:
    """Ends a search once the trials ahead are expected to gain less than its confirmation can tell.

    ahead: how many trials are looked ahead. seeds: of the confirmation. epochs: over how many a value is the mean.

    The best of N trials is expected to gain s ln((N + ahead) / N), where values have an exponential tail; s is how far
    the best tenth lie above the next one, on average. Two means over n seeds differ by r sqrt(2 / n) without a reason,
    where r is the noise of one run's value. Of r the search knows only how values jump from epoch to epoch, which is
    less than seeds and holdouts do: so it goes on rather too long than too short. Once it has enough, it stays so.
    """

    def __init__(self, ahead: int, seeds: int, epochs: int, ended: Iterable[FrozenTrial] = ()):
        """ended: trials that an earlier driver saw end, in any order."""
        self.ahead, self._seeds, self._epochs = ahead, seeds, epochs
        self._count, self._values, self._jumps = 0, list[float](), list[float]()
        self.is_enough = False
        for trial in by_their_ends(ended):
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended."""
        self._count += 1
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            insort(self._values, trial.value)
            curve = [value for _, value in sorted(trial.intermediate_values.items())]
            late = [b - a for a, b in pairwise(curve[len(curve) // 2 :])]
            if len(late) > 1:
                self._jumps.append(stdev(late))
        gain, noise = self.gain, self.noise
        if self._count >= _LEAST_TRIALS and gain is not None and noise is not None and gain < noise:
            self.is_enough = True

    @property
    def gain(self) -> float | None:
        """What the trials ahead are expected to gain; None before enough are COMPLETE to say."""
        top = max(_LEAST_TOP, -(-self._count // 10))
        if len(self._values) <= top:
            return None
        next_one, *best = self._values[-top - 1 :]
        return (fmean(best) - next_one) * math.log1p(self.ahead / self._count)

    @property
    def noise(self) -> float | None:
        """Of a difference between two confirmed means, at least; None before a curve shows any.

        With noise e of an epoch, means over k epochs jump by e sqrt(2) / k, and vary by e / sqrt(k).
        """
        return median(self._jumps) * math.sqrt(self._epochs / self._seeds) if self._jumps else None

    @property
    def rule(self) -> str:
        """What it waits for, in words."""
        return f"{self.ahead} more trials are expected to gain less than the confirmation's noise"

    @property
    def when(self) -> str:
        """When it ends a search."""
        return f"once {self.rule}"

    def __str__(self) -> str:
        gain, noise = self.gain, self.noise
        if gain is None or noise is None:
            return f"ends {self.when}; too few are complete to say"
        return f"ends {self.when}, {gain:+.2f} against {noise:.2f} avg.mAP so far"


class Spent:
    """Ends a search once its trials have trained so many epochs in all; those under way go on, and so go beyond."""

    def __init__(self, epochs: int, ended: Iterable[FrozenTrial] = ()):
        """ended: trials that an earlier driver saw end, in any order."""
        self.epochs, self.spent = epochs, 0
        for trial in ended:
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended."""
        self.spent += TrialRecord.of(trial).epochs or 0

    @property
    def is_enough(self) -> bool:
        """Whether no further trial is to begin."""
        return self.spent >= self.epochs

    @property
    def rule(self) -> str:
        """What it waits for, in words."""
        return f"{self.epochs} epochs in trials that ended"

    @property
    def when(self) -> str:
        """When it ends a search."""
        return f"after {self.rule}"

    def __str__(self) -> str:
        return f"ends {self.when}, {self.spent} so far"


class FirstOf:
    """Ends a search once one of several rules does."""

    def __init__(self, rules: Sequence[Rule]):
        self._rules = rules

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended."""
        for one in self._rules:
            one.add(trial)

    @property
    def is_enough(self) -> bool:
        """Whether no further trial is to begin."""
        return any(one.is_enough for one in self._rules)

    @property
    def rule(self) -> str:
        """What it waits for, in words; once it has enough, what has come."""
        return " or ".join(one.rule for one in [one for one in self._rules if one.is_enough] or self._rules)

    @property
    def when(self) -> str:
        """When it ends a search."""
        return " or ".join(one.when for one in self._rules)

    def __str__(self) -> str:
        return "; ".join(str(one) for one in self._rules)
