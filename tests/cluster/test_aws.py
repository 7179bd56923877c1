"""The README's way on AWS, over an AWS of the lab's own: real SSH, real Ray, a real search, instances of moto.

From `search.awsaccount` and `ray up cluster.yaml` to `ray down`. The trials take half a GPU and all CPUs of a worker
each, and say `device: cpu`, for a host of the lab has no GPU. What no lab covers: real images and drivers, `uv pip
install`, quotas, spot capacity, security groups.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from search.results.folder import RunFolder
from tests.cluster.aws_lab import Fleet, aws, environment, lab_only, write
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, OP, Lab
from tests.cluster.own import await_, long_space, trials, under_way
from tests.search.ec2 import BUCKET
from tests.search.journals import assert_whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
TRIALS, EPOCHS = 9, 50
FAR = 15  # epochs: a trial with so many ahead of it doesn't end within the moment between a look and the loss
_TOKEN = "(umask 077; ray get-auth-token --generate > /dev/null)"
_SUBMIT = f"python {CHECKOUT}/search/run.py aws.yaml --cluster cluster.yaml --name a"
_KEPT = "import boto3; print(*(x['Key'] for x in boto3.client('s3').list_objects_v2(Bucket='{bucket}')['Contents']))"


@pytest.fixture(scope="module")
def fleet(aws_lab: Lab) -> Iterator[Fleet]:
    with aws(aws_lab) as found:
        write(aws_lab.home(OP) / "cluster.yaml", lab_only(aws_lab))
        aws_lab.op(_TOKEN)
        yield found


def laptop(lab: Lab) -> dict[str, str]:
    return environment(lab) | {"PYTHONPATH": str(CHECKOUT)}


def ray(lab: Lab, command: str, timeout: float = 600) -> str:
    """A `ray` command of the operator's, in the project's folder."""
    return lab.op(f"cd {CHECKOUT} && ray {command}", environment(lab), timeout=timeout)


def up(lab: Lab) -> None:
    ray(lab, "up -y --no-config-cache ~/cluster.yaml")


def on_cluster(lab: Lab, command: str) -> str:
    return ray(lab, f"exec --no-config-cache ~/cluster.yaml '{command}'")


def guards(lab: Lab, host: int) -> int:
    """How many guards run on a host."""
    return lab.on(host, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'").split("\n").count("search.guard")


def test_the_whole_way(aws_lab: Lab, fleet: Fleet, phase: Phase, tmp_path: Path) -> None:
    lab = aws_lab
    with phase("bucket and roles made"):
        lab.op(f"python -m search.awsaccount {BUCKET} --region us-west-2", laptop(lab))
    with phase("ray up"):
        up(lab)
    (head,) = fleet.instances("head", "running")
    assert fleet.instances()[head]["lifecycle"] == "on-demand"
    assert fleet.instances("gpu_spot") == {}, "workers come with work"
    assert guards(lab, fleet.host(head)) == 1, "that of the set-up has made room"
    assert lab.on(fleet.host(head), "grep -c 'guarding the head' ~/haan-guard.log").strip() == "2"
    modes = [lab.on(host, "stat -c %a ~/.ray/auth_token").strip() for host in (OP, fleet.host(head))]
    assert modes == ["600", "600"]
    said = on_cluster(lab, "echo mode=$RAY_AUTH_MODE storage=$HAAN_STORAGE")
    assert f"mode=token storage=s3://{BUCKET}/haan" in said

    scratch, on_head = tmp_path / "scratch", RunFolder(lab.home(fleet.host(head)) / "haan-search" / "runs" / "a")
    scratch.mkdir()
    whole = {"trials": TRIALS, "resources": {"cpu": 8, "gpu": 0.5}}  # of a GPU, but its device is cpu
    shutil.copy(long_space(tmp_path, EPOCHS, **whole), lab.home(OP) / "aws.yaml")

    def at_work() -> dict[str, set[int]]:
        """The trials that a loss would hit now, by the worker that they run on."""
        known, up_now = trials(on_head, scratch), fleet.instances("gpu_spot", "running")
        found = {name: under_way(known, lab.name(fleet.host(name)), 0, EPOCHS - FAR) for name in up_now}
        return {name: numbers for name, numbers in found.items() if numbers}

    with (tmp_path / "search.txt").open("w") as out:
        search = lab.popen(OP, f"exec {_SUBMIT}", laptop(lab), out)
        with phase("with the search from 0 to 2 spot workers, a trial on each"):

            def both() -> bool:
                assert search.poll() is None, (tmp_path / "search.txt").read_text()
                return len(at_work()) == 2

            await_(both, "a trial on each of two workers", 900)
        workers = fleet.instances("gpu_spot", "running")
        assert len(workers) == 2
        assert {worker["lifecycle"] for worker in workers.values()} == {"spot"}
        for worker in workers:
            commands = lab.on(fleet.host(worker), "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            assert "search.guard --hours 48 --head" in commands
        lost, hit = min(at_work().items())
        with phase("a spot worker is taken away and replaced; the search ends and is fetched"):
            fleet.terminate(lost)
            fleet.wait("a new worker comes", lambda: bool(set(fleet.instances("gpu_spot")) - set(workers)))
            assert search.wait(900) == 0, (tmp_path / "search.txt").read_text()
    assert fleet.instances()[lost]["state"] == "terminated"

    shown, folder = (tmp_path / "search.txt").read_text(), RunFolder(lab.home(OP) / "runs" / "a")
    assert "1 node(s), 0 CPUs, 0 GPUs" in shown and "may start 2 more of gpu_spot (8 CPUs, 1 GPUs each)" in shown, shown
    assert f"{TRIALS} trials of up to {EPOCHS} epochs, 2 at once, each with 8 CPU(s) and 0.5 GPU" in shown
    found = assert_whole(folder, TRIALS)
    assert {trial.state for trial in found} == {TrialState.COMPLETE}, "a loss is no failure"
    for number in hit:
        reason = found[number].user_attrs["retries"][0]
        assert reason.startswith(("its node was lost: ", "its process was out of reach: ")), reason
    ran_on = set(pd.read_csv(folder.trials_csv)["node"])
    assert lab.name(fleet.host(head)) not in ran_on and len(ran_on) >= 1, "the head runs no trials"
    assert folder.best_yaml.exists() and folder.report.exists() and (folder.root / "best.safetensors").exists()
    kept = lab.op(["python", "-c", _KEPT.format(bucket=BUCKET)], environment(lab)).split()
    assert [one for one in kept if one.startswith("haan/a/trials/") and one.endswith("best.safetensors")]

    with phase("idle workers end"):
        fleet.wait("no worker is left", lambda: not fleet.instances("gpu_spot", "running"))
    assert set(fleet.instances(state="running")) == {head}

    with phase("ray down"):
        ray(lab, "down -y ~/cluster.yaml")
        fleet.wait("nothing runs", lambda: not fleet.instances(state="running"))
    fleet.wait("its host is off", lambda: not lab.is_up(fleet.host(head)))
    assert fleet.instances()[head]["state"] == "stopped", "its disk stays"

    with phase("ray up takes the stopped head back"):
        up(lab)
    assert set(fleet.instances("head", "running")) == {head}
    assert "a" in on_cluster(lab, "ls ~/haan-search/runs").split()
    ray(lab, "down -y ~/cluster.yaml")
    fleet.wait("nothing runs", lambda: not fleet.instances(state="running"))
