"""Ways to search a recorded pool, each through its own code: ours, Ray Tune's, Syne Tune's, and two simple ones.

Workers train an epoch each at a time, in virtual time. Whatever is reported, stopped and learned is the rival's own:
our `Study`, Ray Tune's OptunaSearch and AsyncHyperBandScheduler, as they behave together (test_rivals.py has them in a
real Ray), or Syne Tune's ASHACQR, where that is installed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from statistics import fmean
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from search.space.model import Space
from search.space.studies import begin, study_of
from search.study.algorithms import Component
from search.study.earlier import Source
from search.study.record import RECENT, Objective
from search.study.study import ranked
from tests.benchmarks.pools import Recorded

_ENDLESS = 10**6  # trials; what is spent ends a search


@dataclass(frozen=True)
class Pick:
    """What a search would export.

    epoch: with which it leaves; None: its best. over: its setting is that of the mean over so many up to there. lacks:
    epochs to its trial's end.
    """

    trial: int
    epoch: int | None = None
    lacks: int = 0
    over: int = 1


class Rival(Protocol):
    """A search under way. Trials are numbered from 0, epochs from 1; values are avg.mAP."""

    def ask(self) -> Mapping[str, Any]:
        """The next trial's parameters."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """An epoch has ended; whether the trial ends with it."""
        ...

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        """A trial has ended."""
        ...

    def pick(self) -> Pick | None:
        """What would be exported now."""
        ...


class Ours:
    """A sampler and a pruner in the study of the real search. objective: as a space has it.

    The mean of `recent` is of epochs at the best setting of each; a search takes it at one setting for all of them.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        sampler: Component,
        pruner: Component,
        objective: Objective = "best",
        sources: Sequence[Source] = (),
    ):
        plan = replace(space.plan, trials=_ENDLESS, objective=objective)
        space = replace(space, sampler=sampler, pruner=pruner, plan=plan)
        self._last, self._over = space.base.optim.epochs, {"best": 0, "last": 1, "recent": RECENT}[objective]
        self._recent: dict[int, list[float]] = {}
        self._study = study_of(space, name=space.name, journal=None, seed=seed)
        begin(self._study, space, sources)

    def ask(self) -> Mapping[str, Any]:
        return self._study.ask().params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        if self._over > 1:
            self._recent[trial] = [*self._recent.get(trial, []), value][-self._over :]
            value = fmean(self._recent[trial])
        return self._study.report(trial, epoch, value)

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        (self._study.prune if stopped else self._study.complete)(trial, {})

    def trial(self, number: int) -> FrozenTrial:
        """As its study has it."""
        return self._study.trials()[number]

    def pick(self) -> Pick | None:
        best = next(iter(ranked(self._study.trials(TrialState.COMPLETE))), None)
        if best is None:
            return None
        return Pick(best.number, self._last, over=self._over) if self._over else Pick(best.number)


class Epochs:
    """All trials are random and end after so many epochs; the best goes on to its end (arXiv 2404.04111)."""

    def __init__(self, space: Space, seed: int, epochs: int):
        self._last, self._whole, self._space = epochs, space.base.optim.epochs, space
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), direction="maximize")
        self._values: dict[int, float] = {}

    def ask(self) -> Mapping[str, Any]:
        return self._study.ask(dict(self._space.parameters)).params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        return epoch == self._last

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        self._values[trial] = value

    def pick(self) -> Pick | None:
        best = max(self._values, key=self._values.__getitem__, default=None)
        return None if best is None else Pick(best, lacks=self._whole - self._last)


class Rays:
    """Ray Tune's OptunaSearch under its ASHA, by their defaults: stopped trials are told as complete.

    Exported is the trial whose last value is highest (`get_best_result`), stopped or not, at its last epoch.
    """

    def __init__(self, space: Space, seed: int):
        self._search = OptunaSearch(dict(space.parameters), metric="avg_map", mode="max", seed=seed)
        self._asha = AsyncHyperBandScheduler(
            time_attr="training_iteration", metric="avg_map", mode="max", max_t=space.base.optim.epochs
        )
        self._asked, self._whole = 0, space.base.optim.epochs
        self._last: dict[int, tuple[float, int]] = {}

    def ask(self) -> Mapping[str, Any]:
        number, self._asked = self._asked, self._asked + 1
        self._asha.on_trial_add(None, _trial(number))  # type: ignore[arg-type]  # it reads nothing but the id
        found = self._search.suggest(str(number))
        assert found is not None
        return found

    def report(self, trial: int, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "avg_map": value}
        stops = self._asha.on_trial_result(None, _trial(trial), result) == TrialScheduler.STOP  # type: ignore[arg-type]
        if not stops:  # Ray Tune asks the scheduler first, and passes over the searcher where it stops
            self._search.on_trial_result(str(trial), result)
        return stops and epoch < self._whole

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        result = {"training_iteration": epoch, "avg_map": value}
        self._asha.on_trial_complete(None, _trial(trial), result)  # type: ignore[arg-type]
        self._search.on_trial_complete(str(trial), result)
        self._last[trial] = (value, epoch)

    def pick(self) -> Pick | None:
        best = max(sorted(self._last), key=lambda trial: self._last[trial][0], default=None)  # of equals the first
        return None if best is None else Pick(best, self._last[best][1])


def _trial(number: int) -> SimpleNamespace:
    return SimpleNamespace(trial_id=str(number))


class SyneTunes:
    """Syne Tune's ASHA with a conformal quantile regression that proposes, by their defaults, as its Tuner calls them.

    Exported is what `best_config` names, the configuration of the highest report of all, at that report's epoch.
    """

    def __init__(self, space: Space, seed: int):
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.baselines import ASHACQR

        logging.getLogger("syne_tune").setLevel(logging.ERROR)  # it warns of what ASHACQR itself passes on
        np.random.seed(seed)  # the regression draws from this as well
        self._scheduler = ASHACQR(
            {name: _domain(one) for name, one in space.parameters.items()},
            metric="avg_map",
            time_attr="epoch",
            max_t=space.base.optim.epochs,
            do_minimize=False,
            random_seed=seed,
        )
        self._trials, self._new, self._whole = list[Any](), Trial, space.base.optim.epochs
        self._best: tuple[float, Pick] | None = None

    def ask(self) -> Mapping[str, Any]:
        suggestion = self._scheduler.suggest()
        trial = self._new(len(self._trials), suggestion.config, datetime.now())
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return trial.config

    def report(self, trial: int, epoch: int, value: float) -> bool:
        if self._best is None or value > self._best[0]:
            self._best = (value, Pick(trial, epoch))
        decision = self._scheduler.on_trial_result(self._trials[trial], {"epoch": epoch, "avg_map": value})
        return decision == "STOP" and epoch < self._whole

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        self._scheduler.on_trial_remove(self._trials[trial])  # at the last epoch it says STOP, too

    def pick(self) -> Pick | None:
        return None if self._best is None else self._best[1]


def _domain(one: BaseDistribution) -> Any:
    """A parameter as Syne Tune has it."""
    from syne_tune import config_space

    if isinstance(one, CategoricalDistribution):
        return config_space.choice(list(one.choices))
    assert isinstance(one, IntDistribution | FloatDistribution) and one.step in (None, 1)
    if isinstance(one, IntDistribution):
        return (config_space.lograndint if one.log else config_space.randint)(one.low, one.high)
    return (config_space.loguniform if one.log else config_space.uniform)(one.low, one.high)


OUTSIDE: Mapping[str, tuple[tuple[str, ...], Callable[[Space, int], Rival]]] = {  # with modules that we don't need
    "Syne Tune: ASHA + CQR": (("syne_tune", "huggingface_hub"), SyneTunes),  # pip install 'syne-tune[extra]'
}
LEFT_OUT = {
    name: missing
    for name, (modules, _) in OUTSIDE.items()
    if (missing := [module for module in modules if find_spec(module) is None])
}

RIVALS: Mapping[str, Callable[[Space, int], Rival]] = {
    "random": lambda space, seed: Ours(space, seed, Component("random", {}), Component("none", {})),
    "random, a fifth of the epochs": lambda space, seed: Epochs(space, seed, max(1, space.base.optim.epochs // 5)),
    "random + patience": lambda space, seed: Ours(
        space, seed, Component("random", {}), Component("patient", {"wrapped_pruner": None, "patience": 3})
    ),
    "TPE": lambda space, seed: Ours(space, seed, Component("tpe", {"n_startup_trials": 8}), Component("none", {})),
    "TPE + median": lambda space, seed: Ours(
        space, seed, Component("tpe", {"n_startup_trials": 8}), Component("median", {"n_warmup_steps": 3})
    ),
    "TPE + Hyperband": lambda space, seed: Ours(
        space, seed, Component("tpe", {"n_startup_trials": 8}), Component("hyperband", {"min_resource": 3})
    ),
    "TPE, recent": lambda space, seed: Ours(
        space, seed, Component("tpe", {"n_startup_trials": 8}), Component("none", {}), "recent"
    ),
    "TPE + Hyperband, last": lambda space, seed: Ours(
        space, seed, Component("tpe", {"n_startup_trials": 8}), Component("hyperband", {"min_resource": 3}), "last"
    ),
    "TPE + Hyperband, recent": lambda space, seed: Ours(
        space, seed, Component("tpe", {"n_startup_trials": 8}), Component("hyperband", {"min_resource": 3}), "recent"
    ),
    "as its space says": lambda space, seed: Ours(space, seed, space.sampler, space.pruner, space.plan.objective),
    "Ray Tune: OptunaSearch + ASHA": Rays,
    **{name: rival for name, (_, rival) in OUTSIDE.items() if name not in LEFT_OUT},
}


@dataclass(frozen=True)
class Moment:
    """How a search stands. spent: trial-epochs so far, with what the pick lacks. config: the pick's, in the pool.

    epoch, over: as a Pick has them.
    """

    spent: int
    config: int
    epoch: int | None
    over: int = 1


def search(
    rival: Rival, nearest: Callable[[Mapping[str, Any]], int], curves: np.ndarray, workers: int, budget: int
) -> Iterator[Moment]:
    """A search's picks, whenever a trial has ended, until so many trial-epochs are spent.

    nearest: which configuration of the pool stands for parameters. curves: [configs, epochs] of avg.mAP.
    """
    configs: list[int] = []
    epochs: dict[int, int] = {}  # of those under way
    spent, whole = 0, curves.shape[1]
    while spent < budget:
        while len(epochs) < workers:
            epochs[len(configs)] = 0
            configs.append(nearest(rival.ask()))
        for trial in list(epochs):
            epochs[trial] += 1
            spent += 1
            epoch, value = epochs[trial], float(curves[configs[trial], epochs[trial] - 1])
            stopped = rival.report(trial, epoch, value)
            if not stopped and epoch < whole:
                continue
            del epochs[trial]
            rival.end(trial, epoch, value, stopped)
            pick = rival.pick()
            if pick is not None:
                yield Moment(spent + pick.lacks, configs[pick.trial], pick.epoch, pick.over)


def exported(pool: Recorded, draw: int, moment: Moment) -> float:
    """The true worth of a pick. draw: on which the search looked; there, its best epoch, and best setting then."""
    seen = pool.scores["redrawn"][moment.config, draw]
    epoch = int(seen.max(axis=1).argmax()) if moment.epoch is None else moment.epoch - 1
    return pool.worth(moment.config, epoch, int(seen[epoch + 1 - moment.over : epoch + 1].mean(axis=0).argmax()))
