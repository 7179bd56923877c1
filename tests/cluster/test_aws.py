"""cluster.yaml from `ray up` to `ray down` over an AWS of the lab's own: real SSH, real Ray, instances of moto.

The load is two plain tasks that want a GPU each: a host of the lab has none, which a trial would notice and they don't.
What no lab covers: real images and drivers, `uv pip install`, quotas, spot capacity, security groups.
"""

from collections.abc import Iterator

import pytest

from tests.cluster.aws_lab import Fleet, aws, environment, lab_only, write
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, OP, Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

_TOKEN = "ray get-auth-token --generate > /dev/null"


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Fleet]:
    with aws(lab) as found:
        write(lab.home(OP) / "cluster.yaml", lab_only(lab))
        lab.op(_TOKEN)
        yield found


def ray(lab: Lab, command: str, timeout: float = 600) -> str:
    """A `ray` command of the operator's, in the project's folder."""
    return lab.op(f"cd {CHECKOUT} && ray {command}", environment(lab), timeout=timeout)


def up(lab: Lab) -> None:
    ray(lab, "up -y --no-config-cache ~/cluster.yaml")


def on_cluster(lab: Lab, command: str) -> str:
    return ray(lab, f"exec --no-config-cache ~/cluster.yaml '{command}'")


def test_the_whole_way(lab: Lab, fleet: Fleet, phase: Phase) -> None:
    with phase("ray up"):
        up(lab)
    (head,) = fleet.instances("head", "running")
    assert fleet.instances("gpu_spot") == {}, "workers come with work"
    said = on_cluster(lab, "echo mode=$RAY_AUTH_MODE storage=$HAAN_STORAGE; mkdir -p ~/haan-search/runs/kept")
    assert "mode=token storage=s3://haan-lab/haan" in said
    ray(lab, f"rsync-up ~/cluster.yaml {CHECKOUT}/tests/cluster/aws_load.py /root/aws_load.py")

    with phase("from 0 to 2 spot workers, and two tasks on their GPUs"):
        said = on_cluster(lab, "python aws_load.py 5")
    workers = fleet.instances("gpu_spot", "running")
    assert len(workers) == 2
    assert {worker["lifecycle"] for worker in workers.values()} == {"spot"}
    assert fleet.instances()[head]["lifecycle"] == "on-demand"
    assert sorted(worker["address"] for worker in workers.values()) == said.partition("ran on: ")[2].split()[:2]
    assert f"CPUs before: {{'{fleet.instances()[head]['address']}': 0}}" in said, "the head runs no trials"
    for worker in workers:
        assert "search.guard --hours 48 --head" in lab.on(fleet.host(worker), "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    with phase("a spot worker is taken away and replaced, and its task runs again"):
        lost = min(workers)
        said = _while_lost(lab, fleet, lost)
    assert said.partition("starts: ")[2].split()[:1] == ["3"], said
    assert fleet.instances()[lost]["state"] == "terminated"
    assert len(set(fleet.instances("gpu_spot")) - set(workers)) >= 1

    with phase("idle workers end"):
        fleet.wait("no worker is left", lambda: not fleet.instances("gpu_spot", "running"))
    assert set(fleet.instances(state="running")) == {head}

    with phase("ray down"):
        ray(lab, "down -y ~/cluster.yaml")
        fleet.wait("nothing runs", lambda: not fleet.instances(state="running"))
    fleet.wait("its host is off", lambda: not lab.is_up(fleet.host(head)), 30)
    assert fleet.instances()[head]["state"] == "stopped", "its disk stays"

    with phase("ray up takes the stopped head back"):
        up(lab)
    assert set(fleet.instances("head", "running")) == {head}
    assert "kept" in on_cluster(lab, "ls ~/haan-search/runs")
    ray(lab, "down -y ~/cluster.yaml")
    fleet.wait("nothing runs", lambda: not fleet.instances(state="running"))


def _while_lost(lab: Lab, fleet: Fleet, lost: str) -> str:
    """What the load says that a worker is taken from while both tasks run."""
    command = f"cd {CHECKOUT} && ray exec --no-config-cache ~/cluster.yaml 'python aws_load.py 20'"
    said = ""
    with lab.popen(OP, command, environment(lab)) as load:
        assert load.stdout is not None
        for line in load.stdout:
            said += line
            if line.strip() == "both run":
                fleet.terminate(lost)
    assert load.returncode == 0, said
    return said
