"""What a trial costs beside its training: `python -m tests.benchmarks.turnover [trials]`.

Empty trials of one epoch, two at once, through our study, bridge, journal and table, against Ray Tune's own loop with
`reuse_actors` and nothing of ours, in one run.
"""

import logging
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"

import optuna
import ray
from optuna.distributions import FloatDistribution
from ray import cloudpickle, tune
from ray.tune.result import SHOULD_CHECKPOINT

from search.bridge import Bridge, Running
from search.components import PRUNERS, SAMPLERS, component, make_pruner, make_sampler
from search.stage import Stage, run_stage
from search.study import Study, Suggestion
from search.summary import Summary

TRIALS = 200
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
            "seconds": {"train": 0.0}, "collapsed": False, "device": "cpu",
        }  # fmt: skip
        summary = Summary()
        summary.add(result)
        return result | {"summary": summary, SHOULD_CHECKPOINT: True, "done": "number" not in self.config}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """A file."""
        Path(checkpoint_dir, "weights").write_bytes(b"")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to go on from."""


@dataclass(frozen=True)
class Turnover:
    """Seconds a trial."""

    ours: float
    rays: float

    @property
    def beyond(self) -> float:
        """What ours adds."""
        return self.ours - self.rays


def rays(trials: int, folder: Path) -> float:
    """Seconds a trial of Ray Tune's own loop."""
    tuner = tune.Tuner(
        tune.with_resources(Empty, {"cpu": 1}),
        param_space={key: tune.loguniform(1e-4, 1.0) for key in PARAMETERS},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, reuse_actors=True),
        run_config=tune.RunConfig(
            name="rays",
            storage_path=str(folder),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=0,
        ),
    )
    began = time.perf_counter()
    with (folder / "log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        results = tuner.fit()
    assert len(results) == trials and not results.errors
    return (time.perf_counter() - began) / trials


def ours(trials: int, folder: Path) -> float:
    """Seconds a trial of ours: TPE, Hyperband, the journal on disk."""
    study = Study.create(
        name="turnover",
        journal=folder / "study.journal",
        sampler=make_sampler(component({"name": "tpe"}, SAMPLERS), 0, PARAMETERS),
        pruner=make_pruner(component({"name": "hyperband"}, PRUNERS), 1),
        parameters=PARAMETERS,
        epochs=1,
    )
    ended = []

    def config(suggestion: Suggestion) -> dict[str, Any]:
        return {"number": suggestion.number, "params": dict(suggestion.params), "epochs": 1}

    def on_end(running: Running, state: str) -> None:
        ended.append(state)

    trainable = tune.with_resources(Empty, {"cpu": 1})
    stage = Stage("ours", str(folder), 1, trainable, concurrent=2, max_failures=0, log=folder / "log")
    bridge = Bridge(study, trials, config, on_end, stage.checkpoints)
    began = time.perf_counter()
    run_stage(stage, bridge)
    seconds = (time.perf_counter() - began) / trials
    assert ended == ["COMPLETE"] * trials
    return seconds


def measure(trials: int = TRIALS) -> Turnover:
    """Both, one after the other, in this process and the Ray that runs in it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        rays(4, Path(folder))  # the first use of Ray Tune in a process loads what both need
        return Turnover(rays=rays(trials, Path(folder)), ours=ours(trials, Path(folder)))


def run(trials: int = TRIALS) -> Turnover:
    """Both, in a Ray of their own."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import the tests
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return measure(trials)
    finally:
        ray.shutdown()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def main() -> None:
    """Prints both and the difference."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    found = run(trials)
    print(f"{trials} empty trials, two at once: Ray's own {found.rays:.3f} s a trial, ours {found.ours:.3f} s")
    print(f"beyond Ray's own: {found.beyond:+.3f} s a trial, ratio {found.ours / found.rays:.2f}")


if __name__ == "__main__":
    main()
