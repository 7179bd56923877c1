"""Every key of a configuration in words."""

from pathlib import Path

import pytest

from haan.errors import InputError
from haan.keys import keys_of, own_keys
from haan.methods.names import CONFIGS
from haan.yamlconfig import plain, read_config
from tests.haan.commands import haan

KEYS = {key.name: key for key in keys_of()}


def leaves(value: object, above: str = "") -> set[str]:
    """The dotted keys of nested mappings."""
    if not isinstance(value, dict):
        return {above}
    return set().union(*(leaves(below, f"{above}.{name}".strip(".")) for name, below in value.items()))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A configuration that says only what is required."""
    path = tmp_path / "c.yaml"
    path.write_text("data: {root: x, features: y, train_videos: 3}\n")
    return path


def test_every_key_of_a_configuration_is_among_them_and_says_what_it_means(given: Path) -> None:
    optim = ("kind=sgd", "momentum=0.5", "weight_decay=0.1", "clip_norm=1", "schedule=cosine", "warmup_epochs=3")
    later = [
        "data.skip=z",
        "eval.every=5",
        "detect.threshold_from=min",
        "detect.min_clips=2",
        *(f"optim.{one}" for one in (*optim, "schedule_epochs=60")),
    ]  # left out while they are the default
    config = read_config(
        given, ("data.validation={holdout: 0.2, classes: both}", "data.plant={train_videos: 3}", *later)
    )
    assert leaves(plain(config)) == set(KEYS) - {"method", "data.validation", "data.plant"}
    assert [key.name for key in KEYS.values() if not (key.what and key.source)] == []


def test_each_default_reads_back_to_itself(given: Path) -> None:
    defaults = {name: key.default.strip("`") for name, key in KEYS.items() if name.count(".") < 2}
    changed = [
        f"{name}={text}" for name, text in defaults.items() if text != "required" and name != "data.train_videos"
    ]
    assert read_config(given, tuple(changed)) == read_config(given)
    assert {name for name, text in defaults.items() if text == "required"} == {"data.root", "data.features"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concepts.top_k", "whole number >= 1"),
        ("concepts.method", "`kmeans`, `gmm` or `birch`"),
        ("concepts.warm_start", "`true` or `false`"),
        ("model.classifier_layers", "`1` or `2`"),
        ("data.validation", "mapping or `official`"),
        ("data.skip", "text not empty or `null`"),
        ("eval.tiou", "tIoU thresholds > 0 and <= 1"),
    ],
)
def test_what_a_key_may_be_is_in_words(name: str, value: str) -> None:
    assert KEYS[name].value == value


def test_a_command_prints_them_alone(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    haan("config", "--keys")
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    lines = blocks[0]
    assert [line.split()[0] for line in lines] == list(KEYS)
    others = {block[0].removeprefix("With method: "): block[1:] for block in blocks[1:]}
    assert list(others) == [name for name in CONFIGS if name != "haan"]
    for name, found in others.items():
        assert [line.split()[0] for line in found] == [key.name for key in own_keys(name)]
    known = {key.name for key in own_keys("wtalc")}
    assert known > {"wtalc.margin", "model.dropout", "optim.lr", "detect.min_clips"}
    assert known.isdisjoint({"method", "data.root", "optim.epochs", "seed", "concepts.top_k"})
    assert " ".join(lines[1].split()) == "data.root required text not empty folder of the data set (ours)"
    for words, message in ((("--keys", given), "--keys: must be given alone"), ((), "FILE: must be given unless")):
        with pytest.raises(InputError, match=message):
            haan("config", *words)
