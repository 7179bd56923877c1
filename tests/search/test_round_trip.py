"""Published annotations, converted, searched on, trained again, detected and scored: one figure all the way."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from haan.config import Data
from haan.yamlconfig import plain
from search.results.folder import RunFolder
from tests.paths import ROOT
from tests.planted import tiny_config
from tests.search.head import Head
from tests.search.spaces import OWN_RAY

pytestmark = [pytest.mark.slow, pytest.mark.ray]
CLASS_OF = {"pick up": "take", "put down": "take", "wrap": "pack", "tape": "pack"}
CLIPS, TRAIN, VALIDATION = 40, 24, 12


def ground_truth() -> dict[str, Any]:
    """In the form of FineAction's annotations_gt.json: three actions a video, of two or three classes."""
    rng, database = np.random.default_rng(0), {}
    for i in range(TRAIN + VALIDATION):
        starts = np.sort(rng.choice(12, 3, replace=False)) * 5.0
        annotations = [
            {"label": str(rng.choice(list(CLASS_OF))), "segment": [start, start + float(rng.uniform(2.5, 5))]}
            for start in starts.tolist()
        ]
        subset = "training" if i < TRAIN else "validation"
        database[f"v_{i:08d}"] = {"subset": subset, "duration": 64.0, "annotations": annotations}
    return {"database": database}


def python(folder: Path, *words: object, env: Mapping[str, str] = OWN_RAY) -> str:
    command = [sys.executable, *map(str, words)]
    environment = os.environ | env | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def space(folder: Path) -> Path:
    config = plain(tiny_config(Path("data")))
    data = Data(root="data", features="features.npy", train_videos=TRAIN, validation="official")
    parameters = {"loss.pseudo": {"float": [1e-4, 1.0], "log": True}, "detect.alpha": {"sweep": "-0.4:0.4:0.2"}}
    search = {"trials": 3, "sampler": {"name": "random"}, "pruner": {"name": "none"}, "parameters": parameters}
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({
            "base": config | {"data": plain(data)},
            "search": search | {"resources": {"cpu": 1, "gpu": 0}},
        })
    )  # fmt: skip
    return path


def evaluated(folder: Path, predictions: Path) -> float:
    tiou = ("--tiou", "0.1:0.5:0.05", "--subset", "validation", "--json")
    return json.loads(python(folder, "-m", "haan", "evaluate", "truth.json", predictions, *tiou))["avg_map"]


def test_convert_search_train_detect_and_evaluate_give_one_figure(tmp_path: Path, head: Head) -> None:
    (tmp_path / "annotations_gt.json").write_text(json.dumps(ground_truth()))
    (tmp_path / "hierarchy.json").write_text(json.dumps(CLASS_OF))
    python(tmp_path, "-m", "haan", "convert", "fineaction", "annotations_gt.json", "hierarchy.json", "--out", "real")
    shape = ("--like", "real", "--train-videos", TRAIN, "--videos", f"{TRAIN},{VALIDATION}", "--clips", CLIPS)
    python(tmp_path, "-m", "haan", "plant", "--out", "data", *shape, "--dim", 16, "--noise", 0.3)

    python(tmp_path, ROOT / "search" / "run.py", space(tmp_path), "--name", "a", "--quiet", env=head.env)
    folder = RunFolder(tmp_path / "runs" / "a")
    trials = pd.read_csv(folder.trials_csv)
    best = float(trials["avg_map"].max())
    assert best > 0 and trials["state"].tolist() == ["COMPLETE"] * 3

    said = python(tmp_path, "-m", "haan", "train", folder.best_yaml, "--out", "trained")
    assert float(said.rpartition("avg.mAP ")[2].partition(";")[0]) == best
    python(tmp_path, "-m", "haan", "detect", "trained", "--out", "detected.json")
    python(tmp_path, "-m", "haan", "detect", folder.root, "--out", "of-the-run.json")
    python(tmp_path, "-m", "haan", "convert", "truth", folder.best_yaml, "--out", "truth.json")
    files = (folder.predictions, Path("trained", "predictions.json"), Path("detected.json"), Path("of-the-run.json"))
    (found,) = {evaluated(tmp_path, path) for path in files}
    assert found == pytest.approx(best, rel=1e-13), "a ground truth orders classes otherwise, and so rounds their mean"
