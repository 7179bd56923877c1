"""A trial that replays a recorded curve in place of training, and what it searches over."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution
from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from search.study.record import Summary
from tests.search.curves import EPOCHS, Curve, result

PARAMETERS = {"optim.lr": FloatDistribution(1e-5, 1e-3, log=True)}
CHECKPOINT_EPOCHS = 5


class Replay(tune.Trainable):
    """Reports the recorded curve of its trial's number, as search.trials.trial does; a subclass may break."""

    def setup(self, config: dict[str, Any], curves: tuple[Curve, ...] = (), notes: str = "") -> None:
        self.curves, self.notes = curves, Path(notes)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.number, self.epoch, self.summary = new_config["number"], 0, Summary()
        (self.notes / f"process-{os.getpid()}").touch()
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        known = result(self.epoch, self.curves[self.number][self.epoch - 1])
        self.summary.add(known)
        return {
            "epochs": [known | {"summary": replace(self.summary)}],
            SHOULD_CHECKPOINT: self.epoch == EPOCHS or self.epoch % CHECKPOINT_EPOCHS == 0,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "epoch.json").write_text(json.dumps([self.epoch, asdict(self.summary)]))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.epoch, known = json.loads(Path(os.fspath(checkpoint), "epoch.json").read_text())
        self.summary = Summary(**known)

    def first_time(self, what: str) -> bool:
        """Whether nobody asked this before, in any process; notes it."""
        note = self.notes / f"{self.number}-{what}"
        seen = note.exists()
        note.touch()
        return not seen
