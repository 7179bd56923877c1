"""The main job as its user runs it: real processes, real Ray, a tiny planted set."""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import pytest

from haan.errors import InputError
from haan.yamlconfig import read_config
from search import export
from search.results.checkpoints import Checkpoints
from search.results.folder import RunFolder, open_study
from search.results.retraining import named
from search.space.confirmkeys import Repeats
from search.space.read import read_kept
from search.study import journal
from search.study.record import TrialRecord
from tests.paths import ROOT
from tests.search.cards import scalars
from tests.search.earlier_runs import earlier_run
from tests.search.head import Head
from tests.search.spaces import run, tiny_space

pytestmark = pytest.mark.ray


def test_a_search_leaves_a_true_study_and_a_configuration_that_trains_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier_run(tmp_path)
    path = tiny_space(tmp_path, confirm={"top": 2, "seeds": 2})
    ended = run("run.py", tmp_path, path, "--name", "a", "--address", "local", "--from", "runs/old")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "Starting Ray ..."
    assert lines[1].startswith("Running on a local Ray of its own: 1 node(s), ")
    assert "Starting 2 worker(s) ..." in lines[:7]
    assert sum(line.startswith("note: takes from runs/old: the best 3 of its 6 trials ") for line in lines) == 1
    shown = [line for line in lines if line.startswith("[") and " left" not in line]
    assert sum("] trial " in line for line in shown) == 5
    again = [line for line in shown if "] confirm trial " in line or "] final trial " in line]
    assert len(again) == len(shown) - 5
    assert "\x1b" not in ended.stdout, "no terminal, no control characters"
    folder = RunFolder(tmp_path / "runs" / "a")
    study = open_study(folder)
    assert [trial.number for trial in study.trials] == list(range(5))
    states = [trial.state.name for trial in study.trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert study.trials[0].params == {"concepts.clusters": 8, "loss.pseudo": 0.001}
    assert study.trials[1].params == {"concepts.clusters": 5, "loss.pseudo": 0.1}, "what won the earlier run"
    assert states[1] == "COMPLETE", "it is not pruned; the base is, where others have ended before it"
    table = pd.read_csv(folder.trials_csv)
    assert table["state"].tolist() == states and {"params.loss.pseudo", "detect.alpha", "node"} <= set(table)

    # What was spent is from the start of trials to their end.
    said = re.search(
        r"Spent ([\d,]+) CPU-seconds on them and ([\d,]+) CPU-seconds on those trained again", ended.stdout
    )
    repeated = journal.load(folder.confirm_journal)
    assert said is not None and repeated is not None
    for seconds, trials in zip(said.groups(), (study.trials, repeated.trials), strict=True):
        stretches = [stretch for trial in trials for stretch in TrialRecord.of(trial).runs or ()]
        assert float(seconds.replace(",", "")) == pytest.approx(
            sum((end_s or 0) - start_s for start_s, end_s, _ in stretches), abs=0.51
        )

    # Weights of pruned trials are gone, those of the others are there.
    kept = Checkpoints(str(folder.root.resolve() / "trials"))
    assert [len(kept.of(trial.number)) for trial in study.trials] == [int(s == "COMPLETE") for s in states]

    # The best, the base and what won the earlier run, twice each with new seeds; then the winner and these two on all
    # training videos.
    confirmed = pd.read_csv(folder.confirm_csv)
    seed = read_kept(folder.space_yaml).base.seed
    held_out = confirmed[confirmed["videos"] == "holdout"]
    assert set(zip(held_out["seed"], held_out["holdout"], strict=True)) == {(seed + 1, 1), (seed + 2, 2)}
    assert (held_out.groupby("number")["seed"].count() == 2).all() and (confirmed["state"] == "COMPLETE").all()
    assert {0, 1} <= set(held_out["number"]) and (held_out.groupby("number")["best_epoch"].nunique() == 1).all()
    means = held_out.groupby("number")["avg_map"].mean()
    winner = int(means.idxmax())
    official = confirmed[confirmed["videos"] == "official"]
    assert set(zip(official["number"], official["seed"], strict=True)) == {
        (number, one) for number in (winner, 1, 0) for one in (seed + 2 + 1, seed + 2 + 2)
    }
    assert set(zip(confirmed["number"] == 1, confirmed["source"].fillna(""), strict=True)) == {
        (True, "runs/old"), (False, ""),
    }  # fmt: skip
    at = next(number for number, line in enumerate(lines) if line.startswith("the same seeds, side by side"))
    for number, line in zip(dict.fromkeys((winner, 1, 0)), lines[at + 1 :], strict=False):
        assert line.startswith(named(number, number == 0, ["runs/old"] * (number == 1)))
        for part in (official, held_out):
            assert f"{part[part['number'] == number]['avg_map'].mean():.2f} ± " in line
    assert official.index.tolist() == list(range(len(official))), "they come first"
    final = official[official["seed"] == official["seed"].min()].set_index("number")
    means = official.groupby("number")["avg_map"].mean()
    classes = pd.read_csv(folder.classes_csv)
    about = {key: set(classes[key]) for key in ("number", "videos", "seeds")}
    assert about == {"number": {winner}, "videos": {"official"}, "seeds": {2}}
    scored = [classes["winner"].mean()] + ([classes["base"].mean()] if winner else [])
    assert scored == pytest.approx(means[[winner, 0][: len(scored)]].tolist())
    assert (
        f"Best: {named(winner, winner == 0, ['runs/old'] * (winner == 1))}; " in ended.stdout
        and "Confirmed: avg.mAP mean" in ended.stdout
    )
    head = "On the official videos, which chose nothing, after training on all training videos: avg.mAP mean"
    assert f"{head} {means[winner]:.3f} ± " in ended.stdout and (f"the base {means[0]:.3f} ± " in ended.stdout) == (
        winner != 0
    )

    best = read_config(folder.best_yaml)
    assert best.threads == 1
    assert (best.data.validation, best.eval.epoch) == ("official", "last")
    (epoch,) = set(held_out.set_index("number").loc[[winner], "best_epoch"])
    assert best.optim.epochs == epoch == final["epochs"][winner]
    (alpha,) = set(held_out.set_index("number").loc[[winner], "detect.alpha"])
    assert best.detect.alpha == alpha == final["detect.alpha"][winner]
    assert read_kept(folder.space_yaml).plan.confirm == Repeats(top=2, seeds=2)
    header = dict(line[2:].split(": ", 1) for line in folder.best_yaml.read_text().splitlines() if line[0] == "#")
    again = [sys.executable, "-m", "haan", "train", folder.best_yaml, "--out", "again"]
    said = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True).stdout
    assert f"avg.mAP {header['avg_map_at_seed']}; written to again" in said
    assert float(header["avg_map_at_seed"]) == final["avg_map"][winner] and int(header["seed"]) == best.seed == seed + 3
    assert (
        header["trial"] == str(winner)
        and "over 2 new seeds" in header["confirmation"]
        and header["confirmed_gain_over_base"]
    )
    weights = (tmp_path / "again" / "best.safetensors").read_bytes()
    assert weights == (folder.root / "best.safetensors").read_bytes()
    predictions = (tmp_path / "again" / "predictions.json").read_bytes()
    assert predictions == folder.predictions.read_bytes()
    assert folder.report.read_text().startswith("<!doctype html>")

    # Every epoch of every trial stands in one table, and TensorBoard finds each trial's curve.
    curves = pd.read_csv(folder.curves_csv)
    searched = curves[(curves["seed"] == seed) & (curves["videos"] == "holdout")].groupby("number")
    for trial in study.trials:
        values = list(trial.intermediate_values.values())
        assert searched.get_group(trial.number)["avg_map"].tolist() == values
        (events,) = (folder.curves / f"trial-{trial.number:05d}").glob("events.out.tfevents.*")
        assert scalars(events, "mAP/avg.mAP") == pytest.approx(values)
    assert curves.groupby(["number", "videos", "seed"]).ngroups == len(study.trials) + len(confirmed)

    # The page has each column of each table, and no other.
    for path in (folder.trials_csv, folder.confirm_csv, folder.curves_csv, folder.classes_csv):
        there, told = pd.read_csv(path, nrows=0).columns, _columns_told(path.name)
        assert [one for one in there if not any(fnmatchcase(one, name) for name in told)] == []
        assert [name for name in told if not any(fnmatchcase(one, name) for one in there)] == []

    # Another trial leaves by name; export's own process is in test_frozen.
    monkeypatch.chdir(tmp_path)  # which the space names its data from
    other = next(trial.number for trial in study.trials if trial.state.name == "COMPLETE")
    export.main(folder.root, other, Path("other.yaml"))
    assert f"# trial: {other}\n" in (tmp_path / "other.yaml").read_text()
    assert (tmp_path / "other.safetensors").exists() and (tmp_path / "other-predictions.json").exists()
    with pytest.raises(InputError, match="--trial: must be a COMPLETE trial of"):
        export.main(folder.root, 99)

    # Exported again it is the same, whatever was changed by hand.
    before = folder.best_yaml.read_bytes()
    folder.best_yaml.write_text("mine")
    export.main(folder.root)
    assert folder.best_yaml.read_bytes() == before and folder.predictions.read_bytes() == predictions


def _columns_told(file: str) -> list[str]:
    """The columns of a run's table by search/README.md: the names in its item of the list."""
    page = (ROOT / "search" / "README.md").read_text()
    item = re.search(rf"^- `{re.escape(file)}`, a row .*?: (.*?)(?=\n- |\n\n)", page, re.DOTALL | re.MULTILINE)
    assert item is not None
    return re.findall("`([^`]+)`", item[1])


@pytest.mark.slow
def test_equal_ones_race_seed_by_seed_in_one_ray_tune_to_the_last(tmp_path: Path) -> None:
    """Next to nothing is learned, so every configuration scores the same."""
    confirm = {"top": 2, "seeds": 4, "race": True, "official_seeds": 1}
    path = tiny_space(tmp_path, epochs=2, trials=3, pruner={"name": "none"}, confirm=confirm)
    ended = run("run.py", tmp_path, path, "--name", "a", "--address", "local", "--set", "optim.lr=1e-9")
    assert (ended.returncode, ended.stderr) == (0, "")
    said = [line for line in ended.stdout.splitlines() if line.startswith("Race: ") or "] confirm " in line]
    assert [said[4], said[7]] == [f"Race: trials 0 (base), 1 go on with seed {seed}" for seed in (4, 5)]
    assert len(said) == 4 + 2 * 3 and said[-1].startswith("[  8/8 ")
    again = pd.read_csv(tmp_path / "runs" / "a" / "confirm.csv")
    assert again[again["videos"] == "holdout"].groupby("number")["seed"].count().to_dict() == {0: 4, 1: 4}
    assert "over 4 new seeds in a race of up to 4" in (tmp_path / "runs" / "a" / "best.yaml").read_text()


@pytest.mark.slow
def test_a_search_whose_trials_all_fail_ends_with_3_and_says_why(tmp_path: Path, head: Head) -> None:
    path = tiny_space(tmp_path, trials=2)
    ended = run("run.py", tmp_path, path, "--name", "a", "--set", "optim.lr=1e30", env=head.env)
    assert ended.returncode == 3
    assert "failed: loss " in ended.stdout and "in epoch 1, step " in ended.stdout and "(trial 0" in ended.stdout
    assert "No trial completed" in ended.stdout
    assert not (tmp_path / "runs" / "a" / "best.yaml").exists()


@pytest.mark.slow
def test_a_search_in_which_nothing_is_detected_names_no_winner(tmp_path: Path, head: Head) -> None:
    path = tiny_space(tmp_path, trials=2)
    ended = run("run.py", tmp_path, path, "--name", "a", "--set", "detect.class_threshold=100", env=head.env)
    assert ended.returncode == 3
    said = "All 2 COMPLETE trials have an avg.mAP of 0, so there is no winner: none of them detected anything"
    assert said in ended.stdout and "Best: " not in ended.stdout
    folder = RunFolder(tmp_path / "runs" / "a")
    assert not folder.best_yaml.exists() and not folder.confirm_journal.exists()
    assert said in folder.report.read_text()


@pytest.mark.slow
def test_a_trial_that_does_not_fit_is_refused_and_leaves_the_name_free(tmp_path: Path, head: Head) -> None:
    path = tiny_space(tmp_path, resources={"cpu": 1000, "gpu": 0})
    ended = run("run.py", tmp_path, path, "--name", "a", env=head.env)
    assert ended.returncode == 2 and "search.resources: must fit the cluster" in ended.stderr
    assert not (tmp_path / "runs" / "a").exists()


def test_an_address_where_no_cluster_answers_is_refused(tmp_path: Path) -> None:
    ended = run("run.py", tmp_path, tiny_space(tmp_path), "--name", "a", "--address", "127.0.0.1:1")
    assert ended.returncode == 2 and "--address: must be a Ray cluster that answers, got '127.0.0.1:1'" in ended.stderr
