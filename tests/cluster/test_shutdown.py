"""`ray down`: what the other tests ran on is gone, the workers' Rays once they miss their head, in a minute or so."""

import pytest

from tests.cluster.conftest import Phase
from tests.cluster.own import OwnMachines, await_

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def test_ray_down_ends_a_cluster(cluster: OwnMachines, phase: Phase) -> None:
    assert all(rays(cluster, host) for host in (1, 2, 3))
    with phase("ray down"):
        cluster.down()


def test_ray_down_leaves_no_ray_on_any_host(cluster: OwnMachines, phase: Phase) -> None:
    with phase("no Ray left on any host"):
        await_(lambda: not any(rays(cluster, host) for host in (1, 2, 3)), "every host's Ray ended")


def rays(cluster: OwnMachines, host: int) -> list[str]:
    """What runs of Ray on a host."""
    said = cluster.lab.on(host, "ps -eo args")
    return [line for line in said.splitlines() if any(word in line for word in ("raylet", "gcs_server", "ray::"))]
