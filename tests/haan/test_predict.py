"""`haan detect --test`: a server's file for videos without labels, checked before it is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haan.__main__ import app
from haan.activitynet import check_submission, write_predictions
from haan.config import Data, Eval, Optim
from haan.detectors.runs import RunsDetect
from haan.errors import InputError
from haan.methods.haan.config import Concepts, HaanConfig, Model
from haan.metrics import Detections
from haan.weights import read_tensors, write_tensors
from haan.yamlconfig import dump
from tests.haan.data.tiny import database, features, tiny, tiny_activitynet


def haan(*arguments: object) -> None:
    """Runs the command line in this process; InputError comes out."""
    app([str(argument) for argument in arguments], standalone_mode=False)


def trained(folder: Path, data: Data) -> Path:
    """A training folder of one epoch."""
    config = HaanConfig(
        data=data,
        model=Model(width=8),
        concepts=Concepts(clusters=3, top_k=2, sample_rate=1.0),
        optim=Optim(lr=1e-3, epochs=1),
        detect=RunsDetect(alpha=-0.5, class_threshold=-100.0),  # every class is kept, so there are detections
        eval=Eval(tiou=(0.1, 0.5), report=(0.1,)),
        device="cpu",
        threads=1,
    )
    (folder / "c.yaml").write_text(dump(config))
    haan("train", folder / "c.yaml", "--out", folder / "out")
    return folder / "out"


def test_testing_videos_get_detections_for_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = trained(tmp_path, tiny_activitynet(tmp_path / "data"))
    words = "I3D pretrained on Kinetics-400"
    haan("detect", out, "--test", "--external-data", words, "--out", tmp_path / "test.json")
    written = json.loads((tmp_path / "test.json").read_text())
    assert list(written) == ["version", "results", "external_data"]
    assert written["external_data"] == {"used": True, "details": words}
    assert list(written["results"]) == ["t0", "t1"] and all(written["results"].values())
    found = [entry for entries in written["results"].values() for entry in entries]
    assert {entry["label"] for entry in found} <= {"run", "jump", "read", "write"}
    # Either video lasts 5 s. t1 has 3 clips in them.
    assert all(0 <= start < end <= 5 for start, end in (entry["segment"] for entry in found))
    assert f"{len(found)} detections in 2 videos; written to" in capsys.readouterr().out


def test_they_are_those_of_the_same_videos_with_labels(tmp_path: Path) -> None:
    # t0 shows what v0 shows, one higher; given v0's features, it gets v0's detections.
    data = tiny_activitynet(tmp_path / "data")
    out = trained(tmp_path, data)
    np.save(tmp_path / "data" / "i3d" / "t0.npy", features()[4])
    haan("detect", out, "--out", tmp_path / "validation.json")
    haan("detect", out, "--test", "--out", tmp_path / "test.json")
    validation, test = (json.loads((tmp_path / f"{n}.json").read_text())["results"] for n in ("validation", "test"))
    assert test["t0"] == validation["v4"] != []
    assert list(validation) == ["v4", "v5"] and list(test) == ["t0", "t1"]


def test_videos_of_another_configuration_may_be_tested(tmp_path: Path) -> None:
    out = trained(tmp_path, tiny(tmp_path / "haan"))
    with pytest.raises(InputError, match=r"c\.yaml.*|best\.yaml.*data\.format: must be activitynet to have videos"):
        haan("detect", out, "--test", "--out", tmp_path / "t.json")
    other = tiny_activitynet(tmp_path / "anet")
    (tmp_path / "other.yaml").write_text(dump(HaanConfig(data=other)))
    haan("detect", out, "--test", "--data", tmp_path / "other.yaml", "--out", tmp_path / "t.json")
    assert list(json.loads((tmp_path / "t.json").read_text())["results"]) == ["t0", "t1"]


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    """The number of classes fits, and every label would be another class's."""
    out = trained(tmp_path, tiny_activitynet(tmp_path / "data"))
    other = tiny_activitynet(tmp_path / "other")
    hierarchy = Path(other.root) / other.hierarchy
    pairs = json.loads(hierarchy.read_text())
    hierarchy.write_text(json.dumps(dict(sorted(pairs.items()))))
    (tmp_path / "other.yaml").write_text(dump(HaanConfig(data=other)))
    rule = "best.safetensors: must be weights for the fine classes of the data, in their order, got 'run' as class 0"
    with pytest.raises(InputError, match=rule):
        haan("detect", out, "--test", "--data", tmp_path / "other.yaml", "--out", tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


def test_weights_that_do_not_say_their_classes_still_detect(tmp_path: Path) -> None:
    out = trained(tmp_path, tiny_activitynet(tmp_path / "data"))
    haan("detect", out, "--out", tmp_path / "new.json")
    tensors, about = read_tensors(out / "best.safetensors")
    assert json.loads(about["about"]) == {"epoch": 1, "classes": ["run", "jump", "read", "write"]}
    write_tensors(out / "best.safetensors", tensors, {"epoch": "1"})
    haan("detect", out, "--out", tmp_path / "old.json")
    assert (tmp_path / "old.json").read_bytes() == (tmp_path / "new.json").read_bytes()
    write_tensors(out / "best.safetensors", tensors, {"about": "[]"})
    with pytest.raises(InputError, match=r"best.safetensors: about: must be JSON with classes, got '\[\]'"):
        haan("detect", out, "--out", tmp_path / "broken.json")


SOUND: dict[str, Any] = {
    "version": "haan",
    "results": {"a": [{"label": "run", "score": 0.5, "segment": [0, 2.5]}], "b": []},
    "external_data": {},
}


def detection(**changes: Any) -> dict[str, Any]:
    entry = {"label": "run", "score": 0.5, "segment": [0, 2.5]} | changes
    return SOUND | {"results": {"a": [{k: v for k, v in entry.items() if v is not None}], "b": []}}


def test_a_sound_submission_passes() -> None:
    check_submission(Path("p"), SOUND, ["a", "b"], ["run"])
    check_submission(Path("p"), SOUND | {"external_data": {"used": True, "details": "x"}}, ["a", "b"], ["run"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "version: is required and missing"),
        ({k: v for k, v in SOUND.items() if k != "external_data"}, "external_data: is required and missing"),
        (SOUND | {"version": 1}, "version: must be text, got 1"),
        (SOUND | {"results": []}, "results: must be an object, got []"),
        (SOUND | {"external_data": {"used": 1}}, "external_data.used: must be true or false, got 1"),
        (SOUND | {"external_data": {"details": None}}, "external_data.details: must be text, got None"),
        (SOUND | {"results": {"a": []}}, "results.b: must have a list for each video, got none"),
        (
            SOUND | {"results": {"a": [], "b": [], "c": []}},
            "results.c: must be one of the videos to detect in, got one more",
        ),
        (SOUND | {"results": {"a": [], "b": {}}}, "results.b: must be a list, got {}"),
        (detection(label="fly"), "results.a[0].label: must be a class of the data set, got 'fly'"),
        (detection(label=None), "results.a[0].label: is required and missing"),
        (detection(score=float("nan")), "results.a[0].score: must be a finite number, got nan"),
        (detection(score="1"), "results.a[0].score: must be a finite number, got '1'"),
        (
            detection(segment=[0, float("inf")]),
            "results.a[0].segment: must be [start_s, end_s], finite numbers, got [0, inf]",
        ),
        (detection(segment=[2, 1]), "results.a[0].segment: must have 0 <= start <= end, got [2, 1]"),
        (detection(segment=[-1, 1]), "results.a[0].segment: must have 0 <= start <= end, got [-1, 1]"),
    ],
)
def test_what_a_server_would_refuse_is_named(value: Any, expected: str) -> None:
    with pytest.raises(InputError) as error:
        check_submission(Path("p.json"), value, ["a", "b"], ["run"])
    assert str(error.value) == f"p.json: {expected}"


def test_nothing_is_written_that_a_server_would_refuse(tmp_path: Path) -> None:
    zero = np.zeros(1, dtype=np.int64)
    bad = Detections(zero, zero, np.array([1.0]), np.array([2.0]), np.array([np.nan]))
    with pytest.raises(InputError, match="score: must be a finite number, got nan"):
        write_predictions(tmp_path / "p.json", ["a"], ["run"], bad, "haan")
    assert not list(tmp_path.iterdir())


def test_the_tiny_ground_truth_has_testing_videos() -> None:
    assert sorted(n for n, about in database().items() if about["subset"] == "testing") == ["t0", "t1"]
