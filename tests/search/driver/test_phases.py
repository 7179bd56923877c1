"""What a driver finds to do where another one ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from search.driver.phases import Ended, _race_goes_on, run_phases
from search.results.folder import RunFolder
from search.space.read import read_space
from search.space.studies import study_of
from tests.search.spaces import tiny_space


def test_a_table_that_a_killed_driver_did_not_live_to_write_is_written_though_no_trial_is_left(tmp_path: Path) -> None:
    space, folder = read_space(tiny_space(tmp_path, trials=3)), RunFolder(tmp_path / "runs" / "a")
    folder.root.mkdir(parents=True)
    study = study_of(space, name="tiny", journal=folder.journal, seed=1)
    for _ in range(3):
        number = study.ask().number
        study.report(number, 1, 10.0)
        study.complete(number, {})
    folder.trials_csv.write_text("number\n0\n")
    job, share = SimpleNamespace(space=space, folder=folder, splits={}), SimpleNamespace(units=1)
    work: Any = SimpleNamespace(job=job, share=share, stage=lambda: None)
    assert run_phases(work, study) == Ended()
    assert pd.read_csv(folder.trials_csv)["number"].tolist() == [0, 1, 2]


def test_a_search_that_has_enough_tries_nothing_more_and_says_how_to_go_on(tmp_path: Path) -> None:
    stop = {"patience": 2, "gain": 1.0}
    space, folder = read_space(tiny_space(tmp_path, trials=9, stop=stop)), RunFolder(tmp_path / "runs" / "a")
    folder.root.mkdir(parents=True)
    study = study_of(space, name="tiny", journal=folder.journal, seed=1)
    for value in (10.0, 10.9, 9.0):  # neither of the latter two is 1 above the first
        number = study.ask().number
        study.report(number, 1, value)
        study.complete(number, {})
    said: list[str] = []
    job, share = SimpleNamespace(space=space, folder=folder, splits={}), SimpleNamespace(units=1)
    screen = SimpleNamespace(line=said.append)
    work: Any = SimpleNamespace(job=job, share=share, screen=screen, stage=lambda: None)
    assert run_phases(work, study) == Ended()
    assert said == ["Enough: 2 trials in a row without +1 avg.mAP; `--set search.stop=null` goes on"]
    assert pd.read_csv(folder.trials_csv)["number"].tolist() == [0, 1, 2]


def test_a_race_says_who_is_behind_and_whose_runs_all_failed(tmp_path: Path) -> None:
    space: Any = read_space(tiny_space(tmp_path))
    before = [{"trial": number, "seed": seed} for seed in (2, 3) for number in (4, 0, 5, 6, 7)]
    wanted = [*before, {"trial": 4, "seed": 4}, {"trial": 0, "seed": 4}]
    runs = [SimpleNamespace(trial=run["trial"], counts=True, avg_map=5.0) for run in before if run["trial"] != 7]
    runs += [SimpleNamespace(trial=7, counts=True, avg_map=None), SimpleNamespace(trial=7, counts=False, avg_map=5.0)]
    known: Any = SimpleNamespace(wanted=wanted, runs=runs)
    assert _race_goes_on(space, before, known) == (
        "Race: trials 4, 0 (base) go on with seed 4, trials 5, 6 are behind, trial 7 failed with every seed"
    )
