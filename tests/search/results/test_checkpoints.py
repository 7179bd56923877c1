"""Where checkpoints lie, and that a trial goes on from the newest whole one with the numbers of an unbroken run."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from safetensors.numpy import load_file, save_file

from haan.config import Holdout
from haan.data.table import ClipTable
from haan.errors import InputError, TrainingError
from haan.methods.haan.config import HaanConfig
from haan.train import EpochResult
from haan.weights import STATE, WEIGHTS
from search.driver import storagecheck
from search.results.checkpoints import AGAIN, RESULT, TRIAL, Checkpoints, below, download, of_run, trial_folder
from search.trials import features, trial
from search.trials.trial import TrialRunner
from tests.planted import tiny_config, tiny_table

EPOCHS = 6  # with a checkpoint every second one
PARAMS = {"loss.pseudo": 0.01}


def checkpoint(place: Path, number: int, session: int, index: int, **files: bytes) -> Path:
    folder = place / trial_folder(number, session) / f"checkpoint_{index:06d}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def names(found: list[str]) -> list[str]:
    return ["/".join(Path(path).parts[-2:]) for path in found]


def test_the_newest_checkpoint_is_of_the_last_driver_and_then_of_the_highest_index(tmp_path: Path) -> None:
    for session, index in [(1, 5), (10, 0), (2, 1), (2, 0), (1, 1_000_000)]:
        checkpoint(tmp_path, 3, session, index)
    checkpoint(tmp_path, 33, 1, 0)
    checkpoint(tmp_path, 30003, 1, 0)
    (tmp_path / "trial-00003" / "checkpoint_tmp").mkdir()
    (tmp_path / "trial-00003" / "checkpoint_000009").write_text("no folder")
    (tmp_path / "trial-00003-x" / "checkpoint_000009").mkdir(parents=True)
    (tmp_path / "trial-00003-77").write_text("no folder")
    assert names(Checkpoints(str(tmp_path)).of(3)) == [
        "trial-00003-10/checkpoint_000000",
        "trial-00003-2/checkpoint_000001",
        "trial-00003-2/checkpoint_000000",
        "trial-00003/checkpoint_1000000",
        "trial-00003/checkpoint_000005",
    ]


def test_the_folders_of_a_trial_are_found_by_name_where_the_number_of_drivers_is_known(tmp_path: Path) -> None:
    for session, index in [(1, 5), (3, 0), (4, 0)]:
        checkpoint(tmp_path, 3, session, index)
    checkpoint(tmp_path, 33, 2, 0)
    (tmp_path / "trial-00003-2").write_text("no folder")
    expected = ["trial-00003-3/checkpoint_000000", "trial-00003/checkpoint_000005"]
    assert names(Checkpoints(str(tmp_path), sessions=3).of(3)) == expected
    assert Checkpoints(str(tmp_path), sessions=3).of(4) == []
    assert Checkpoints(str(tmp_path / "nowhere"), sessions=2).of(3) == []


def test_a_place_that_does_not_exist_yet_has_no_checkpoints(tmp_path: Path) -> None:
    found = Checkpoints(str(tmp_path / "nowhere"))
    assert found.of(0) == [] and not found.fetch(0, WEIGHTS, tmp_path / "w")
    found.remove(0, keep=0)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_file_comes_from_the_newest_checkpoint_that_has_it(tmp_path: Path, scheme: str) -> None:
    place = tmp_path / "runs"
    checkpoint(place, 0, 1, 0, **{WEIGHTS: b"old"})
    checkpoint(place, 0, 1, 1, **{WEIGHTS: b"new"})
    checkpoint(place, 0, 2, 0, **{STATE: b"state"})
    found = Checkpoints(f"{scheme}{place}")
    to = tmp_path / "best.safetensors"
    assert found.fetch(0, WEIGHTS, to) and to.read_bytes() == b"new"
    assert found.fetch(0, STATE, to) and to.read_bytes() == b"state"
    assert not found.fetch(0, "other", to) and to.read_bytes() == b"state"
    assert not list(tmp_path.glob("*.partial"))
    whole = tmp_path / "whole"
    whole.mkdir()
    download(found.of(0)[0], whole)
    assert (whole / STATE).read_bytes() == b"state"


def test_removing_keeps_the_newest_and_other_trials(tmp_path: Path) -> None:
    for number, session, index in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)]:
        checkpoint(tmp_path, number, session, index, **{STATE: b"x"})
    found = Checkpoints(str(tmp_path))
    found.remove(0, keep=1)
    assert names(found.of(0)) == ["trial-00000-2/checkpoint_000000"]
    found.remove(0, keep=0)
    assert found.of(0) == [] and len(found.of(1)) == 1


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A client of an S3 server on this machine, and a place in its one bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        name = f"lab-{uuid.uuid4().hex}"  # what moto holds outlives its server
        client.create_bucket(Bucket=name)
        yield client, f"s3://{name}/haan?region=us-east-1&endpoint_override=http%3A%2F%2F{host}%3A{port}"
    finally:
        server.stop()


def test_checkpoints_in_s3_are_found_read_and_removed_as_in_a_folder(bucket: tuple[Any, str], tmp_path: Path) -> None:
    client, place = bucket
    name = place.removeprefix("s3://").partition("/")[0]
    for session, index, file in [(1, 0, WEIGHTS), (1, 1, STATE), (2, 0, STATE)]:
        key = f"haan/run/trials/{trial_folder(3, session)}/checkpoint_{index:06d}/{file}"
        client.put_object(Bucket=name, Key=key, Body=f"{session}-{index}".encode())
    stage = below(below(place, "run"), "trials")
    expected = ["trial-00003-2/checkpoint_000000", "trial-00003/checkpoint_000001", "trial-00003/checkpoint_000000"]
    for found in (Checkpoints(stage), Checkpoints(stage, sessions=2)):
        assert names([one.partition("?")[0] for one in found.of(3)]) == expected
        assert found.of(4) == [] and not found.fetch(3, "other", tmp_path / "w")
        assert found.fetch(3, WEIGHTS, tmp_path / "w") and (tmp_path / "w").read_text() == "1-0"
        download(found.of(3)[0], tmp_path)
        assert (tmp_path / STATE).read_text() == "2-0"
    Checkpoints(stage).remove(3, keep=1)
    assert names([one.partition("?")[0] for one in Checkpoints(stage).of(3)]) == expected[:1]
    assert Checkpoints(below(place, "nowhere"), sessions=1).of(0) == []


def test_a_place_in_s3_is_tried_and_left_as_it_was(bucket: tuple[Any, str]) -> None:
    client, place = bucket
    name = place.removeprefix("s3://").partition("/")[0]
    storagecheck.check(place, [])
    left = [one["Key"] for one in client.list_objects_v2(Bucket=name).get("Contents", [])]
    assert left == ["haan/"], "Arrow keeps the empty folder"
    with pytest.raises(InputError, match="search.storage: must be a place that can be written, got 's3://none"):
        storagecheck.check(place.replace(name, "none"), [])


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/nfs/a", "/nfs/a/run"),
        ("/nfs/a?", "/nfs/a?/run"),
        ("s3://lab/a/", "s3://lab/a/run"),
        ("s3://lab/a?region=x", "s3://lab/a/run?region=x"),
        ("file:///nfs/a", "file:///nfs/a/run"),
    ],
)
def test_a_folder_below_a_place_stands_before_its_options(place: str, found: str) -> None:
    assert below(place, "run") == found


@dataclass(frozen=True)
class Opened:
    """What a trial gets of Ray's object store."""

    table: ClipTable

    def arrive(self) -> tuple[ClipTable, features.Opened]:
        return self.table, features.Opened("node", "host", moved=0, began=0.0, seconds=0.0)


Start = Callable[..., TrialRunner]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Makes a trial as its process does, without Ray."""
    base: HaanConfig = tiny_config(tmp_path_factory.mktemp("planted") / "data", epochs=EPOCHS, lr=1e-2)
    table, split = tiny_table(base)

    def make(
        *restore: Path | str, params: dict[str, Any] = PARAMS, by_epoch: bool = False, recent: bool = False
    ) -> TrialRunner:
        runner = TrialRunner.__new__(TrialRunner)  # Trainable's own __init__ asks Ray where it is
        config = {"params": params, "sweep": True, "by_epoch": by_epoch, "restore": [str(path) for path in restore]}
        shared: Any = Opened(table)
        own = replace(base, eval=replace(base.eval, epoch="last")) if recent else base
        about: dict[str, Any] = {"objective": "recent"} if recent else {}
        splits = {base.data.validation: split}
        runner.setup(config, base=own, detects=(base.detect,), splits=splits, shared=shared, **about)
        return runner

    return make


_OF_A_PROCESS = ("seconds", "summary")


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says, but for how long it took and how its process came to it."""
    summary = {key: value for key, value in vars(result["summary"]).items() if key != "seconds"}
    return {key: value for key, value in result.items() if key not in _OF_A_PROCESS} | summary


def told(runner: TrialRunner) -> list[dict[str, Any]]:
    """What one step says of its epochs."""
    return [figures(epoch) for epoch in runner.step()["epochs"]]


@dataclass(frozen=True)
class Unbroken:
    """A trial from its first epoch to its last: results, and a checkpoint of each that was due (a folder by epoch)."""

    results: list[dict[str, Any]]
    saved: dict[int, Path]


@pytest.fixture(scope="module")
def unbroken(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    place, runner = tmp_path_factory.mktemp("unbroken"), start()
    results: list[dict[str, Any]] = []
    saved = {}
    while len(results) < EPOCHS:
        results += told(runner)
        if results[-1]["should_checkpoint"]:
            epoch = len(results)
            saved[epoch] = checkpoint(place, 0, 1, epoch)
            runner.save_checkpoint(str(saved[epoch]))
    assert list(saved) == [2, 4, 6]
    assert len({result["avg_map"] for result in results}) > 2  # a curve, so that equal ones mean something
    return Unbroken(results, saved)


def copies(unbroken: Unbroken, to: Path) -> tuple[Path, Path]:
    """Those of epochs 4 and 2, to be spoilt."""
    return tuple(shutil.copytree(unbroken.saved[epoch], to / f"{epoch}") for epoch in (4, 2))  # type: ignore[return-value]


def rest(runner: TrialRunner) -> list[dict[str, Any]]:
    found = told(runner)
    while found[-1]["epoch"] < EPOCHS:
        found += told(runner)
    return found


def test_a_mean_over_the_last_epochs_is_what_is_told_and_goes_on_after_a_resume(start: Start, tmp_path: Path) -> None:
    alone = [value for _, (value,) in rest(start(by_epoch=True))[-1]["by_epoch"]]
    means = [fmean(alone[max(0, epoch - 5) : epoch]) for epoch in range(1, EPOCHS + 1)]
    runner = start(recent=True)
    found = told(runner)
    while not found[-1]["should_checkpoint"]:
        found += told(runner)
    runner.save_checkpoint(str(tmp_path))
    found += rest(start(tmp_path, recent=True))
    assert [result["avg_map"] for result in found] == pytest.approx(means)
    assert found[-1]["best_epoch"] == EPOCHS and found[-1]["last_avg_map_by_detect"] == alone[-1:]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    """Right in length, wrong from the middle on, as after a crash of the machine."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def foreign(path: Path) -> None:
    """A whole file of tensors that knows nothing of a trial."""
    save_file({"a": np.zeros(2, dtype=np.float32)}, path)


def other_shape(folder: Path) -> None:
    known = json.loads((folder / RESULT).read_text())
    known["summary"]["unheard_of"] = 1
    (folder / RESULT).write_text(json.dumps(known))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "state is missing": lambda folder: (folder / STATE).unlink(),
    "state is empty": lambda folder: (folder / STATE).write_bytes(b""),
    "state is cut": lambda folder: half(folder / STATE),
    "state is zero from its middle on": lambda folder: zeros(folder / STATE),
    "state is of something else": lambda folder: foreign(folder / STATE),
    "result is missing": lambda folder: (folder / RESULT).unlink(),
    "result is cut": lambda folder: half(folder / RESULT),
    "result is no text": lambda folder: (folder / RESULT).write_bytes(b"\xff\xfe\x00"),
    "result is another's": lambda folder: (folder / RESULT).write_text("[1]"),
    "result is of another version": other_shape,
    "folder is gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_that_to_a_start_anew(
    damage: Callable[[Path], object], start: Start, unbroken: Unbroken, tmp_path: Path
) -> None:
    newest, older = copies(unbroken, tmp_path)
    assert rest(start(newest, older)) == unbroken.results[4:]
    damage(newest)
    assert rest(start(newest, older)) == unbroken.results[2:]
    damage(older)
    assert rest(start(newest, older)) == unbroken.results


def test_a_checkpoint_of_other_parameters_is_passed_over(start: Start, unbroken: Unbroken) -> None:
    others = {"loss.pseudo": 0.5}
    assert rest(start(unbroken.saved[4], params=others)) == rest(start(params=others))


def test_a_trial_that_only_its_driver_missed_says_its_last_result_again(start: Start, unbroken: Unbroken) -> None:
    assert told(start(unbroken.saved[6], unbroken.saved[4])) == unbroken.results[-1:]


def test_scores_by_epoch_go_on_from_a_checkpoint_and_a_holdout_that_the_driver_has_not_is_drawn(
    start: Start, unbroken: Unbroken, tmp_path: Path
) -> None:
    asked = {"params": PARAMS | {"data.validation": Holdout(holdout=0.25, seed=3, classes="both")}, "by_epoch": True}
    whole, curve = [], []
    runner = start(**asked)
    while len(curve) < EPOCHS:
        epochs = runner.step()["epochs"]
        whole += [figures(one) for one in epochs]
        curve += [(one["epoch"], one["avg_map_by_detect"]) for one in epochs]
    assert whole[-1]["by_epoch"] == curve
    assert [one["avg_map"] for one in whole] != [one["avg_map"] for one in unbroken.results], "other videos"
    runner = start(**asked)
    told(runner)
    saved = checkpoint(tmp_path, 0, 1, 2)
    runner.save_checkpoint(str(saved))
    again = rest(start(saved, **asked))
    assert json.dumps(again[-1]["by_epoch"]) == json.dumps(curve)


@pytest.mark.parametrize("damage", [half, zeros])
def test_damaged_weights_of_a_finished_trial_are_trained_again(
    damage: Callable[[Path], None], start: Start, unbroken: Unbroken, tmp_path: Path
) -> None:
    last = shutil.copytree(unbroken.saved[6], tmp_path / "6")
    damage(last / WEIGHTS)
    runner = start(last, unbroken.saved[4])
    assert rest(runner) == unbroken.results[4:]
    again = tmp_path / "again"
    again.mkdir()
    runner.save_checkpoint(str(again))
    whole, ours = load_file(unbroken.saved[6] / WEIGHTS), load_file(again / WEIGHTS)
    assert whole.keys() == ours.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(ours[name], value)


def test_a_checkpoint_that_was_copied_in_half_is_passed_over(start: Start, unbroken: Unbroken, tmp_path: Path) -> None:
    for name in (RESULT, STATE):
        folder = tmp_path / f"only-{name}"
        folder.mkdir()
        shutil.copy(unbroken.saved[4] / name, folder / name)
        assert rest(start(folder, unbroken.saved[2])) == unbroken.results[2:]


@pytest.mark.parametrize(("silent_s", "messages"), [(0.0, [1, 2, 3, 4, 5, 6]), (1e9, [2, 4, 6])])
def test_quick_epochs_come_together_but_none_waits_past_a_checkpoint(
    silent_s: float, messages: list[int], start: Start, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_SILENT_S", silent_s)
    runner, results = start(), []
    for last in messages:
        results += told(runner)
        assert results[-1]["epoch"] == last
    assert results == unbroken.results


def test_what_ends_a_training_comes_with_the_epochs_before_it(
    start: Start, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_SILENT_S", 1e9)
    runner = start()
    train, left = runner._trainer.train_epoch, iter([True])

    def breaks() -> EpochResult:
        if next(left, False):
            return train()
        raise TrainingError("loss is nan")

    monkeypatch.setattr(runner._trainer, "train_epoch", breaks)
    said = runner.step()
    assert said["failure"] == "loss is nan"
    assert [figures(one) for one in said["epochs"]] == unbroken.results[:1]


def test_a_process_serves_the_next_trial_as_a_new_one_would(start: Start, unbroken: Unbroken) -> None:
    runner = start(params={"loss.pseudo": 0.5})
    runner.step()
    runner.reset_config({"params": PARAMS, "sweep": True, "restore": [str(unbroken.saved[2])]})
    assert rest(runner) == unbroken.results[2:]


def test_repetitions_lie_beside_trials_and_those_of_an_older_version_are_found(tmp_path: Path) -> None:
    checkpoint(tmp_path / "trials", 3, 1, 7)
    (tmp_path / "trials" / "confirm-00003-2" / "checkpoint_000000").mkdir(parents=True)
    checkpoint(tmp_path / "confirm", 3, 1, 4)
    for sessions in (None, 2):
        assert names(of_run(str(tmp_path), TRIAL, sessions).of(3)) == ["trial-00003/checkpoint_000007"]
        found = of_run(str(tmp_path), AGAIN, sessions)
        assert names(found.of(3)) == ["confirm-00003-2/checkpoint_000000", "trial-00003/checkpoint_000004"]
    of_run(str(tmp_path), AGAIN).remove(3, keep=1)
    assert names(of_run(str(tmp_path), AGAIN).of(3)) == ["confirm-00003-2/checkpoint_000000"]
