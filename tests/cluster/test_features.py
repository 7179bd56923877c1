"""Features of a gigabyte, which lie on the head alone: one copy a host, however many trials read it."""

import json
import sys
from collections import defaultdict

import pytest

from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT
from tests.cluster.own import PROJECT, OwnMachines

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
SMALL, LARGE = 64, 1024  # MiB
SLACK = 64  # MiB of a store that Ray uses for itself, and for what small things pass through it


def measured(cluster: OwnMachines, *asked: str) -> list[dict[str, list[dict[str, float]]]]:
    """What trials hold on each host, for each MIB:TRIALS that is asked for."""
    said = cluster.on_head(f"python -m tests.cluster.measure {' '.join(asked)}")
    found = []
    for held in json.loads(said.splitlines()[-1]):
        found.append(defaultdict(list))
        for one in held:
            found[-1][one.pop("node")].append(one)
    return found


def test_a_gigabyte_of_features_is_there_once_a_host(
    cluster: OwnMachines, phase: Phase, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.lab.op(["ray", "rsync-up", "/root/own.yaml", f"{CHECKOUT}/tests/", f"{PROJECT}/tests/"])
    with phase(f"a trial a host on {SMALL} MiB, then two on {LARGE} MiB"):
        small, large = measured(cluster, f"{SMALL}:1", f"{LARGE}:2")
    with capsys.disabled():
        for mib, found in ((SMALL, small), (LARGE, large)):
            for host, trials in sorted(found.items()):
                own = " and ".join(f"{trial['own']:.1f}" for trial in trials)
                store = max(trial["store"] for trial in trials)
                sys.stderr.write(f"\n{mib} MiB of features, {host}: store {store:.0f} MiB, USS of a trial {own} MiB")
    assert set(small) == set(large) == {"h1", "h2", "h3"}
    for host in large:
        (alone,) = small[host]
        assert len(large[host]) == 2
        for trial in large[host]:
            assert LARGE <= trial["store"] < LARGE + SMALL + SLACK
            assert trial["own"] - alone["own"] < 0.01 * (LARGE - SMALL)
