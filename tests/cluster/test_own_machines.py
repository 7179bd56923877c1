"""A search over three hosts of a lab, from `ray up` to `ray down`, as the README's page has it."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from haan.yamlconfig import read_config
from search.export import open_study
from search.runfolder import RunFolder
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, Lab
from tests.cluster.own import PROJECT, OwnMachines, await_, space
from tests.search.test_faults import assert_whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
TRIALS, EPOCHS = 12, 150  # long enough that no host's first trial ends before another host has begun


@pytest.fixture(scope="module")
def cluster(lab: Lab, phase: Phase) -> Iterator[OwnMachines]:
    found = OwnMachines(lab, hosts=3)
    with phase("three hosts and the laptop started"):
        found.boot()
    with phase("ray up"):
        found.up()
    with phase("all three alive"):
        found.await_hosts(["h1", "h2", "h3"])
    yield found


def test_a_search_over_three_hosts_leaves_a_configuration_that_trains_to_the_same_score_on_one(
    cluster: OwnMachines, phase: Phase, tmp_path: Path
) -> None:
    lab = cluster.lab
    wanted = {"trials": TRIALS, "confirm": {"top": 2, "seeds": 2}}
    cluster.send(space(tmp_path, lab.nfs / "checkpoints", epochs=EPOCHS, **wanted), "tiny.yaml")
    with phase(f"a search of {TRIALS} trials and its confirmation"):
        said = cluster.execute(f"cd {PROJECT} && python search/run.py tiny.yaml --name a")
    assert "Running on the Ray cluster found: 3 node(s), " in said, said
    assert not list(lab.home(2).glob("haan-search/data*")), "features lie on the head alone"
    assert list(lab.nfs.glob("checkpoints/**/best*")) or list(lab.nfs.glob("checkpoints/**/checkpoint_*"))

    with phase("run folder fetched, best.yaml trained again on the laptop"):
        folder = RunFolder(cluster.fetch("a"))
        again = lab.op(f"python -m haan train ~/a/{folder.best_yaml.name} --out trained", {"PYTHONPATH": str(CHECKOUT)})
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


def test_ray_down_leaves_no_ray_on_any_host(cluster: OwnMachines, phase: Phase) -> None:
    with phase("ray down"):
        cluster.down()
    with phase("no Ray left on any host"):
        await_(lambda: not any(rays(cluster, host) for host in (1, 2, 3)), "every host's Ray ended")


def rays(cluster: OwnMachines, host: int) -> list[str]:
    """What runs of Ray on a host."""
    said = cluster.lab.on(host, "ps -eo args")
    return [line for line in said.splitlines() if any(word in line for word in ("raylet", "gcs_server", "ray::"))]
