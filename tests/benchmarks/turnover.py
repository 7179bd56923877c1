"""What a trial costs beside its training.

Empty trials of one epoch, two at once, through our study, bridge, journal and table, against Ray Tune's own loop with
`reuse_actors` and nothing of ours, in one Ray.
"""

import logging
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from ray import cloudpickle, tune
from ray.tune.result import SHOULD_CHECKPOINT

from search.study.algorithms import PRUNERS, SAMPLERS, component, make_pruner, make_sampler
from search.study.record import Summary
from search.study.study import Study, Suggestion
from search.trials.bridge import Bridge, Events, Running
from search.trials.tuning import Stage, run_stage
from tests.benchmarks import own_ray
from tests.benchmarks.measure import Problem, Rival, Row, compare

TRIALS, MOST_ROUNDS = 60, 3
PARAMETERS = {f"loss.{name}": FloatDistribution(1e-4, 1.0, log=True) for name in ("pseudo", "concept", "coarse")}


class Empty(tune.Trainable):
    """One epoch of nothing, and a checkpoint of nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing to open."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial."""
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        result = {
            "epoch": 1, "avg_map": 1.0, "avg_map_by_detect": [1.0], "map_by_tiou": [1.0], "losses": {"total": 0.0},
            "seconds": {"train": 0.0}, "collapsed": False, "empty_clusters": 0, "detections": 0, "device": "cpu",
        }  # fmt: skip
        summary = Summary()
        summary.add(result)
        epochs = [result | {"summary": summary}]
        return {"epochs": epochs, SHOULD_CHECKPOINT: True, "done": "number" not in self.config}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """A file."""
        Path(checkpoint_dir, "weights").write_bytes(b"")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to go on from."""


class Noted(Events):
    """Keeps how trials ended."""

    def __init__(self) -> None:
        self.ended_as: list[str] = []

    def ended(self, trial: Running, state: str, under_way: Collection[Running]) -> None:
        """One of them."""
        self.ended_as.append(state)


def rays(trials: int) -> None:
    """Ray Tune's own loop."""
    with tempfile.TemporaryDirectory(prefix="haan-benchmarks-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(Empty, {"cpu": 1}),
            param_space={key: tune.loguniform(1e-4, 1.0) for key in PARAMETERS},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, reuse_actors=True),
            run_config=tune.RunConfig(
                name="rays",
                storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                verbose=0,
            ),
        )
        with Path(folder, "log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
            results = tuner.fit()
    assert len(results) == trials and not results.errors


def ours(trials: int) -> None:
    """TPE, Hyperband, the journal on disk."""
    noted = Noted()

    def config(suggestion: Suggestion) -> dict[str, Any]:
        return {"number": suggestion.number, "params": dict(suggestion.params), "epochs": 1}

    with tempfile.TemporaryDirectory(prefix="haan-benchmarks-") as folder:
        study = Study.create(
            name="turnover",
            journal=Path(folder, "study.journal"),
            sampler=make_sampler(component({"name": "tpe"}, SAMPLERS), 0, PARAMETERS),
            pruner=make_pruner(component({"name": "hyperband"}, PRUNERS), 1),
            parameters=PARAMETERS,
            epochs=1,
        )
        trainable = tune.with_resources(Empty, {"cpu": 1})
        stage = Stage(folder, 1, trainable, concurrent=2, max_failures=0, log=Path(folder, "log"))
        run_stage(stage, Bridge(study, trials, config, noted, stage.checkpoints()))
    assert noted.ended_as == ["COMPLETE"] * trials


@contextmanager
def quiet(*modules: str) -> Iterator[None]:
    """Workers can't import the tests, so this module and those named travel whole; the table alone is printed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    travelling = [sys.modules[name] for name in (__name__, *modules)]
    for module in travelling:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in travelling:
            cloudpickle.unregister_pickle_by_value(module)


def rows(repeats: int, trials: int = TRIALS) -> Iterator[Row]:
    """A round is so many trials."""
    with own_ray.started(), quiet():
        rays(4)  # the first use of Ray Tune in a process loads what both need
        rival = Rival("Ray Tune's own loop", lambda i: rays(trials))
        problem = Problem(f"{trials} trials", "empty, of one epoch, two at once; ours: TPE, Hyperband, journal on disk")
        yield from compare("turnover", problem, lambda i: ours(trials), [rival], min(repeats, MOST_ROUNDS), "wall")
