"""The model of Ray Tune's OptunaSearch under ASHA does what they do in a real Ray."""

import gc
import warnings
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from search.study.algorithms import silent
from tests.benchmarks import own_ray, pools, turnover
from tests.benchmarks.pools import REDRAWN, Recorded, nearest_of
from tests.benchmarks.rivals import Pick, Rays, search

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SEED, TRIALS = 3, 30
Told = tuple[Any, ...]  # ("asked", parameters), ("goes on" or "ends", trial, epoch, value)


class Curve(tune.Trainable):
    """Reports what its configuration scored."""

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing to open."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial."""
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        return {"avg_map": self.config["curve"][self.iteration]}


class Noted(Rays):
    """The model, which keeps what it is told."""

    def __init__(self, pool: Recorded) -> None:
        super().__init__(pool.space, SEED)
        self.told: list[Told] = []

    def ask(self) -> Mapping[str, Any]:
        params = super().ask()
        self.told.append(("asked", params))
        return params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        stops = super().report(trial, epoch, value)
        if not stops and epoch < self._whole:
            self.told.append(("goes on", trial, epoch, value))
        return stops

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        super().end(trial, epoch, value, stopped)
        self.told.append(("ends", trial, epoch, value))


@pytest.fixture(scope="module")
def pool() -> Recorded:
    return pools.read("planted-hard")


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    with own_ray.started(), turnover.quiet(__name__):  # a worker need not import what this module does
        yield
    with warnings.catch_warnings():  # Ray Tune leaves the logs of trials that it stopped open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def curves_of(pool: Recorded) -> np.ndarray:
    return pool.scores[REDRAWN][:, 0].max(axis=2)


def real(pool: Recorded, workers: int, folder: Path) -> tuple[list[Told], Pick]:
    """What Ray Tune tells its searcher, in its order, and what it calls best at the end."""
    told, numbers = list[Told](), dict[str, int]()
    nearest, curves = nearest_of(pool), curves_of(pool)

    class Searcher(OptunaSearch):
        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            params = super().suggest(trial_id)
            assert params is not None
            numbers[trial_id] = len(numbers)
            told.append(("asked", params))
            return params | {"curve": curves[nearest(params)].tolist()}  # so a worker needs no pool

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            super().on_trial_result(trial_id, result)
            told.append(("goes on", numbers[trial_id], result["training_iteration"], result["avg_map"]))

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            super().on_trial_complete(trial_id, result, error)
            assert result is not None and not error
            told.append(("ends", numbers[trial_id], result["training_iteration"], result["avg_map"]))

    tuner = tune.Tuner(
        tune.with_resources(Curve, {"cpu": 2 / workers}),
        tune_config=tune.TuneConfig(
            search_alg=Searcher(dict(pool.space.parameters), metric="avg_map", mode="max", seed=SEED),
            scheduler=AsyncHyperBandScheduler(
                time_attr="training_iteration", metric="avg_map", mode="max", max_t=pool.space.base.optim.epochs
            ),
            num_samples=TRIALS,
            max_concurrent_trials=workers,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="rays",
            storage_path=str(folder),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    with silent():
        best = tuner.fit().get_best_result(metric="avg_map", mode="max").metrics
    assert best is not None
    return told, Pick(numbers[best["trial_id"]], best["training_iteration"])


def test_one_worker_gets_the_models_configurations_stops_its_trials_and_picks_its_best(
    pool: Recorded, tmp_path: Path
) -> None:
    told, best = real(pool, 1, tmp_path)
    epochs = [row[2] for row in told if row[0] == "ends"]
    assert len(epochs) == TRIALS and {1, pool.space.base.optim.epochs} <= set(epochs), "some stop, some don't"
    model = Noted(pool)
    with silent():
        for _ in search(model, nearest_of(pool), curves_of(pool), 1, sum(epochs)):
            pass
    assert model.told == told
    assert model.pick() == best


def test_in_the_order_of_four_workers_the_model_says_what_they_are_told(pool: Recorded, tmp_path: Path) -> None:
    told, best = real(pool, 4, tmp_path)
    assert max(accumulate({"asked": 1, "ends": -1}.get(row[0], 0) for row in told)) == 4
    model = Noted(pool)
    with silent():
        for what, *rest in told:
            if what == "asked":
                model.ask()
                continue
            stopped = model.report(*rest)
            if what == "ends":
                model.end(*rest, stopped=stopped)
    assert model.told == told
    assert model.pick() == best
