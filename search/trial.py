"""One trial: shared features + a configuration -> haan.train -> one report an epoch."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from haan.config import Config, Detect
from haan.data.table import Split
from haan.errors import InputError
from haan.train import Trainer, TrainingError, write_tensors
from search.features import SharedTable
from search.space import with_values

STATE, WEIGHTS = "state.safetensors", "best.safetensors"


def _return_memory() -> None:
    """Gives what glibc has freed, and keeps by chance, back to the node, which other trials share."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


class TrialRunner(tune.Trainable):
    """A Ray Tune trainable whose process serves one trial after another, so that PyTorch is imported once."""

    def setup(
        self,
        config: dict[str, Any],
        base: Config | None = None,
        detects: tuple[Detect, ...] = (),
        split: Split | None = None,
        shared: SharedTable | None = None,
    ) -> None:
        """Opens the shared table once; `config` holds the trial's number and parameters."""
        assert base is not None and split is not None and shared is not None
        self._base, self._detects, self._split, self._table = base, detects, split, shared.open()
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes up the next trial in the same process."""
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self._broken: str | None = None
        vars(self).pop("_trainer", None)  # so that two models never stand on one GPU
        try:
            values = with_values(self._base, config["params"])
            self._trainer = Trainer(values, self._table, self._split, self._detects)
        except (InputError, ValueError) as error:
            self._broken = str(error)

    def step(self) -> dict[str, Any]:
        """One epoch. What training itself can't survive, and would meet again, ends the trial with its reason."""
        if self._broken is not None:
            return {"failure": self._broken, "epoch": 0}
        try:
            result = self._trainer.train_epoch()
        except (TrainingError, InputError) as error:
            return {"failure": str(error), "epoch": self._trainer.epoch + 1}
        _return_memory()
        epochs, refresh = self._trainer.config.optim.epochs, self._trainer.config.concepts.refresh_epochs
        return {
            "epoch": result.epoch,
            "avg_map": result.avg_map[result.chosen],
            "avg_map_by_detect": list(result.avg_map),
            "map": {f"{tiou:g}": value for tiou, value in result.map.items()},
            "losses": result.losses,
            "seconds": result.seconds,
            "detections": result.detections,
            "collapsed": result.collapsed,
            "device": self._trainer.device.type,
            SHOULD_CHECKPOINT: result.epoch == epochs or result.epoch % refresh == 0,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The best weights of a finished trial; else all that is needed to go on."""
        trainer = self._trainer
        if trainer.epoch < trainer.config.optim.epochs or trainer.best is None:
            trainer.save(Path(checkpoint_dir) / STATE)
        else:
            write_tensors(Path(checkpoint_dir) / WEIGHTS, trainer.best.weights, {"epoch": str(trainer.best.epoch)})

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Goes on from a checkpoint after a failure."""
        state = Path(os.fspath(checkpoint)) / STATE
        if state.exists():
            self._trainer.load(state)
