"""What to try and what to prune: one Optuna study, and nothing of Ray.

The study is the only truth about a search. Every trial in it is COMPLETE, PRUNED or FAIL once it has ended; nothing is
told to it but what happened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: its number in the study and its parameters by dotted key."""

    number: int
    params: Mapping[str, Any]


class Study:
    """Chooses and judges trials. One value an epoch is reported for each; higher is better.

    epochs: how many a full trial has. objective: a trial's value is the best or the last of its epochs.
    """

    def __init__(self, inner: optuna.Study, parameters: Mapping[str, BaseDistribution], epochs: int, objective: str):
        self.inner, self.epochs, self._objective = inner, epochs, objective
        self._parameters = dict(parameters)
        self._running: dict[int, Trial] = {}
        self._values: dict[int, dict[int, float]] = {}

    @classmethod
    def create(
        cls,
        *,
        name: str,
        journal: Path | None,
        sampler: BaseSampler,
        pruner: BasePruner,
        parameters: Mapping[str, BaseDistribution],
        epochs: int,
        objective: str = "best",
    ) -> "Study":
        """A new study in a journal file, or in memory where `journal` is None.

        name: Hyperband chooses each trial's bracket by it, so it decides what is pruned.
        """
        storage = JournalStorage(JournalFileBackend(str(journal))) if journal else None
        inner = optuna.create_study(
            storage=storage, study_name=name, sampler=sampler, pruner=pruner, direction="maximize"
        )
        return cls(inner, parameters, epochs, objective)

    def start_with(self, params: Mapping[str, Any]) -> None:
        """Puts a parameter set in front: the next trial asked for."""
        self.inner.enqueue_trial(dict(params))

    def ask(self) -> Suggestion:
        """The next trial; it is RUNNING from here on."""
        trial = self.inner.ask(self._parameters)
        self._running[trial.number] = trial
        self._values[trial.number] = {}
        return Suggestion(trial.number, dict(trial.params))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Notes one epoch's value; whether the pruner ends the trial here. An epoch reported before is passed over."""
        if epoch in self._values[number]:
            return False
        trial = self._running[number]
        self._values[number][epoch] = value
        trial.report(value, epoch)
        return epoch < self.epochs and trial.should_prune()

    def complete(self, number: int, attributes: Mapping[str, Any]) -> None:
        """The trial ran all its epochs."""
        values = self._values[number]
        value = max(values.values()) if self._objective == "best" else values[max(values)]
        self._end(number, attributes, lambda trial: self.inner.tell(trial, value))

    def prune(self, number: int, attributes: Mapping[str, Any]) -> None:
        """The pruner ended the trial; its value is the last one reported."""
        self._end(number, attributes, lambda trial: self.inner.tell(trial, state=TrialState.PRUNED))

    def fail(self, number: int, reason: str, attributes: Mapping[str, Any]) -> None:
        """The trial broke; the study keeps the reason."""
        attributes = {**attributes, "failure": reason}
        self._end(number, attributes, lambda trial: self.inner.tell(trial, state=TrialState.FAIL))

    def _end(self, number: int, attributes: Mapping[str, Any], tell: Callable[[Trial], object]) -> None:
        trial = self._running.pop(number)
        del self._values[number]
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        tell(trial)

    def fail_running(self, reason: str) -> list[int]:
        """Ends every trial that is still RUNNING as FAIL; their numbers."""
        numbers = sorted(self._running)
        for number in numbers:
            self.fail(number, reason, {})
        return numbers

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials by number, of some states or of all."""
        return self.inner.get_trials(deepcopy=False, states=states or None)

    def best(self) -> FrozenTrial | None:
        """The COMPLETE trial of highest value, the first of equals."""
        complete = self.trials(TrialState.COMPLETE)
        return max(complete, key=lambda trial: (trial.value, -trial.number)) if complete else None
