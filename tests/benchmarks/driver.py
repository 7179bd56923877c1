"""What Ray Tune's loop takes of the driver: `python -m tests.benchmarks.driver [--live 2,8,24]`.

Empty trials run through our stage, bridge and journal in a local Ray, with one epoch and with many; the difference is
what one more epoch costs, told alone or with the others, the rest what a trial costs to begin and end. Counted is the
CPU time of the driver process (all threads; it holds on a busy machine) less that of our study, which
`tests.benchmarks.scale` measures itself. live: trials at once, for each of which Ray Tune keeps a process.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from search.study.algorithms import PRUNERS, SAMPLERS, component, make_pruner, make_sampler
from search.study.study import Study, Suggestion
from search.trials.bridge import Bridge
from search.trials.tuning import Stage, run_stage
from tests.benchmarks import own_ray, turnover

MORE_EPOCHS = 20


class Epochs(turnover.Empty):
    """So many epochs of nothing; a checkpoint of nothing after the last."""

    def setup(self, config: dict[str, Any]) -> None:
        """The first trial."""
        self._epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial."""
        self._epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """So many epochs as are told together."""
        epochs = []
        for _ in range(self.config["together"]):
            told = super().step()
            self._epoch += 1
            epochs.append(told["epochs"][0] | {"epoch": self._epoch})
        return {"epochs": epochs, SHOULD_CHECKPOINT: self._epoch == self.config["epochs"]}


class Clocked(Study):
    """Counts its own CPU time."""

    cpu_s = 0.0

    def ask(self) -> Suggestion:
        """Counted."""
        with self._clocked():
            return super().ask()

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Counted."""
        with self._clocked():
            return super().report(number, epoch, value)

    def complete(self, number: int, attributes: Any) -> None:
        """Counted."""
        with self._clocked():
            super().complete(number, attributes)

    @contextmanager
    def _clocked(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.cpu_s += time.process_time() - began


@dataclass(frozen=True)
class Spent:
    """CPU seconds of the driver, the study's apart, and wall seconds."""

    ray_s: float
    study_s: float
    wall_s: float


def run(trials: int, epochs: int, live: int, together: int = 1) -> Spent:
    """Empty trials, so many at once, whose epochs are told one by one or so many together."""
    with tempfile.TemporaryDirectory(prefix="haan-benchmarks-") as folder:
        study = Clocked.create(
            name="driver",
            journal=Path(folder, "study.journal"),
            sampler=make_sampler(component({"name": "random"}, SAMPLERS), 0, turnover.PARAMETERS),
            pruner=make_pruner(component({"name": "none"}, PRUNERS), epochs),
            parameters=turnover.PARAMETERS,
            epochs=epochs,
        )
        assert isinstance(study, Clocked)
        trainable = tune.with_resources(Epochs, {"cpu": 2 / live})
        stage = Stage(folder, 1, trainable, concurrent=live, max_failures=0, log=Path(folder, "log"))

        def config(suggestion: Suggestion) -> dict[str, Any]:
            return {
                "number": suggestion.number,
                "params": dict(suggestion.params),
                "epochs": epochs,
                "together": together,
            }

        noted = turnover.Noted()
        bridge = Bridge(study, trials, config, noted, stage.checkpoints())
        began_s, began = time.process_time(), time.monotonic()
        run_stage(stage, bridge)
        spent_s = time.process_time() - began_s - study.cpu_s
        assert noted.ended_as == ["COMPLETE"] * trials
        return Spent(spent_s, study.cpu_s, time.monotonic() - began)


def main() -> None:
    """Prints a line for each number of trials at once."""
    parser = argparse.ArgumentParser(
        description="What Ray Tune's loop takes of the driver.", epilog="Example: --live 2,8"
    )
    parser.add_argument("--live", default="2,8,24")
    parser.add_argument("--trials", type=int, default=48)
    given = parser.parse_args()
    with own_ray.started(), turnover.quiet(__name__):
        run(4, 1, 2)  # the first use of Ray Tune in a process loads much
        for live in (int(one) for one in given.live.split(",")):
            few, many = run(given.trials, 1, live), run(given.trials, 1 + MORE_EPOCHS, live)
            joined = run(given.trials, 1 + MORE_EPOCHS, live, together=1 + MORE_EPOCHS)
            more = given.trials * MORE_EPOCHS
            result_s, joined_s = (many.ray_s - few.ray_s) / more, (joined.ray_s - few.ray_s) / more
            study_s = (many.study_s - few.study_s) / more
            trial_s = few.ray_s / given.trials - result_s
            print(
                f"{live} at once: Ray Tune takes {1e3 * result_s:.2f} ms of CPU for an epoch that is told alone, "
                f"{1e3 * joined_s:.2f} ms for one of {1 + MORE_EPOCHS} told together, and {1e3 * trial_s:.1f} ms to "
                f"end and begin a trial; the study {1e3 * study_s:.2f} ms for an epoch; "
                f"{given.trials * (2 + MORE_EPOCHS)} results took {few.wall_s + many.wall_s:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
