"""data.skip: what stays is the data set without the others, in both layouts; the default changes no older file."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from haan.config import Data
from haan.data.readers import open_data, open_unlabelled
from haan.data.table import fingerprint
from haan.errors import InputError
from haan.methods.haan.config import HaanConfig
from haan.yamlconfig import dump, read_config
from tests.haan.commands import haan
from tests.haan.data.tiny import LABELS, NAMES, RATIOS, SEGMENTS, database, features, tiny, tiny_activitynet

MATRICES = dict(zip(NAMES, features(), strict=True))
OUT = ("v1", "v5")  # v1 trains, v5 validates; every class is shown without them
STAY = [i for i, name in enumerate(NAMES) if name not in OUT]
LAYOUTS: dict[str, Callable[[Path], Data]] = {
    "haan": lambda folder: tiny(folder, features=MATRICES),
    "activitynet": tiny_activitynet,
}


def without(folder: Path, layout: str) -> Data:
    """The data set that never had them."""
    if layout == "activitynet":
        left = {name: about for name, about in database().items() if name not in OUT}
        return tiny_activitynet(folder, truth={"database": left})
    names, labels, segments, ratios = ([column[i] for i in STAY] for column in (NAMES, LABELS, SEGMENTS, RATIOS))
    contents = {"names": np.array(names), "labels": labels, "segments": segments, "ratios": np.array(ratios)}
    return tiny(folder, train_videos=3, features={name: MATRICES[name] for name in names}, **contents)


def skipping(data: Data, skip: str) -> Data:
    """Some videos left out: listed in a file, or with no feature file."""
    if skip == "missing":
        for name in OUT:
            Path(data.root, data.features, f"{name}.npy").unlink()
    else:
        Path(data.root, skip).write_text("\n".join(OUT) + "\n", encoding="utf-8-sig")
    return replace(data, skip=skip)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("skip", ["missing", "out.txt"])
def test_what_stays_is_the_data_set_without_them(tmp_path: Path, layout: str, skip: str) -> None:
    data = skipping(LAYOUTS[layout](tmp_path / "a"), skip)
    source, found, (note,) = open_data(data)
    assert note == f"data.skip: 2 of 6 videos are left out ({skip}): 'v1', 'v5'"
    other, expected, warnings = open_data(without(tmp_path / "b", layout))
    assert warnings == () and found.names == expected.names and found.num_train == expected.num_train == 3
    for field in fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))
    assert fingerprint(source, found, "float16") == fingerprint(other, expected, "float16")


def test_testing_videos_can_be_left_out_too(tmp_path: Path) -> None:
    data = tiny_activitynet(tmp_path)
    (tmp_path / "out.txt").write_text("t1\n")
    _, found, (note,) = open_unlabelled(replace(data, skip="out.txt"))
    assert found.names == ("t0",) and note.startswith("data.skip: 1 of 2 videos are left out")
    assert open_data(replace(data, skip="out.txt"))[2] == (), "no video of these"


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("v1\n\nv9\n", "{root}/out.txt:3: must name a video of the data set, got 'v9'"),
        (
            "v0\nv1\nv2\nv3\n",
            "data.skip: must leave a training video, got 'out.txt', which leaves out 4 of 6",
        ),
        (None, "{root}/out.txt: no such file"),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bad_list_is_named(tmp_path: Path, layout: str, listed: str | None, expected: str) -> None:
    data = replace(LAYOUTS[layout](tmp_path), skip="out.txt")
    if listed is not None:
        (tmp_path / "out.txt").write_text(listed)
    with pytest.raises(InputError) as error:
        open_data(data)
    assert error.value.messages == [expected.replace("{root}", str(tmp_path))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_command_warns_and_counts_those_that_stay(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = skipping(LAYOUTS[layout](tmp_path), "missing")
    (tmp_path / "c.yaml").write_text(dump(HaanConfig(data=data)))
    haan("convert", "truth", tmp_path / "c.yaml", "--out", tmp_path / "truth.json")
    said = capsys.readouterr()
    assert said.out.startswith("3 training and 1 validation videos; written to")
    assert said.err == "warning: data.skip: 2 of 6 videos are left out (missing): 'v1', 'v5'\n"


def test_one_array_leaves_no_video_out(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        open_data(replace(tiny(tmp_path), skip="missing"))
    assert error.value.messages == ["data.skip: must be null unless data.features is a folder, got 'missing'"]


def test_the_default_is_not_written(tmp_path: Path) -> None:
    for skip in (None, "missing"):
        config = HaanConfig(data=Data(root="r", features="f", train_videos=1, skip=skip))
        (tmp_path / "c.yaml").write_text(dump(config))
        assert ("skip" in dump(config)) == (skip is not None) and read_config(tmp_path / "c.yaml") == config
