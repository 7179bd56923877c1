"""Runs side by side, from run folders that were made by an older version."""

import os
import shutil
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from haan.errors import InputError
from search import report
from search.results.folder import RunFolder
from search.results.listing import Listed, by_epoch, differing, gathered, incomparable, listed, runs_below
from search.study import journal
from tests.paths import ROOT
from tests.search.page.report_run import new_study, write_space

FROZEN = ROOT / "tests" / "frozen"


def test_a_run_is_a_row_with_how_it_stands_and_what_it_won() -> None:
    found = {one.root.name: listed(one) for one in runs_below(FROZEN)}
    assert {name: run.state for name, run in found.items()} == {
        "finished": "done",
        "interrupted": "interrupted",
        "table": "done",
    }
    method, _, trials, *scores = found["finished"].cells
    assert (method, trials) == ("haan (weak)", "6 of 6, 2 pruned")
    # As its best.yaml says: mean 28.232 ± 5.823, +3.32 (-8.83 to +15.47); official 11.018, the base 12.519.
    assert scores[:4] == ["11.02 (12.52)", "-1.50", "28.23 ± 5.82", "+3.32 (-8.83 to +15.47) noise"]
    assert found["interrupted"].cells[2:7] == ("2 of 5", "–", "–", "–", "–")


def test_a_driver_that_is_alive_is_running_and_one_that_is_gone_or_elsewhere_is_not_said_to_be(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(FROZEN / "interrupted", tmp_path / "a")))
    with journal.only_driver(folder.lock):
        assert listed(folder).state == "running"
        folder.lock.write_text(f"process {os.getpid()} on another, since 2026-11-28 07:00:00\n")
        assert listed(folder).state == "interrupted"
    here = f"on {socket.gethostname()}, since 2026-11-28 07:00:00\n"
    for number in (os.getpid(), 2**22 + 1):  # another process bears the driver's now; above any process's number
        folder.lock.write_text(f"process {number} {here}")
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
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert said.err == (
        "warning: the runs differ in the videos of the search (data.validation): their avg.mAP can't be compared\n"
    )
    heads = [line for before, line in zip(["", *lines], lines, strict=False) if before == ""]
    assert [head.split()[0] for head in heads[:4]] == ["run", "best", "winner's", "winner's"]
    apart = lines[lines.index(heads[3]) :]
    assert apart[0].split() == ["winner's", "setting", "finished", "table"]
    assert "loss.coarse_pooling      max       mean" in apart and not any("optim.lr" in line for line in apart)
    with pytest.raises(InputError, match="no such file; name the folder of a search"):
        report.main([FROZEN / "finished", FROZEN / "training"])


def test_runs_that_are_scored_on_other_things_are_said_not_to_compare() -> None:
    one = Listed("one", "done", scored_on={"the data": "1a", "eval.tiou": (0.5,)})
    other = Listed("other", "done", scored_on={"the data": "2b", "eval.tiou": (0.1, 0.5)})
    assert incomparable([one, other]) == ["the runs differ in the data, eval.tiou: their avg.mAP can't be compared"]
    assert incomparable([one, Listed("unread", "no such file"), one]) == incomparable([]) == []


def test_runs_of_another_objective_are_said_not_to_compare(tmp_path: Path) -> None:
    runs = []
    for objective in ("best", "recent"):
        write_space(tmp_path / objective, objective=objective)
        new_study(tmp_path / objective)
        runs.append(listed(RunFolder(tmp_path / objective)))
    what = "what a trial's value is (search.objective)"
    assert incomparable(runs) == [f"the runs differ in {what}: their avg.mAP can't be compared"]


def test_the_best_so_far_is_told_by_the_epochs_of_all_trials_that_had_ended(tmp_path: Path) -> None:
    write_space(tmp_path)
    study = new_study(tmp_path)
    began = datetime(2026, 1, 2)
    # By their ends: trial 1 (pruned) after 2 epochs, trial 0 after 4 more, trial 2 after 4 more; trial 3 has none.
    for state, value, epochs, second in (
        (TrialState.COMPLETE, 10.0, 4, 2),
        (TrialState.PRUNED, None, 2, 1),
        (TrialState.COMPLETE, 12.0, 4, 3),
        (TrialState.FAIL, None, 0, 4),
    ):
        trial = create_trial(state=state, value=value, intermediate_values=dict.fromkeys(range(1, epochs + 1), 1.0))
        trial.datetime_complete = began + timedelta(seconds=second)
        study.add_trial(trial)
    assert listed(RunFolder(tmp_path)).path == [(2, None), (6, 10.0), (10, 12.0), (10, 12.0)]


def test_best_so_far_and_the_winners_epochs_are_compared_at_the_same_numbers_of_epochs() -> None:
    runs = [
        Listed("a", "done", path=[(2, None), (6, 10.0), (10, 12.0)], curve=[(1, 3.0), (2, 5.0), (3, 4.0)]),
        Listed("b", "done", path=[(16, 11.0)], curve=[(2, 6.0), (4, 8.0), (6, 9.0)]),  # every second epoch is scored
        Listed("c", "must have a study"),
    ]
    # The most epochs are 16, of all trials, and 6, of a winner.
    assert gathered(runs) == [
        ["best after trial-epochs", "2", "4", "8", "16", "at its end"],
        ["a", "–", "–", "10.00", "–", "12.00 (10)"],
        ["b", "–", "–", "–", "11.00", "11.00 (16)"],
    ]
    assert by_epoch(runs) == [
        ["winner's avg.mAP at epoch", "1", "2", "3", "4", "5", "6"],
        ["a", "3.00", "5.00", "4.00", "–", "–", "–"],
        ["b", "–", "6.00", "6.00", "8.00", "8.00", "9.00"],
    ]
    assert gathered(runs[2:]) == by_epoch(runs[2:]) == []


def test_settings_that_all_winners_share_are_left_out() -> None:
    runs = [Listed("a", "done", settings={"seed": 1, "optim.lr": 0.1}), Listed("b", "no winner")]
    assert differing(runs) == []
    runs.append(Listed("c", "done", settings={"seed": 1, "optim.lr": 0.2}))
    assert differing(runs) == [["winner's setting", "a", "c"], ["optim.lr", "0.1", "0.2"]]
