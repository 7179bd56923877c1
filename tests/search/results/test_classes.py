"""classes.csv: what the winner and the base score on each class, on the same videos, of run folders with weights."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, create_trial

from haan.data.readers import open_data
from haan.data.table import Annotations, FeatureSource
from haan.yamlconfig import read_config
from search.results import classes, classescsv, confirm, export
from search.results.folder import RunFolder, open_study
from search.space.model import Space
from search.space.read import read_kept
from tests.paths import ROOT


@dataclass
class Run:
    """A finished search of an older version: trial 2 won, trial 0 is the base; both were trained on all videos."""

    folder: RunFolder
    space: Space
    study: optuna.Study
    source: FeatureSource
    annotations: Annotations

    def write(self) -> tuple[pd.DataFrame, str | None]:
        """classes.csv of the winner, exported anew; why it is without the base."""
        export.write_config(self.folder, self.space, self.study)
        yaml = self.folder.best_yaml
        written = export.write_predictions(yaml, read_config(yaml), self.source, self.annotations)
        assert written is not None
        why = classescsv.write_csv(self.folder, self.space, self.study, written.found, self.source, self.annotations)
        return pd.read_csv(self.folder.classes_csv), why


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)  # which the space names its data from
    folder = RunFolder(Path(shutil.copytree(ROOT / "tests" / "frozen" / "finished", tmp_path / "finished")))
    space = read_kept(folder.space_yaml)
    source, annotations, _ = open_data(space.base.data)
    return Run(folder, space, open_study(folder), source, annotations)


def test_the_mean_of_a_column_is_its_avg_map_on_the_official_videos(run: Run) -> None:
    table, why = run.write()
    official = pd.read_csv(run.folder.confirm_csv).query("videos == 'official'").set_index("trial")["avg_map"]
    assert why is None and set(table["number"]) == {2} and set(table["videos"]) == {"official"}
    # Another CPU rounds otherwise, which may change a detection.
    assert table["winner"].mean() == pytest.approx(official[2], abs=0.05)
    assert table["base"].mean() == pytest.approx(official[0], abs=0.05)
    np.testing.assert_allclose(table["gain"], table["winner"] - table["base"], atol=1e-9)
    assert tuple(table["class"]) == run.annotations.fine_names
    official_videos = run.annotations.segment_offsets[24]  # the first of them, behind 24 training videos
    assert table["instances"].sum() == len(run.annotations.segments) - official_videos


def drop(weights: Path) -> None:
    shutil.rmtree(weights.parents[1])


def tear(weights: Path) -> None:
    weights.write_bytes(b"torn")


def test_on_the_official_videos_the_winner_stands_beside_the_base_that_was_trained_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = run.write()
    # As in a grid over seeds, where the base of the winner's seed may be another one.
    other = next(trial for trial in run.study.get_trials() if trial.state.name == "COMPLETE" and trial.number % 2)
    monkeypatch.setattr(classescsv, "base_of", lambda *given: other)
    after, why = run.write()
    assert why is None and after.equals(before) and not after["base"].isna().any()


@pytest.mark.parametrize(
    ("harm", "why"), [(drop, "its weights were not found in "), (tear, "must be a safetensors file, got ")]
)
def test_what_is_wrong_with_the_bases_weights_costs_its_column_alone(
    run: Run, harm: Callable[[Path], None], why: str
) -> None:
    (weights,) = run.folder.root.glob("confirm/trial-00007/checkpoint_*/best.safetensors")
    whole, _ = run.write()
    harm(weights)
    table, said = run.write()
    assert said is not None and said.startswith("without the base: ") and why in said
    assert table["winner"].tolist() == whole["winner"].tolist()
    assert table["base"].isna().all() and table["gain"].isna().all()


def test_before_the_final_runs_both_are_scored_on_the_videos_of_the_search(run: Run) -> None:
    run.folder.confirm_journal.unlink()
    table, why = run.write()
    base, *others = (trial for trial in run.study.get_trials() if trial.state.name == "COMPLETE")
    best = max(others, key=lambda trial: trial.value or 0.0)
    assert why is None and set(table["number"]) == {best.number} and set(table["videos"]) == {"holdout"}
    assert table["winner"].mean() == pytest.approx(best.value, abs=0.05)
    assert table["base"].mean() == pytest.approx(base.value, abs=0.05)


def test_figures_are_means_over_the_seeds_that_both_have(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    of_one, _ = run.write()
    known, trials = confirm.read_confirmation(run.folder, run.space, run.study), run.study.get_trials()
    first = {one.params["trial"]: one for one in known.retrained}
    assert [*first] == [2, 0] and set(of_one["seeds"]) == {1}
    detected = classescsv._detected

    def swapped(folder: RunFolder, space: Space, trial: FrozenTrial, one: FrozenTrial, *rest: Any) -> Any:
        """With the second seed each detects as the other does with the first."""
        number = {0: 2, 2: 0}[trial.number] if one.params["seed"] == 99 else trial.number
        return detected(folder, space, trials[number], first[number], *rest)

    def know(*runs: FrozenTrial) -> None:
        more = replace(known, retrained=(*known.retrained, *runs))
        monkeypatch.setattr(confirm, "read_confirmation", lambda *given: more)

    second = [
        create_trial(value=0.0, params=one.params | {"seed": 99}, distributions=one.distributions)
        for one in known.retrained
    ]
    monkeypatch.setattr(classescsv, "_detected", swapped)
    know(*second)
    of_two, why = run.write()
    assert why is None and set(of_two["seeds"]) == {2}
    for column in ("winner", "base"):
        np.testing.assert_allclose(of_two[column], (of_one["winner"] + of_one["base"]) / 2)
    know(second[0])  # which no run of the base has for a fellow, so that it says nothing of the gain
    alone, why = run.write()
    assert why is not None and why.startswith("without 1 of 2 seeds: it was not trained to the end")
    assert alone.equals(of_one)


def test_names_are_read_back_as_they_are_and_what_is_not_known_is_nan(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert classes.read(folder) is None
    head = "number,videos,class,coarse,instances,winner,base,gain"
    folder.classes_csv.write_text(f"{head}\n7,holdout,NA,None,0,,,\n7,holdout,007,nan,3,1.5,0.5,1.0\n")
    found = classes.read(folder)
    assert found is not None and (found.number, found.videos, found.seeds) == (7, "holdout", 1)
    assert found.rows[["class", "coarse"]].to_numpy().tolist() == [["NA", "None"], ["007", "nan"]]
    assert found.rows["winner"].isna().tolist() == [True, False] and found.rows["gain"].tolist()[1] == 1.0
