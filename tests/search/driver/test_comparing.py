"""Two tiny searches and a student compared, run for real, interrupted, and gone on with."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from haan.yamlconfig import plain
from search.results.folder import RunFolder
from search.table import main
from tests.methods import tiny_of
from tests.paths import ROOT
from tests.search.head import Head


def spaces(folder: Path) -> Path:
    for method in ("haan", "wtalc", "student"):
        base = plain(tiny_of(method, Path("data")))
        search = {
            "parameters": {"optim.lr": {"float": [1e-3, 1e-2], "log": True}},
            "resources": {"cpu": 1, "gpu": 0},
            "confirm": {"top": 1, "seeds": 2},
        }
        (folder / f"{method}.yaml").write_text(yaml.safe_dump({"base": base, "search": search}))
    searches = {"HAAN": {"space": "haan.yaml"}, "W-TALC": {"space": "wtalc.yaml"}}
    searches["Student"] = {"space": "student.yaml", "teacher": "HAAN"}
    found = {"title": "Some methods", "epochs": 6, "official_seeds": 2, "searches": searches}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({"compare": found}, sort_keys=False))
    return path


def table(folder: Path, head: Head, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "search" / "table.py"), *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=os.environ | head.env, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.ray
def test_a_comparison_that_was_interrupted_goes_on_and_its_table_is_that_of_its_runs(
    tmp_path: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = spaces(tmp_path), tmp_path / "runs" / "a"
    first = table(tmp_path, head, path, "--name", "a")
    while not RunFolder(root / "w-talc").trials_csv.exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 130
    again = re.search(r"^To go on with the comparison: (.*)", said, re.MULTILINE)
    assert again is not None and not (root / "compare.md").exists()

    over = (root / "haan" / "study.journal").read_bytes()
    script, *words = shlex.split(again[1])[1:]
    assert script.endswith("table.py")
    second = table(tmp_path, head, *words, "--quiet")
    said, wrong = second.communicate(timeout=300)
    assert second.returncode == 0, wrong
    assert (root / "haan" / "study.journal").read_bytes() == over, "a search that is over is not touched again"
    text = (root / "compare.md").read_text()
    assert text in said and "Student: base and winner are taught by the winner of another line" in text
    rows = pd.read_csv(root / "compare.csv")
    assert list(rows["line"].unique()) == ["HAAN", "W-TALC", "Student"] and set(rows["supervision"]) == {"weak"}
    lines = {cell[0]: cell for line in text.splitlines() if (cell := [one.strip() for one in line.split("|")[1:-1]])}
    for name, run in (("HAAN", "haan"), ("W-TALC", "w-talc"), ("Student", "student")):
        own = pd.read_csv(root / run / "confirm.csv")
        own = own[own["videos"] == "official"]
        for column, of in ((2, own["base"]), (3, ~own["base"] if not own["base"].all() else own["base"])):
            assert float(lines[name][column].split()[0]) == pytest.approx(own[of]["avg_map"].mean(), abs=0.005)
        trials = pd.read_csv(root / run / "trials.csv")
        assert int(lines[name][7]) == trials["epochs"].sum() >= 6
    assert "; scored on the official validation videos, which chose nothing." in text
    (teacher,) = (root / "teachers").glob("haan-*/best.yaml")
    assert yaml.safe_load(teacher.read_text())["data"]["validation"]["holdout"] == 0.25, "not all training videos"

    best = (root / "w-talc" / "best.yaml").read_bytes()
    (root / "w-talc" / "best.yaml").unlink()  # as a kill leaves it between the last training and what leaves
    third = table(tmp_path, head, *words, "--quiet")
    assert text in third.communicate(timeout=120)[0] and third.returncode == 0
    assert (root / "w-talc" / "best.yaml").read_bytes() == best

    main(root)
    assert text in capsys.readouterr().out
    path.write_text(path.read_text().replace("epochs: 6", "epochs: 7"))
    other = table(tmp_path, head, *words)
    expected = "--resume must go on with the same comparison, got another in epochs, HAAN, W-TALC, Student"
    assert expected in other.communicate(timeout=60)[1]
    assert other.returncode == 2
