"""A search over three hosts of a lab as the README's page has it, what listens there meanwhile, and its token."""

import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from haan.yamlconfig import read_config
from search.results.folder import RunFolder, open_study
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, OP
from tests.cluster.own import HEAD, OwnMachines, space
from tests.search.journals import assert_whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
HOSTS = (HEAD, 2, 3)
TRIALS, EPOCHS = 7, 150  # long enough that no host's first trial ends before another host has begun
# What learns nothing stays at the untrained score of 9.5, and what learns is beyond 14 by epoch 30: so the base
# completes and the trial after it is pruned, in whatever order trials end.
PRUNED = {
    "pruner": {"name": "threshold", "lower": 11.5, "n_warmup_steps": 100},
    "parameters": {"loss.pseudo": {"float": [1e-4, 1.0], "log": True}, "optim.lr": {"choice": [3e-3, 1e-9]}},
    "start_with": ["base", {"optim.lr": 1e-9}],
}
SUBMIT = f"python {CHECKOUT}/search/run.py tiny.yaml --cluster own.yaml --name own"
LAPTOP = {"PYTHONPATH": str(CHECKOUT)}


@dataclass(frozen=True)
class Searched:
    """A search, sent from the laptop and watched again to its end.

    before, after: what the terminal showed until it closed, and from then on. ports: what others could reach on each
    host meanwhile, port -> the line of `ss`.
    """

    before: str
    after: str
    ports: dict[int, dict[int, str]]


@pytest.fixture(scope="module")
def searched(cluster: OwnMachines, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    lab, folder = cluster.lab, tmp_path_factory.mktemp("own")
    wanted = {"trials": TRIALS, "confirm": {"top": 1, "seeds": 2}, **PRUNED}
    shutil.copy(space(folder, EPOCHS, **wanted), lab.home(OP) / "tiny.yaml")
    with watched(cluster) as ports:
        with phase("a search sent from the laptop, which closes once it trains"):
            before = closed_early(cluster, folder / "first.txt")
        assert not (lab.home(OP) / "runs" / "own").exists()
        with phase(f"watched again to its end: {TRIALS} trials and their confirmation"):
            after = lab.op(f"{SUBMIT} --resume", LAPTOP, timeout=900)
    return Searched(before, after, ports)


def test_a_search_over_three_hosts_leaves_a_configuration_that_trains_to_the_same_score_on_one(
    cluster: OwnMachines, searched: Searched, phase: Phase
) -> None:
    lab, said = cluster.lab, searched.after
    assert "own runs on the head of the cluster by itself: this terminal may close" in searched.before, searched.before
    assert "The search goes on without this terminal" in searched.before, searched.before
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
    assert [trial.state.name for trial in trials[:2]] == ["COMPLETE", "PRUNED"]
    table = pd.read_csv(folder.trials_csv)
    assert set(table["node"]) == {"h1", "h2", "h3"}
    assert folder.report.exists() and folder.predictions.exists()
    header = dict(line[2:].split(": ", 1) for line in folder.best_yaml.read_text().splitlines() if line[0] == "#")
    assert f"avg.mAP {header['avg_map_at_seed']}; written to trained" in again
    trained = lab.home(0) / "trained"
    assert (trained / "best.safetensors").read_bytes() == (folder.root / "best.safetensors").read_bytes()
    assert (trained / "predictions.json").read_bytes() == folder.predictions.read_bytes()
    assert read_config(folder.best_yaml).threads == 1 and open_study(folder).trials


def test_a_search_opens_no_port_but_those_named_and_writes_the_token_nowhere(
    cluster: OwnMachines, searched: Searched, phase: Phase
) -> None:
    lab, seen = cluster.lab, searched.ports
    for host in HOSTS:
        others = [line for port, line in seen[host].items() if port not in named_ports()]
        assert not others, f"{lab.name(host)}: {others}"
        assert {22, 6380, 6381} <= set(seen[host]), "what is open is seen"
        assert any(port >= 7000 for port in seen[host]), "and a trial's port as well"
    assert 6379 in seen[HEAD] and 8265 not in seen[HEAD]
    with phase("the token looked for in all files"):
        for host in (OP, *HOSTS):
            found = "grep -rlaF -D skip --exclude-dir=.pyenv -f ~/.ray/auth_token /root /tmp"
            assert lab.on(host, f"{found} {lab.nfs}").split() == ["/root/.ray/auth_token"]
            assert lab.on(host, "cat /proc/[0-9]*/cmdline | grep -caF -f ~/.ray/auth_token", check=False).strip() == "0"
            assert lab.on(host, "stat -c %a ~/.ray/auth_token").strip() == "600"


@contextmanager
def watched(cluster: OwnMachines) -> Iterator[dict[int, dict[int, str]]]:
    """What others can reach on each host, looked at all the while."""
    seen: dict[int, dict[int, str]] = {host: {} for host in HOSTS}
    over = threading.Event()

    def look() -> None:
        while not over.wait(1):
            for host in HOSTS:
                seen[host] |= listening(cluster, host)

    with ThreadPoolExecutor(1) as aside:
        looking = aside.submit(look)
        try:
            yield seen
        finally:
            over.set()
        looking.result()


def named_ports() -> set[int]:
    """The ports that own-machines.yaml names to its reader."""
    text = (CHECKOUT / "search" / "clusters" / "own-machines.yaml").read_text()
    found = re.search(r"# Ports: (\d+) to (\d+) and (\d+) to (\d+) between the machines, (\d+) from you", text)
    assert found is not None
    a, b, c, d, ssh = map(int, found.groups())
    return {ssh, *range(a, b + 1), *range(c, d + 1)}


def listening(cluster: OwnMachines, host: int) -> dict[int, str]:
    """What others can reach on a host: port -> the line of `ss`, TCP and UDP, loopback left aside."""
    found = {}
    for line in cluster.lab.on(host, "ss -Hltunp").splitlines():
        address, _, port = line.split()[4].rpartition(":")
        if not re.fullmatch(r"127\..*|\[::1\]|\[::ffff:127\..*\]", address):
            found[int(port)] = line
    return found


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
