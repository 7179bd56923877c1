"""Every name of Optuna that is private or promised to nobody. Read in Optuna 5.0.0.

Nothing else here touches one, and each function says why there is no public way. tests/search/study/test_internals.py
has a test for each, which names it when a newer Optuna breaks it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState


def trials_of(study: optuna.Study, states: tuple[TrialState, ...]) -> list[FrozenTrial]:
    """A study's trials as Optuna's own samplers see them while they draw: of all brackets, as they were at its start.

    Under Hyperband `get_trials` gives a sampler the trials of one bracket alone, and it asks the storage each time.
    """
    return study._get_trials(deepcopy=False, states=states, use_cache=True)


def num_trials(study: optuna.Study) -> int:
    """How many trials a study has now, in whatever bracket; see `trials_of`."""
    return len(study._get_trials(deepcopy=False))


def attributes(study: optuna.Study) -> Mapping[str, Any]:
    """The study's own user attributes. Hyperband shows a sampler something that has none, and only private names."""
    return study._storage.get_study_user_attrs(study._study_id)


def take_up(study: optuna.Study, known: FrozenTrial) -> Trial:
    """A trial that is RUNNING since an earlier process. `ask` itself begins a new one in any case."""
    return Trial(study, known._trial_id)


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> None:
    """Draws a parameter of a trial that lacks it, as `ask` does; `suggest_float` and its kin take no distribution."""
    trial._suggest(key, distribution)


def enqueue_more(study: optuna.Study, trial: FrozenTrial, values: Mapping[str, Any]) -> None:
    """Gives a WAITING trial other parameters than `enqueue_trial` gave it, for it can't be taken back."""
    study._storage.set_trial_system_attr(trial._trial_id, "fixed_params", dict(values))


class Shown:
    """A study whose trials a sampler is to see otherwise than they are; all else is the study's.

    Samplers ask by both of these names, and Hyperband gives them a study that is neither class nor copy of its own.
    """

    def __init__(
        self,
        study: optuna.Study,
        trials: Callable[[list[FrozenTrial], Sequence[TrialState] | None], list[FrozenTrial]],
    ):
        """trials: makes what is shown of trials that were asked for, by their states; None: of all."""
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        """Those of one bracket, under Hyperband."""
        return self._trials(self._study.get_trials(deepcopy=deepcopy, states=states), states)

    def _get_trials(
        self, deepcopy: bool = True, states: Sequence[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return self._trials(self._study._get_trials(deepcopy, states, use_cache), states)


def storage_of(study: optuna.Study) -> BaseStorage:
    """Where a study keeps what it is told; it has no public name."""
    return study._storage


def enqueued(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """The parameters that `enqueue_trial` gave a trial; None where the sampler draws all. Only Optuna reads the key."""
    return trial.system_attrs.get("fixed_params")


def contains(distribution: BaseDistribution, number: float) -> bool:
    """Whether a number lies in a range, on one of its steps. Optuna itself only warns, in the middle of a search."""
    return distribution._contains(number)


def append_lock(journal: Path) -> Path:
    """Optuna's lock of a journal file while something is appended: a link beside it, which a kill leaves there.

    A link to the journal as it was named, so that name has to be absolute: else its age is never known, and whoever
    finds it waits for ever.
    """
    return journal.with_name(journal.name + ".lock")
