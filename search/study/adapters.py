"""What Optuna's samplers and pruners lack for a search like ours: the space from the start, a rhythm, a resume."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner
from optuna.samplers import BaseSampler, BruteForceSampler, QMCSampler
from optuna.trial import FrozenTrial, TrialState

from search.study import internals
from search.study.record import SESSIONS

Parameters = Mapping[str, BaseDistribution]


class Quasi(QMCSampler):
    """A quasi-random sequence over a space that is known beforehand.

    Optuna's own takes the space from the trials before it, so it draws at random while the first of them still run. How
    far the sequence has come is in the study (its system attributes), so the next process goes on from there.
    """

    def __init__(self, parameters: Parameters, **arguments: Any):
        super().__init__(**arguments)
        self._whole = {key: one for key, one in sorted(parameters.items()) if not one.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, whatever has run."""
        return dict(self._whole)


class Adapter(BaseSampler):
    """Hands every question to another sampler."""

    def sampler(self, study: Study) -> BaseSampler:
        """The one that answers."""
        raise NotImplementedError

    def seen(self, study: Study) -> Study:
        """The study as that sampler sees it."""
        return study

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn together."""
        return self.sampler(study).infer_relative_search_space(self.seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values drawn together."""
        return self.sampler(study).sample_relative(self.seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value drawn on its own."""
        return self.sampler(study).sample_independent(self.seen(study), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """A trial begins."""
        self.sampler(study).before_trial(self.seen(study), trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """A trial ends."""
        self.sampler(study).after_trial(self.seen(study), trial, state, values)


class Whole(Adapter):
    """Shows another sampler trials that have every parameter: one that a trial doesn't name had the base's value.

    So a sampler that knows no other trials goes on where a resumed search varies more than it did. TPE is better
    without: of a new choice it would take 40 trials of the base's value for 40 reasons to keep to it.
    base: the value of each parameter.
    """

    def __init__(self, inner: BaseSampler, parameters: Parameters, base: Mapping[str, Any]):
        self._inner, self._parameters, self._base = inner, dict(parameters), dict(base)

    def sampler(self, study: Study) -> BaseSampler:
        """The other one."""
        return self._inner

    def seen(self, study: Study) -> Study:
        """The study with whole trials; the one that is being asked for stays as it is."""
        shown: Any = internals.Shown(study, lambda trials, _: [self._filled(trial) for trial in trials])
        return shown

    def _filled(self, trial: FrozenTrial) -> FrozenTrial:
        begun = trial.state.is_finished() or trial.params
        if not begun or trial.params.keys() >= self._base.keys():
            return trial
        whole = copy(trial)
        whole.params = self._base | trial.params
        whole.distributions = self._parameters | trial.distributions
        return whole


class KnownSpace(Adapter):
    """A model-based sampler that is told its whole space: quasi-random until its model starts, then as it is.

    start: how many trials in one of `states` the model needs. joint: which parameters the model draws together; their
    present ranges are used. Optuna would leave a parameter out of the model for good once its range was widened in a
    resumed search. None: the model chooses. apart: whether parameters that not all of these trials have are drawn
    apart from the others, from those that have them.
    """

    def __init__(
        self,
        inner: BaseSampler,
        quasi: Quasi,
        start: int,
        states: tuple[TrialState, ...],
        joint: Parameters | None = None,
        apart: bool = False,
    ):
        self.inner, self.quasi, self._start, self._states, self._joint = inner, quasi, start, states, joint
        self._apart = apart

    def sampler(self, study: Study) -> BaseSampler:
        """The quasi-random one, or the model once it has the trials that it needs."""
        # As the model itself counts; otherwise trials between the two counts would be drawn at random.
        usable = internals.trials_of(study, self._states)
        return self.quasi if len(usable) < self._start else self.inner

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters at first, then those that the model draws together."""
        space = super().infer_relative_search_space(study, trial)
        return space if self._joint is None or self.sampler(study) is self.quasi else dict(self._joint)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values drawn together, of those that the same trials have."""
        if not self._apart or self.sampler(study) is self.quasi:
            return super().sample_relative(study, trial, search_space)
        usable, groups = internals.trials_of(study, self._states), dict[tuple[int, ...], dict[str, BaseDistribution]]()
        for key, one in search_space.items():
            lacking = tuple(known.number for known in usable if key not in known.params)
            groups.setdefault(lacking, {})[key] = one
        drawn: dict[str, Any] = {}
        for group in groups.values():
            drawn |= super().sample_relative(study, trial, group)
        return drawn


class Reseeded(Adapter):
    """A sampler that doesn't begin anew when a search is resumed.

    It is made when the first question comes, its seed drawn from the search's, from how many trials the study holds by
    then, and from which driver this is: a fresh generator of the search's seed would draw the numbers of the first
    session once more, and so would one that knew only the trials, where a driver began none and ended.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int):
        self._make, self._seed = make, seed
        self._inner: BaseSampler | None = None

    def sampler(self, study: Study) -> BaseSampler:
        """The sampler, made if need be."""
        if self._inner is None:
            held, drivers = internals.num_trials(study), len(internals.attributes(study).get(SESSIONS, ()))
            entropy = (self._seed, held, drivers) if drivers > 1 else (self._seed, held)
            self._inner = self._make(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        return self._inner


class Exhaustive(BruteForceSampler):
    """Brute force for trials that are asked and told: Optuna's stops its loop at the end, and raises without one."""

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing: the number of trials is chosen beforehand."""


class Rhythm(BasePruner):
    """A pruner that is asked only in epochs that are multiples of `interval`, and from epoch `least` on."""

    def __init__(self, inner: BasePruner, interval: int = 1, least: int = 1):
        self.inner, self._interval, self._least = inner, interval, least

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial ends here."""
        return _due(trial, self._interval, self._least) and self.inner.prune(study, trial)


class RhythmicHyperband(HyperbandPruner):
    """Hyperband in the same rhythm; a subclass, because Optuna knows its brackets by the class."""

    def __init__(self, interval: int, **arguments: Any):
        super().__init__(**arguments)
        self._interval = interval

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial ends here."""
        return _due(trial, self._interval, 1) and super().prune(study, trial)


def _due(trial: FrozenTrial, interval: int, least: int) -> bool:
    epoch = trial.last_step
    return epoch is not None and epoch >= least and epoch % interval == 0
