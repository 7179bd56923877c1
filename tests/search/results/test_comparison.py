"""The table of several methods' searches: its figures by hand, and two tiny searches and a student, run for real."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

from haan.errors import InputError
from haan.yamlconfig import plain
from search.results.comparison import Compared, Kept, KeptRun, Line, cells, kept_file, markdown, read_kept
from search.results.confirm import Confirmed
from search.results.folder import RunFolder
from search.results.loaded import Run
from search.results.unseen import Unseen
from search.table import main
from tests.methods import tiny_of
from tests.paths import ROOT
from tests.search.head import Head
from tests.search.results.repetitions import space


def scored(number: int, *scores: float) -> Confirmed:
    """With seeds 1, 2, and so on."""
    seeds = tuple(range(1, 1 + len(scores)))
    return Confirmed(number, number == 0, "chosen", seeds, scores, len(scores))


def made(folder: Path, *found: Unseen | None) -> Compared:
    run = Run(RunFolder(folder), space(folder), optuna.create_study())
    names = ("first", "second", "third")
    lines = [Line(name, run, one, 4, 30, 9, 0.5) for name, one in zip(names, found, strict=True)]
    return Compared(folder, Kept("Some methods", 30, {name: KeptRun(name, "a") for name in names}), tuple(lines))


def test_gains_and_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Differences 2, 3, 1 have mean 2 and sd 1: 2 +- t(0.975; 2) / sqrt(3) = 2 +- 4.303 x 0.577."""
    one = Unseen(scored(3, 12.0, 15.0, 12.0), scored(0, 10.0, 12.0, 11.0))
    other = Unseen(scored(0, 10.0, 12.0, 11.0))
    head, *rows = cells(made(tmp_path, one, other, None))
    assert head[2:6] == ["base", "winner", "gain", "against the first"]
    assert rows[0][1:6] == ["weak", "11.00 ± 1.00", "13.00 ± 1.73", "+2.00 (-0.48 to +4.48)", ""]
    assert rows[1][2:6] == ["11.00 ± 1.00", "11.00 ± 1.00", "", "-2.00 (-4.48 to +0.48)"], "its base won"
    assert rows[2][2:] == ["-", "-", "", "", "4", "30", "9", "0.50"]


def test_seeds_that_one_lacks_are_left_out_of_a_difference_and_a_search_without_a_winner_is_named(
    tmp_path: Path,
) -> None:
    short = Unseen(scored(3, 12.0, 15.0), scored(0, 10.0, 12.0, 11.0))
    long = Unseen(scored(0, 10.0, 12.0, 11.0))
    found = made(tmp_path, short, long, None)
    assert cells(found)[2][5] == "-2.50 (-8.85 to +3.85)"  # of 2 and 3: t(0.975; 1) x 0.5 = 6.353
    assert "NOT WHOLE: no winner and base yet of third." in markdown(found)


def test_a_winner_is_not_taken_for_a_base_that_was_not_trained(tmp_path: Path) -> None:
    found = made(tmp_path, Unseen(scored(3, 12.0, 15.0)), Unseen(scored(0, 10.0, 12.0)), None)
    assert cells(found)[1][2:5] == ["-", "13.50 ± 2.12", ""] and found.missing == ["first", "third"]


def test_what_a_comparison_was_asked_for_is_kept_and_what_differs_is_named(tmp_path: Path) -> None:
    kept = Kept("Methods", 9, {"HAAN": KeptRun("haan", "a"), "Student": KeptRun("student", "b", "haan")})
    kept_file(tmp_path).write_text(kept.text)
    assert read_kept(tmp_path) == kept and kept.differences(read_kept(tmp_path)) == []
    other = Kept("Methods", 8, {"HAAN": KeptRun("haan", "c"), "ASL": KeptRun("asl", "b")})
    assert kept.differences(other) == ["epochs", "HAAN", "Student", "ASL"]


def test_a_file_of_that_name_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    kept_file(tmp_path).write_text("runs: 1\n")
    with pytest.raises(InputError, match="must be as search/table.py wrote it, got another"):
        read_kept(tmp_path)


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
