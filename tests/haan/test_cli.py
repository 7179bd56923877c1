"""`python -m haan` from end to end on a tiny planted set."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import indent

import numpy as np
import pytest

from haan.errors import InputError
from haan.methods.haan.config import HaanConfig
from haan.train import Trainer
from haan.yamlconfig import dump, read_config
from tests.haan.commands import haan
from tests.planted import tiny_config, tiny_table


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> HaanConfig:
    config = tiny_config(tmp_path_factory.mktemp("planted") / "data")
    tiny_table(config)
    return config


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ground_truth(config: HaanConfig) -> dict:
    """The validation videos' annotations as ActivityNet JSON."""
    table, parts = tiny_table(config)
    found = table.annotations
    database = {}
    for video in parts.validation:
        first, last = found.segment_offsets[video], found.segment_offsets[video + 1]
        database[found.names[video]] = {
            "subset": "validation",
            "annotations": [
                {"segment": found.segments[i].tolist(), "label": found.fine_names[found.segment_fine[i]]}
                for i in range(first, last)
            ],
        }
    return {"database": database}


def test_train_detect_and_evaluate_agree(
    config: HaanConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out")
    best = max(float(row["avg_map"]) for row in rows(tmp_path / "out" / "metrics.csv"))
    assert f"avg.mAP {best!r}; written to" in capsys.readouterr().out
    written = (tmp_path / "out" / "best.yaml").read_text()
    assert written == dump(config, whole=True) and "\n  schedule: constant\n" in written, "every key, as `haan config`"
    assert read_config(tmp_path / "out" / "best.yaml") == config
    haan("detect", tmp_path / "out", "--out", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out" / "predictions.json").read_bytes()
    (tmp_path / "truth.json").write_text(json.dumps(ground_truth(config)))
    capsys.readouterr()
    options = ("--tiou", "0.1:0.5:0.05", "--subset", "validation", "--json")
    haan("evaluate", tmp_path / "truth.json", tmp_path / "again.json", *options)
    scored = json.loads(capsys.readouterr().out)
    assert scored["avg_map"] == pytest.approx(best, abs=1e-9)
    assert list(scored["map"]) == ["0.10", "0.15", "0.20", "0.25", "0.30", "0.35", "0.40", "0.45", "0.50"]


def test_an_interrupted_training_goes_on_where_it_stopped(
    config: HaanConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "whole")
    epoch = Trainer.train_epoch

    def interrupted(self: Trainer) -> object:
        if self.epoch == 2:
            raise KeyboardInterrupt
        return epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_epoch", interrupted)
        assert haan("train", tmp_path / "c.yaml", "--out", tmp_path / "broken") == 130
    assert "interrupted after epoch 2; the same command with --resume goes on" in capsys.readouterr().err
    with pytest.raises(InputError, match="must be a new or empty folder unless --resume"):
        haan("train", tmp_path / "c.yaml", "--out", tmp_path / "broken")
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "broken", "--resume")
    for name in ("best.safetensors", "predictions.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    timeless = [
        [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows(tmp_path / name / "metrics.csv")]
        for name in ("broken", "whole")
    ]
    assert timeless[0] == timeless[1]


def _interrupted(self: Trainer) -> object:
    raise KeyboardInterrupt


def _other_features(root: Path) -> None:
    path = root / "features.npy"
    clips = np.load(path, allow_pickle=True)  # our own
    clips[0] = 2 * clips[0]
    np.save(path, clips, allow_pickle=True)


def _other_names(root: Path) -> None:
    path = root / "classes.json"
    names = json.loads(path.read_text())
    path.write_text(json.dumps(names | {"fine": names["fine"][::-1]}))


def _other_segments(root: Path) -> None:
    path = root / "sec2clip_ratios.npy"
    np.save(path, 2 * np.load(path))


@pytest.mark.parametrize("change", [_other_features, _other_names, _other_segments], ids=lambda change: change.__name__)
def test_a_training_goes_on_with_the_data_that_it_began_with_alone(
    config: HaanConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    shutil.copytree(config.data.root, tmp_path / "data")
    (tmp_path / "c.yaml").write_text(dump(replace(config, data=replace(config.data, root=str(tmp_path / "data")))))
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_epoch", _interrupted)
        assert haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out") == 130
    change(tmp_path / "data")
    with pytest.raises(InputError, match="must be a checkpoint of a training on these data .*, got one on others"):
        haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out", "--resume")


def test_a_training_that_detects_nothing_says_so(
    config: HaanConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = replace(config, detect=replace(config.detect, class_threshold=100.0))
    (tmp_path / "c.yaml").write_text(dump(nothing))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert said.err == "warning: an avg.mAP of 0: nothing was detected; the thresholds of detect may be too high\n"
    assert "avg.mAP 0.0; written to" in said.out


def test_a_training_interrupted_in_its_first_epoch_can_be_resumed(
    config: HaanConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_epoch", _interrupted)
        assert haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out") == 130
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out", "--resume")
    assert len(rows(tmp_path / "out" / "metrics.csv")) == config.optim.epochs


def test_a_search_space_stands_for_its_base(
    config: HaanConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(f"base:\n{indent(dump(config), '  ')}search: {{trials: 3}}\n")
    assert read_config(space) == config
    haan("config", space, "--set", "seed=7")
    (tmp_path / "whole.yaml").write_text(capsys.readouterr().out)
    assert read_config(tmp_path / "whole.yaml") == replace(config, seed=7)
    haan("train", space, "--out", tmp_path / "out", "--set", "optim.epochs=1")
    assert read_config(tmp_path / "out" / "best.yaml").optim.epochs == 1
    with pytest.raises(InputError, match=rf"{space}:\d+: optim.lr: must be > 0, got -1"):
        space.write_text(space.read_text().replace(f"lr: {config.optim.lr}", "lr: -1"))
        haan("config", space)


def test_detect_takes_the_data_of_another_configuration(config: HaanConfig, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out", "--set", "optim.epochs=1")
    official = replace(config, data=replace(config.data, validation="official"))
    (tmp_path / "official.yaml").write_text(dump(official))
    text = (
        (tmp_path / "official.yaml")
        .read_text()
        .replace("validation:\n    holdout: 0.25\n    seed: 0\n", "validation: official\n")
    )
    (tmp_path / "official.yaml").write_text(text)
    haan("detect", tmp_path / "out", "--data", tmp_path / "official.yaml", "--out", tmp_path / "official.json")
    assert len(json.loads((tmp_path / "official.json").read_text())["results"]) == 12


def test_weights_of_another_model_are_refused(config: HaanConfig, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out", "--set", "optim.epochs=1")
    with pytest.raises(InputError, match="must be weights of this configuration and data, got .*size mismatch"):
        haan("detect", tmp_path / "out", "--set", "model.width=8", "--out", tmp_path / "p.json")
