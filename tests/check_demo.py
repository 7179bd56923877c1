"""Checks a finished demo run as its user would: `python tests/check_demo.py runs/demo` from the folder above `runs`.

The study holds a pruned trial, none running and the base as trial 0, the best were confirmed, the report has enough
trials for importances, and best.yaml trains again to its own figure, weights and detections.
"""

import csv
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

FILES = (
    "space.yaml", "study.journal", "trials.csv", "confirm.csv", "curves.csv", "classes.csv", "best.yaml",
    "best.safetensors", "predictions.json", "report.html",
)  # fmt: skip


def check(run: Path) -> None:
    """Raises AssertionError where the run is not what the README promises."""
    missing = [name for name in FILES if not (run / name).exists()]
    assert not missing, missing
    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    space = yaml.safe_load((run / "space.yaml").read_text())
    counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    assert len(trials) == int(space["search"]["trials"]) and not counts[TrialState.RUNNING], counts
    assert not counts[TrialState.WAITING] and counts[TrialState.PRUNED] and counts[TrialState.COMPLETE], counts
    for key, value in trials[0].params.items():
        section, name = key.split(".")
        assert str(space["base"][section][name]) == str(value), (key, value)
    assert list(pd.read_csv(run / "trials.csv")["number"]) == list(range(len(trials)))
    confirm = space["search"]["confirm"]
    confirmed = pd.read_csv(run / "confirm.csv").query("videos == 'holdout'")
    assert set(confirmed.groupby("number").size()) == {int(confirm["seeds"])}, confirmed
    assert 0 in set(confirmed["number"]) and confirmed["number"].nunique() >= int(confirm["top"]), confirmed
    assert 'data-figure="importances"' in (run / "report.html").read_text(encoding="utf-8")
    header = dict(
        line[2:].split(": ", 1) for line in (run / "best.yaml").read_text().splitlines() if line.startswith("# ")
    )
    out = run / "trained-again"
    work = run.parent.parent
    command = [sys.executable, "-m", "haan", "train", str(run / "best.yaml"), "--out", str(out)]
    subprocess.run(command, check=True, cwd=work, stdout=subprocess.DEVNULL)
    with (out / "metrics.csv").open(newline="") as file:
        again = max(float(row["avg_map"]) for row in csv.DictReader(file) if row["avg_map"])
    assert float(header["avg_map_at_seed"]) == again, (header["avg_map_at_seed"], again)
    for name in ("best.safetensors", "predictions.json"):
        assert (run / name).read_bytes() == (out / name).read_bytes(), name
    sys.stdout.write(
        f"{counts[TrialState.PRUNED]} of {len(trials)} trials pruned; best.yaml trains to {again!r} again\n"
    )


if __name__ == "__main__":
    check(Path(sys.argv[1]).resolve())
