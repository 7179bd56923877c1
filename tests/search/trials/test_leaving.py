"""A trial whose node is about to leave: it saves, goes, and that is no failure of its own."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.result import SHOULD_CHECKPOINT

from haan.errors import TrainingError
from search.trials import failures, leaving, trial
from search.trials.leaving import NodeLeavesError
from search.trials.trial import TrialRunner


class _Runner(TrialRunner):
    """A trial whose epochs cost nothing."""

    def __init__(self, epochs: int = 100) -> None:
        self._broken, self._weights, self._opened, self._from_epoch, self._saved_epoch = None, None, None, 0, 0
        self._result: dict[str, Any] = {}
        self._epochs = epochs
        self._trainer: Any = self

    def train_epoch(self) -> None:
        """Nothing."""

    def _take_in(self, epoch: Any) -> None:
        self._result = {"epoch": self._result.get("epoch", 0) + 1, SHOULD_CHECKPOINT: False}

    def _known(self) -> dict[str, Any]:
        return dict(self._result)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(leaving.FOLDER, str(tmp_path))
    monkeypatch.setattr(trial, "_SILENT_S", 0.0)
    return tmp_path


def test_the_epoch_under_way_is_the_last_and_is_saved(node: Path) -> None:
    runner = _Runner()
    assert runner.step()[SHOULD_CHECKPOINT] is False
    runner.train_epoch = lambda: leaving.give_notice(node)  # type: ignore[method-assign]
    told = runner.step()
    assert told[SHOULD_CHECKPOINT] is True and [one["epoch"] for one in told["epochs"]] == [2]
    runner._saved_epoch = 2  # as `save` notes it
    with pytest.raises(NodeLeavesError):
        runner.step()


def test_what_was_trained_before_the_notice_is_saved_without_another_epoch(node: Path) -> None:
    runner = _Runner()
    runner.step()
    leaving.give_notice(node)
    told = runner.step()
    assert told[SHOULD_CHECKPOINT] is True and told["epochs"] == []


def test_a_trial_that_has_nothing_to_save_goes_at_once(node: Path) -> None:
    leaving.give_notice(node)
    with pytest.raises(NodeLeavesError):
        _Runner().step()


def test_a_trial_that_fails_in_its_first_epoch_is_saved_as_ray_tune_does_at_its_end(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune.Trainable, "save", lambda self, checkpoint_dir=None: "saved")

    def fails() -> None:
        raise TrainingError("loss mil is nan")

    runner = _Runner()
    runner.train_epoch = fails  # type: ignore[method-assign]
    assert runner.step() == {"failure": "loss mil is nan", "epochs": []}
    assert runner.save() == "saved"


def test_where_nobody_gives_notice_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(leaving.FOLDER, raising=False)
    assert not leaving.is_leaving()
    with leaving.at_work():
        pass


def test_who_works_is_known_until_it_has_ended_or_was_killed(node: Path) -> None:
    assert leaving.num_at_work(node) == 0
    with leaving.at_work():
        assert leaving.num_at_work(node) == 1
    assert leaving.num_at_work(node) == 0
    ended = subprocess.Popen(["true"])
    ended.wait()
    (node / f"busy-{ended.pid}").touch()
    (node / f"busy-{os.getpid()}").touch()
    assert leaving.num_at_work(node) == 1


def test_it_counts_as_a_loss_and_is_called_preempted(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = NodeLeavesError("its node is about to leave")
    assert failures.is_loss(cause) and failures.is_loss(RayTaskError("step", "traceback", cause))
    assert not failures.is_loss(RayTaskError("step", "traceback", ValueError("x")))
    text = f"Traceback ...\nsearch.trials.leaving.NodeLeavesError: {cause}"
    monkeypatch.setattr(failures.internals, "error_text", lambda _: text)
    known: Any = object()
    assert failures.reason(known) == "preempted: its node is about to leave"
