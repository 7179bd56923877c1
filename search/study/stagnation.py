"""When a search has enough: so many trials in a row, and no gain that would count."""

from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState


class Stagnation:
    """Counts the trials that ended since the last gain, a value that lies above the gain before by more than `gain`.

    patience: how many are enough. Pruned and failed trials count, for they were tried and brought nothing; small gains
    add up until they are one together.
    """

    def __init__(self, patience: int, gain: float, ended: Iterable[FrozenTrial] = ()):
        """ended: trials that an earlier driver saw end, in any order."""
        self.patience, self.gain = patience, gain
        self.since = 0
        self._mark: float | None = None
        for trial in sorted(ended, key=lambda one: (one.datetime_complete is None, one.datetime_complete, one.number)):
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended."""
        value = trial.value if trial.state == TrialState.COMPLETE else None
        if value is not None and (self._mark is None or value > self._mark + self.gain):
            self._mark, self.since = value, 0
        else:
            self.since += 1

    @property
    def is_enough(self) -> bool:
        """Whether no further trial is to begin."""
        return self.since >= self.patience

    @property
    def rule(self) -> str:
        """What it waits for, in words."""
        return f"{self.patience} trials in a row without {f'{self.gain:+g} avg.mAP' if self.gain else 'a better one'}"

    def __str__(self) -> str:
        return f"ends after {self.rule}, {self.since} so far"
