"""Runs side by side, from run folders that were made by an older version."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from haan.errors import InputError
from search import report
from search.results.folder import RunFolder
from search.results.listing import Listed, differing, listed, runs_below
from tests.paths import ROOT

FROZEN = ROOT / "tests" / "frozen"


def test_a_run_is_a_row_with_how_it_stands_and_what_it_won() -> None:
    found = {one.root.name: listed(one) for one in runs_below(FROZEN)}
    assert {name: run.state for name, run in found.items()} == {
        "finished": "done",
        "interrupted": "interrupted",
        "table": "done",
    }
    _, trials, *scores = found["finished"].cells
    assert trials == "6 of 6, 2 pruned"
    # As its best.yaml says: mean 28.232 +- 5.823, +3.32 (-8.83 to +15.47); official 11.018, the base 12.519.
    assert scores[:3] == ["11.02 (12.52)", "28.23 +- 5.82", "+3.32 (-8.83 to +15.47)"]
    assert found["interrupted"].cells[1:5] == ("2 of 5", "–", "–", "–")


def test_a_driver_that_is_alive_is_running_and_one_that_is_gone_or_elsewhere_is_not_said_to_be(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(FROZEN / "interrupted", tmp_path / "a")))
    here, elsewhere = f"on {socket.gethostname()}", "on another"
    for holder, state in ((f"{os.getpid()} {here}", "running"), (f"{os.getpid()} {elsewhere}", "interrupted")):
        folder.lock.write_text(f"process {holder}, since 2026-11-28 07:00:00\n")
        assert listed(folder).state == state
    folder.lock.write_text(f"process {2**22 + 1} {here}, since 2026-11-28 07:00:00\n")  # above any process's number
    assert listed(folder).state == "interrupted"


def test_a_run_that_can_not_be_read_says_why_and_the_others_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("finished", "table"):
        shutil.copytree(FROZEN / name, tmp_path / name)
    (tmp_path / "table" / "space.yaml").write_text("base: [\n")
    (tmp_path / "a file").touch()
    (tmp_path / "no run").mkdir()
    report.runs(tmp_path)
    head, finished, table, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["run", "state"] and finished.startswith("finished  done ")
    assert table.startswith("table     ") and "space.yaml:2: " in table
    with pytest.raises(InputError, match="must be a folder with runs in it"):
        report.runs(tmp_path / "no run")


def test_several_runs_are_compared_in_the_settings_in_which_their_winners_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report.main([FROZEN / "finished", FROZEN / "table"])
    lines = capsys.readouterr().out.splitlines()
    apart = lines[lines.index("") + 1 :]
    assert apart[0].split() == ["winner's", "setting", "finished", "table"]
    assert "loss.coarse_pooling      max       mean" in apart and not any("optim.lr" in line for line in apart)
    with pytest.raises(InputError, match="no such file; name the folder of a search"):
        report.main([FROZEN / "finished", FROZEN / "training"])


def test_settings_that_all_winners_share_are_left_out() -> None:
    runs = [Listed("a", "done", settings={"seed": 1, "optim.lr": 0.1}), Listed("b", "no winner")]
    assert differing(runs) == []
    runs.append(Listed("c", "done", settings={"seed": 1, "optim.lr": 0.2}))
    assert differing(runs) == [["winner's setting", "a", "c"], ["optim.lr", "0.1", "0.2"]]
