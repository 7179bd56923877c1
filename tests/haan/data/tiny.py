"""A valid data set of six videos in the `haan` layout, any file of which a test can replace.

Four fine classes in two coarse ones, d = 8, five clips a video; the first four videos train.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from haan.config import Data

TRAIN_VIDEOS, CLIPS, DIM = 4, 5, 8
NAMES = ["v0", "v1", "v2", "v3", "v4", "v5"]
LABELS = [[[0, 0], [0, 1]], [[1, 2]], [[1, 3], [0, 0]], [[0, 1], [1, 2], [1, 3]], [[0, 0]], [[1, 3]]]
SEGMENTS = [
    [[0.0, 1.5], [2.0, 4.0]], [[0.5, 2.0]], [[1.0, 3.0], [3.0, 5.0]], [[0.0, 0.5], [0.5, 1.0], [1.5, 2.5]],
    [[0.0, 5.0]], [[2.0, 7.5]],
]  # fmt: skip
RATIOS = [1.0, 2.0, 1.0, 2.0, 1.0, 0.5]  # so the videos last 5, 2.5, 5, 2.5, 5 and 10 s
MAPPING = {"0": 0, "1": 0, "2": 1, "3": 1}
CLASSES = {"fine": ["run", "jump", "read", "write"], "coarse": ["sport", "office"]}

FILES = {
    "names": "video_names.npy", "labels": "labels.npy", "segments": "segments.npy", "ratios": "sec2clip_ratios.npy",
    "mapping": "fine_to_coarse_mappings.json", "classes": "classes.json", "features": "features.npy",
}  # fmt: skip


def features() -> np.ndarray:
    """[videos, clips, d] float32, every value another and exact in float16."""
    return np.arange(len(NAMES) * CLIPS * DIM, dtype=np.float32).reshape(len(NAMES), CLIPS, DIM) / 4


def objects(items: Sequence[Any]) -> np.ndarray:
    """An object array of one item a video, as the published files hold them."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    for i, item in enumerate(items):  # numpy would take equal lengths for another dimension
        array[i] = item
    return array


def tiny(folder: Path, *, train_videos: int = TRAIN_VIDEOS, dtype: str = "float16", **contents: Any) -> Data:
    """Writes the data set into `folder` and returns the configuration that opens it.

    Keywords are those of FILES. An array is saved as it is, a list as an object array, bytes are a file's own, None
    leaves the file out, and a mapping is JSON; as features, a mapping is a folder of one file a name.
    """
    default: dict[str, Any] = {
        "names": np.array(NAMES), "labels": LABELS, "segments": SEGMENTS, "ratios": np.array(RATIOS),
        "mapping": MAPPING, "classes": CLASSES, "features": features(),
    }  # fmt: skip
    assert contents.keys() <= default.keys()
    folder.mkdir(parents=True, exist_ok=True)
    for key, content in (default | contents).items():
        _write(folder / FILES[key], content, key == "features")
    return Data(root=str(folder), features=FILES["features"], train_videos=train_videos, dtype=dtype)  # type: ignore[arg-type]


def _write(path: Path, content: Any, is_features: bool) -> None:
    if content is None:
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Mapping) and is_features:
        path.mkdir()
        for name, matrix in content.items():
            np.save(path / f"{name}.npy", matrix)
    elif isinstance(content, Mapping) or path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        np.save(path, content if isinstance(content, np.ndarray) else objects(content), allow_pickle=True)


def changed(items: Sequence[Any], index: int, item: Any) -> list[Any]:
    """A list with one item replaced."""
    return [item if i == index else other for i, other in enumerate(items)]


CLASS_OF = {"run": "sport", "jump": "sport", "read": "office", "write": "office"}
GROUND_TRUTH, HIERARCHY = "annotations_gt.json", "hierarchy.json"


def database() -> dict[str, Any]:
    """The same data set as an ActivityNet ground truth, and two testing videos without labels."""
    found: dict[str, Any] = {}
    for video, name in enumerate(NAMES):
        found[name] = {
            "subset": "training" if video < TRAIN_VIDEOS else "validation",
            "duration": CLIPS / RATIOS[video],
            "filename": f"{name}.mp4",
            "annotations": [
                {"label": CLASSES["fine"][fine], "label_id": fine, "segment": segment}
                for (_, fine), segment in zip(LABELS[video], SEGMENTS[video], strict=True)
            ],
        }
    return found | {name: {"subset": "testing", "duration": 5.0, "annotations": []} for name in ("t1", "t0")}


def tiny_activitynet(folder: Path, **contents: Any) -> Data:
    """Writes the data set in ActivityNet's layout, and returns the configuration that opens it.

    contents: `truth` and `hierarchy` (JSON, bytes are a file's own), `features` (a mapping of name to matrix).
    """
    matrices = dict(zip(NAMES, features(), strict=True)) | {"t0": features()[0] + 1, "t1": features()[1][:3] + 1}
    default = {"truth": {"database": database()}, "hierarchy": CLASS_OF, "features": matrices}
    assert contents.keys() <= default.keys()
    folder.mkdir(parents=True, exist_ok=True)
    found = default | contents
    for key, file in (("truth", GROUND_TRUTH), ("hierarchy", HIERARCHY), ("features", "i3d")):
        _write(folder / file, found[key], key == "features")
    return Data(
        root=str(folder), format="activitynet", features="i3d", annotations=GROUND_TRUTH, hierarchy=HIERARCHY
    )  # fmt: skip
