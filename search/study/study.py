"""What to try and what to prune: one Optuna study, and nothing of Ray.

The study is the only truth about a search. Every trial in it is COMPLETE, PRUNED or FAIL once it has ended; nothing is
told to it but what happened. A trial that is RUNNING with no driver was interrupted: whoever opens the study next takes
it up again, under its own number.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from search.study import internals
from search.study.conditions import Conditions, is_drawn
from search.study.journal import Journal
from search.study.record import FAILURE, RUNS, WINNER_OF

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: its number in the study and its parameters by dotted key.

    interrupted: it ran before, under a driver that is gone. attributes: what that driver noted of it.
    """

    number: int
    params: Mapping[str, Any]
    interrupted: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Study:
    """Chooses and judges trials. One value an epoch is reported for each; higher is better.

    epochs: how many a full trial has. objective: a trial's value is the best or the last of its epochs' values; with
    `recent` the last, too, for each is a mean over the last few scored epochs. base: the value that a trial has of a
    parameter that it doesn't name, for it was not searched yet, or is not drawn by `conditions`; none where all are
    named.
    """

    def __init__(
        self,
        inner: optuna.Study,
        parameters: Mapping[str, BaseDistribution],
        epochs: int,
        objective: str,
        base: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
    ):
        self.inner, self.epochs, self._objective = inner, epochs, objective
        self._base, self._conditions = dict(base or {}), conditions or {}
        self._parameters = dict(parameters)
        self._running: dict[int, Trial] = {}
        self._values: dict[int, dict[int, float]] = {}
        self._interrupted = list(self.trials(TrialState.RUNNING))

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
        base: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
    ) -> "Study":
        """The study in a journal file, new or as its last driver left it; in memory where `journal` is None.

        name: Hyperband chooses each trial's bracket by it, so it decides what is pruned; a study keeps its first one.
        """
        store = Journal(journal) if journal else None
        known = optuna.get_all_study_names(store) if store else []
        inner = optuna.create_study(
            storage=store,
            study_name=known[0] if known else name,
            sampler=sampler,
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )
        return cls(inner, parameters, epochs, objective, base, conditions)

    def start_with(
        self, front: Sequence[Mapping[str, Any]], winners: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Puts parameter sets in front of what the sampler suggests; those put there before are passed over.

        winners: by earlier searches, those among them that won these; their trials keep it.
        """
        known = []
        for trial in self.trials():
            given = internals.enqueued(trial)
            if given is not None:
                known.append(whole := {**self._base, **given})
                if trial.state == TrialState.WAITING and whole != given:
                    internals.enqueue_more(self.inner, trial, whole)
        for params in front:
            whole = {**self._base, **params}
            if whole not in known:
                won = [name for name, point in (winners or {}).items() if {**self._base, **point} == whole]
                self.inner.enqueue_trial(dict(params), user_attrs={WINNER_OF: won} if won else None)

    def num_left(self, budget: int) -> int:
        """How many trials are to be run, or taken up again, until so many have ended."""
        return max(budget - len(self.trials(*FINISHED)), self.num_interrupted)

    @property
    def num_interrupted(self) -> int:
        """How many trials of a driver that is gone are still to be taken up."""
        return len(self._interrupted)

    def ask(self) -> Suggestion:
        """The next trial, an interrupted one first; it is RUNNING from here on.

        One that has trained keeps the parameters it has; what a kill in mid-`ask` left out of another one is drawn.
        """
        known = self._interrupted.pop(0) if self._interrupted else None
        trial = self.inner.ask() if known is None else internals.take_up(self.inner, known)
        if known is None or RUNS not in known.user_attrs:
            for key, distribution in self._parameters.items():
                if is_drawn(self._conditions, key, {**self._base, **trial.params}):
                    internals.suggest(trial, key, distribution)
        self._running[trial.number] = trial
        self._values[trial.number] = dict(known.intermediate_values) if known else {}
        attributes = known.user_attrs if known else {}
        return Suggestion(trial.number, dict(trial.params), known is not None, attributes)

    def note(self, number: int, key: str, value: Any) -> None:
        """Keeps something about a trial under way."""
        self._running[number].set_user_attr(key, value)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Notes one epoch's value; whether the pruner ends the trial here, which it may but for a winner of before.

        An epoch that is known keeps its value; the last of them is judged again, for its verdict may have been lost.
        """
        values, trial = self._values[number], self._running[number]
        if epoch < max(values, default=0):
            return False
        if epoch not in values:
            values[epoch] = value
            trial.report(value, epoch)
        pruned = epoch < self.epochs and bool(trial.should_prune())  # some pruners give NumPy's
        return pruned and WINNER_OF not in trial.user_attrs

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
        attributes = {**attributes, FAILURE: reason}
        self._end(number, attributes, lambda trial: self.inner.tell(trial, state=TrialState.FAIL))

    def _end(self, number: int, attributes: Mapping[str, Any], tell: Callable[[Trial], object]) -> None:
        trial = self._running.pop(number)
        del self._values[number]
        with self._together():
            for key, value in attributes.items():
                trial.set_user_attr(key, value)
        tell(trial)

    def _together(self) -> AbstractContextManager[None]:
        store = internals.storage_of(self.inner)
        return store.together() if isinstance(store, Journal) else nullcontext()

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials by number, of some states or of all."""
        return self.inner.get_trials(deepcopy=False, states=states or None)

    def best(self) -> FrozenTrial | None:
        """The COMPLETE trial of highest value, the first of equals."""
        return next(iter(ranked(self.trials())), None)


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The COMPLETE trials, the highest value first, the first of equals before the others."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
