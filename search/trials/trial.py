"""One trial: shared features + a configuration -> haan.train -> a report of each epoch."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT
from torch import Tensor

from haan.config import Config, Data, Detect, Holdout
from haan.data.table import Split
from haan.data.table import split as split_of
from haan.errors import InputError, TrainingError
from haan.files import digest
from haan.memory import cap_gpu, trim, trim_gpu
from haan.train import EpochResult, Trainer
from haan.weights import STATE, WEIGHTS, read_tensors, write_weights
from search.results.checkpoints import RESULT, download
from search.space.model import with_values
from search.study.record import Objective, Summary
from search.trials.features import SharedTable
from search.trials.leaving import NodeLeavesError, at_work, is_leaving

_LOG = logging.getLogger("search")
_SILENT_S = 1.0  # for so long the driver may hear nothing of epochs that have ended


class TrialRunner(tune.Trainable):
    """A Ray Tune trainable whose process serves one trial after another, so that PyTorch is imported once.

    Its config holds `params` by dotted key; `sweep`: whether every epoch is scored at all detection settings and the
    best of them chosen, or the configuration's own is fixed and the base's scored beside it; `by_epoch`: whether the
    scores of every epoch are kept; and `restore`: checkpoints of an earlier run of this trial, the newest first.
    """

    def setup(
        self,
        config: dict[str, Any],
        base: Config | None = None,
        detects: tuple[Detect, ...] = (),
        own_detects: Mapping[str, Detect] | None = None,
        other_detects: Mapping[str, tuple[Detect, ...]] | None = None,
        splits: Mapping[Holdout | str, Split] | None = None,
        shared: SharedTable | None = None,
        gpu: float = 1.0,
        data: str = "",
        objective: Objective = "best",
        home: Path | None = None,
    ) -> None:
        """Opens the shared table once.

        own_detects, other_detects: by method, where a trial may be of another than the base; see Space. splits: by
        `data.validation`. gpu: this process's share of a GPU, if it has one. data: their fingerprint. home: the
        driver's working folder, which relative paths of a configuration are of; a Ray that is joined starts its
        processes elsewhere. Raises FeaturesError where the features can't come to this node.
        """
        if home is not None and home.is_dir():
            os.chdir(home)
        assert base is not None and splits is not None and shared is not None
        self._base, self._splits, self._detects = base, splits, {base.method: detects, **(other_detects or {})}
        self._own = {base.method: base.detect, **(own_detects or {})}
        self._objective: Objective = objective
        self._about: dict[str, Any] = {"alone": gpu >= 1, "data": data}
        cap_gpu(gpu)
        self._table, self._opened = shared.arrive()
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes up the next trial in the same process."""
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self._broken: str | None = None
        self._result: dict[str, Any] = {}
        self._from_epoch = self._saved_epoch = 0
        self._weights: dict[str, Tensor] | None = None
        self.cleanup()
        trim_gpu()
        try:
            self._trainer = self._make(config)
        except (InputError, ValueError) as error:
            self._broken = str(error)
            return
        objective = self._objective if config["sweep"] else self._trainer.config.eval.epoch
        self._summary = Summary(objective, by_epoch=[] if config.get("by_epoch") else None)
        for checkpoint in config["restore"]:
            if self._goes_on_from(checkpoint):
                break

    def cleanup(self) -> None:
        """Ends a training that nobody wants any more, so that two models never stand on one GPU."""
        trainer: Trainer | None = vars(self).pop("_trainer", None)
        if trainer is not None:
            trainer.close()

    def _make(self, config: dict[str, Any]) -> Trainer:
        values = with_values(self._base, config["params"])
        split = self._split(values.data)
        if config["sweep"]:
            return Trainer(values, self._table, split, self._detects[values.method], every_epoch=True, **self._about)
        return Trainer(values, self._table, split, beside=[self._own[values.method]], **self._about)

    def _split(self, data: Data) -> Split:
        """The driver's; where it has none for a run that it took up, as when `holdouts` has changed, drawn here."""
        known = self._splits.get(data.validation)
        return split_of(self._table.annotations, data) if known is None else known

    def _goes_on_from(self, checkpoint: str) -> bool:
        """Goes on from a checkpoint of an earlier driver, unless it is damaged or of another configuration."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                download(checkpoint, Path(folder))
                self._read(Path(folder))
            except (InputError, OSError, KeyError, ValueError, TypeError) as error:
                _LOG.warning("can't go on from %s: %s", checkpoint, error)
                return False
        return True

    def step(self) -> dict[str, Any]:
        """Epochs until one has to be told: what each came to.

        Told are epochs with a checkpoint and all that follow a second without a word: short ones come together, for a
        message takes the driver as long whatever it says. What training can't survive, and would meet again, ends the
        trial with its reason. On a node that is to leave the epoch under way is the last one: it is told with a
        checkpoint. Raises NodeLeavesError once that is saved.
        """
        with at_work():
            return self._step()

    def _step(self) -> dict[str, Any]:
        if self._broken is not None:
            return {"failure": self._broken, "epochs": []}
        if self._weights is not None:  # all epochs were trained, and only the driver did not live to hear of it
            return self._told([self._known()])
        if is_leaving():
            return self._last_words()
        began, epochs = time.monotonic(), []
        while True:
            try:
                self._take_in(self._trainer.train_epoch())
            except (TrainingError, InputError) as error:
                return {"failure": str(error), "epochs": epochs}
            trim()
            if is_leaving():
                self._result[SHOULD_CHECKPOINT] = True
            epochs.append(self._known())
            if self._result[SHOULD_CHECKPOINT] or time.monotonic() - began >= _SILENT_S:
                return self._told(epochs)

    def _last_words(self) -> dict[str, Any]:
        """On a node that is to leave: what is not saved is told once more, with a checkpoint of it."""
        if self._result.get("epoch", 0) == self._saved_epoch:
            raise NodeLeavesError("its node is about to leave")
        self._result[SHOULD_CHECKPOINT] = True
        return self._told([])

    def _take_in(self, epoch: EpochResult) -> None:
        epochs, period = self._trainer.config.optim.epochs, self._trainer.config.period
        result = {
            "epoch": epoch.epoch,
            "avg_map": epoch.avg_map[epoch.chosen] if epoch.avg_map else None,
            "avg_map_by_detect": list(epoch.avg_map),
            "map": {f"{tiou:g}": value for tiou, value in epoch.map.items()},
            "map_by_tiou": list(epoch.map_by_tiou),
            "losses": epoch.losses,
            "seconds": epoch.seconds,
            "detections": epoch.detections,
            "collapsed": epoch.collapsed,
            "empty_clusters": epoch.empty_clusters,
            "device": self._trainer.device.type,
        }
        self._summary.add(result)
        if result["avg_map"] is not None and self._summary.objective == "recent":
            result["avg_map"] = self._summary.avg_map
        due = epoch.epoch == epochs or epoch.epoch % period == 0
        self._result = result | {SHOULD_CHECKPOINT: due}
        if epoch.epoch == epochs and self._trainer.best is not None:
            self._weights = self._trainer.best.tensors

    def _known(self) -> dict[str, Any]:
        """The last result, with the summary so far."""
        return self._result | {"summary": replace(self._summary)}

    def _told(self, epochs: list[dict[str, Any]]) -> dict[str, Any]:
        """What Ray Tune is told. A mapping would be torn apart by it; those in a list stay whole."""
        due = self._result[SHOULD_CHECKPOINT]
        return {"epochs": epochs, SHOULD_CHECKPOINT: due, "opened": self._opened, "from_epoch": self._from_epoch}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """As Ray Tune has it, which also brings the checkpoint to its storage."""
        with at_work():
            saved = super().save(checkpoint_dir)
        self._saved_epoch = self._result.get("epoch", 0)  # none yet, of one that failed in its first
        return saved

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The weights of a finished trial; else all that is needed to go on."""
        file = Path(checkpoint_dir, STATE if self._weights is None else WEIGHTS)
        if self._weights is None:
            self._trainer.save(file)
        else:
            names, method = self._table.annotations.fine_names, self._trainer.config.method
            write_weights(file, self._weights, self._summary.best_epoch, names, method)
        known = {"result": self._result, "summary": asdict(self._summary), "file": file.name, "sha256": digest(file)}
        file.with_name(RESULT).write_text(json.dumps(known), encoding="utf-8")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Goes on from a checkpoint of this driver after a failure. Raises InputError when it is damaged."""
        self._read(Path(os.fspath(checkpoint)))

    def _read(self, folder: Path) -> None:
        """Raises InputError, OSError, KeyError, ValueError or TypeError where it is damaged."""
        known = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        result, summary, file, weights = known["result"], Summary(**known["summary"]), folder / known["file"], None
        if digest(file) != known["sha256"]:  # a crash of the machine may leave zeros in a file of the right length
            raise InputError(f"{file}: must be as it was written, got other bytes")
        if file.name == STATE:
            self._trainer.load(file)
        else:
            weights, _ = read_tensors(file)
        self._result, self._summary, self._weights = result, summary, weights
        self._from_epoch = self._saved_epoch = int(result["epoch"])
