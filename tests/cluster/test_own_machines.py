"""A search over three hosts of a lab, from `ray up` to `ray down`, as the README's page has it."""

import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from haan.yamlconfig import read_config
from search.results.folder import RunFolder, open_study
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, OP
from tests.cluster.own import OwnMachines, space
from tests.search.journals import assert_whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
TRIALS, EPOCHS = 9, 150  # long enough that no host's first trial ends before another host has begun
SUBMIT = f"python {CHECKOUT}/search/run.py tiny.yaml --cluster own.yaml --name own"
LAPTOP = {"PYTHONPATH": str(CHECKOUT)}


def test_a_search_over_three_hosts_leaves_a_configuration_that_trains_to_the_same_score_on_one(
    cluster: OwnMachines, phase: Phase, tmp_path: Path
) -> None:
    lab = cluster.lab
    wanted = {"trials": TRIALS, "confirm": {"top": 2, "seeds": 2}}
    shutil.copy(space(tmp_path, EPOCHS, **wanted), lab.home(OP) / "tiny.yaml")
    with phase("a search sent from the laptop, which closes once it trains"):
        before = closed_early(cluster, tmp_path / "first.txt")
    assert "own runs on the head of the cluster by itself: this terminal may close" in before, before
    assert "The search goes on without this terminal" in before, before
    assert not (lab.home(OP) / "runs" / "own").exists()
    with phase(f"watched again to its end: {TRIALS} trials and their confirmation"):
        said = lab.op(f"{SUBMIT} --resume", LAPTOP, timeout=900)
    assert "own is running on the cluster: watching it" in said, said
    assert "Running on the Ray cluster found: 3 node(s), " in said, said
    assert "Fetched into runs/own" in said, said
    assert not list(lab.home(2).glob("haan-search/data*")), "features lie on the head alone"
    assert list(cluster.checkpoints.glob("own/trials/*/checkpoint_*/best.safetensors"))

    folder = RunFolder(lab.home(OP) / "runs" / "own")
    with phase("best.yaml trained again on the laptop"):
        again = lab.op("python -m haan train runs/own/best.yaml --out trained", LAPTOP)
    trials = assert_whole(folder, TRIALS)
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    table = pd.read_csv(folder.trials_csv)
    assert set(table["node"]) == {"h1", "h2", "h3"}
    assert folder.report.exists() and folder.predictions.exists()
    header = dict(line[2:].split(": ", 1) for line in folder.best_yaml.read_text().splitlines() if line[0] == "#")
    assert f"avg.mAP {header['avg_map_at_seed']}; written to trained" in again
    trained = lab.home(0) / "trained"
    assert (trained / "best.safetensors").read_bytes() == (folder.root / "best.safetensors").read_bytes()
    assert (trained / "predictions.json").read_bytes() == folder.predictions.read_bytes()
    assert read_config(folder.best_yaml).threads == 1 and open_study(folder).trials


def closed_early(cluster: OwnMachines, out: Path, limit_s: float = 600) -> str:
    """Sends the search and presses Ctrl-C once its first trials run; what the terminal showed."""
    lab, limit = cluster.lab, time.monotonic() + limit_s
    with out.open("w") as file:
        process = lab.popen(OP, f"exec {SUBMIT}", LAPTOP, file)
        while "Search: " not in out.read_text():
            assert process.poll() is None and time.monotonic() < limit, out.read_text()
            time.sleep(0.2)
        lab.op(["pkill", "-INT", "-f", "search/run.py"])
        code = process.wait(300)
    assert code == 130, out.read_text()
    return out.read_text()
