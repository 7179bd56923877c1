"""Everything of `python -m tests.gpu` that a CPU can run, at a tiny size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from haan.methods.names import CONFIGS
from tests.gpu.__main__ import main
from tests.paths import ROOT


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.gpu", *words, "--out", folder / "gpu.json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_what_a_cpu_can_run_of_it_runs(tmp_path: Path) -> None:
    ended = run(tmp_path, "parity", "methods", "speed", "--tiny")
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = {row["work"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    parity = [row for row in rows.values() if row["part"] == "parity" and row["work"] != "steps are graphs"]
    assert len(parity) == 5 and all(row["holds"] for row in parity)
    for method in CONFIGS:
        apart, graphs, *steps = (row for work, row in rows.items() if work.startswith(f"{method}: "))
        assert (
            apart["part"] == "methods" and apart["holds"] and graphs["holds"] is (None if method == "d2net" else False)
        )
        assert len(steps) == 2 and all(row["value"] > 0 for row in steps)
    assert rows["a step, small"]["value"] > 0
    assert "| a step / bare heads, small" in ended.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_processes_beside_each_other_and_the_search_run_on_a_cpu(tmp_path: Path) -> None:
    ended = run(tmp_path, "beside", "search", "--tiny")
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = {row["work"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert rows["small, 2 processes"]["value"] > 0 and rows["the demo's trials on a CPU"]["value"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["speeds", "--tiny"], "PART: must be one of parity, methods, speed, beside, search, got speeds"),
        (["speed"], "PyTorch finds no CUDA device here; --tiny runs everything that a CPU can"),
    ],
)
def test_what_can_not_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.gpu", *words])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and said in capsys.readouterr().err
