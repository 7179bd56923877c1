"""Which method a result is of, and what that was told of the training videos: wherever results are shown."""

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from haan.methods.names import CONFIGS
from haan.yamlconfig import plain
from search.page.page import write_report
from search.results.folder import RunFolder
from search.results.listing import listed, overview
from search.results.papertable import cells, rows, tabulate, title
from search.results.trialscsv import write_trials
from search.space.model import Space, front
from search.space.read import read_space
from tests.methods import tiny_of
from tests.search.page.report_run import new_study

WEAK, FULL = "weak supervision: video-level labels", "full supervision: segments"
TABLE: dict[str, Any] = {"table": {"title": "All methods"}}


def made(folder: Path, method: str, rows: dict[str, Any] | None = None, **more: Any) -> tuple[Space, optuna.Study]:
    """A run folder, each of whose first points has a trial, the first without any score."""
    grid = {"sampler": {"name": "grid"}, "parameters": {"seed": [1, 2]}} | ({} if rows is None else {"rows": rows})
    search = grid if more else {"trials": 2, "parameters": {"optim.lr": {"float": [1e-3, 1e-1], "log": True}}}
    text = yaml.safe_dump({"base": plain(tiny_of(method, Path("data"))), "search": search} | more, sort_keys=False)
    folder.mkdir()
    (folder / "space.yaml").write_text(text)
    space, study = read_space(folder / "space.yaml"), new_study(folder)
    points = [point | {"seed": seed} for point in front(space) for seed in (1, 2)] if not more else front(space)
    for number, point in enumerate(points):
        settings = len(space.other_detects.get(point.get("method", ""), space.detects))
        known = {"avg_map_by_detect": [9.0] * settings, "map_by_tiou": [9.0] * 9} if number else {}
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if number else TrialState.FAIL,
                value=9.0 if number else None,
                params={key: value for key, value in point.items() if key in space.parameters},
                distributions=dict(space.parameters),
                user_attrs=known,
            )
        )
    return space, study


def about(folder: Path, space: Space, study: optuna.Study) -> str:
    """The report's facts."""
    text = write_report(RunFolder(folder), space, study).read_text()
    return text.partition('<section id="about"')[2].partition("</section>")[0]


@pytest.mark.parametrize("method", list(CONFIGS))
def test_a_search_says_it_in_trials_csv_its_report_and_the_list_of_runs(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    space, study = made(folder, method)
    full = method in ("actionformer", "bmn", "ssn")
    write_trials(RunFolder(folder), space, study.trials)
    trials = pd.read_csv(folder / "trials.csv")
    assert trials.columns[-2:].tolist() == ["method", "supervision"] and len(trials) == 2
    assert set(trials["method"]) == {method} and set(trials["supervision"]) == {"full" if full else "weak"}
    assert about(folder, space, study).count(f"<dd>{method}, {FULL if full else WEAK}</dd>") == 1
    head, row = overview([listed(RunFolder(folder))])
    assert dict(zip(head, row, strict=True))["method (labels)"] == f"{method} ({'full' if full else 'weak'})"


def test_columns_that_were_there_before_stand_where_they_stood(tmp_path: Path) -> None:
    space, study = made(tmp_path / "a", "haan")
    write_trials(RunFolder(tmp_path / "a"), space, study.trials)
    assert pd.read_csv(tmp_path / "a" / "trials.csv").columns[:12].tolist() == [
        "number", "state", "avg_map", "best_epoch", "epochs", "seconds", "node", "seed", "failure", "retries",
        "empty_clusters", "params.optim.lr",
    ]  # fmt: skip


def test_a_table_says_it_of_its_rows_whatever_its_base(tmp_path: Path) -> None:
    names = {"W-TALC": {"method": "wtalc"}, "BMN": {"method": "bmn"}}
    space, study = made(tmp_path / "a", "haan", names, **TABLE)
    write_trials(RunFolder(tmp_path / "a"), space, study.trials)
    trials = pd.read_csv(tmp_path / "a" / "trials.csv")
    told = dict(zip(trials["row"], trials["supervision"], strict=True))
    assert told == {"W-TALC": "weak", "BMN": "full"} and dict(zip(trials["row"], trials["method"], strict=True)) == {
        "W-TALC": "wtalc",
        "BMN": "bmn",
    }
    assert f"<dd>wtalc, {WEAK}; bmn, {FULL}</dd>" in about(tmp_path / "a", space, study)
    table = tabulate(space, study, "")
    assert title(table) == "All methods" and [row[2] for row in cells(table)] == ["labels", "weak", "full"]
    assert [(row["method"], row["supervision"]) for row in rows(table)][:: len(table.columns)] == [
        ("wtalc", "weak"),
        ("bmn", "full"),
    ]


@pytest.mark.parametrize(("method", "told"), [("haan", WEAK), ("ssn", FULL)])
def test_a_table_of_one_method_says_it_above(method: str, told: str, tmp_path: Path) -> None:
    lines = {"slow": {"optim.lr": 1e-3}, "fast": {"optim.lr": 1e-2}}
    space, study = made(tmp_path / "a", method, lines, **TABLE)
    table = tabulate(space, study, "")
    assert title(table) == f"All methods (ours: {method}, {told})"
    assert {row["method"] for row in rows(table)} == {method}
    assert f"<dd>{method}, {told}</dd>" in about(tmp_path / "a", space, study)
