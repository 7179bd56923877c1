"""An AWS of the lab's own: moto answers on `op`, and a host of the lab runs for each instance that it has running."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.cluster.lab import OP, Lab, patient
from tests.search.ec2 import ACCOUNT, BUCKET, edited

_PORT = 5000
_FIRST = 20  # last byte of the first address in the subnet below: AWS keeps the first four of sixteen
_HOSTS = 8
_KEY_NAME = "lab"

# Runs on `op`: moto's server, with none of its 1400 instance types but those named. Ray asks for all of them in each
# of its commands, and moto takes 10 s of a core to answer.
_SERVER = """
import sys
from moto.ec2.models.instance_types import InstanceTypeBackend as Backend
from moto.server import main
Backend.instance_types = [kind for kind in Backend.instance_types if kind["InstanceType"] in sys.argv[1].split(",")]
main(sys.argv[2:])
"""
# Runs on `op`: fills the empty account, then writes down what instances there are, and asks EC2 what it is told to.
_AGENT = """
import boto3, json, os, pathlib, sys, time
net, home = sys.argv[1], pathlib.Path.home()
ec2 = boto3.client("ec2")
for subnet in ec2.describe_subnets()["Subnets"]:
    ec2.delete_subnet(SubnetId=subnet["SubnetId"])
vpc = ec2.create_vpc(CidrBlock=net + ".0/24")["Vpc"]["VpcId"]
ec2.create_subnet(VpcId=vpc, CidrBlock=net + ".16/28", AvailabilityZone="us-west-2a")
ec2.import_key_pair(KeyName="lab", PublicKeyMaterial=(home / ".ssh/authorized_keys").read_bytes())
while True:
    for order in home.glob("terminate-i-*"):
        ec2.terminate_instances(InstanceIds=[order.name.removeprefix("terminate-")])
        order.unlink()
    found = {}
    for reservation in ec2.describe_instances()["Reservations"]:
        for raw in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in raw["Tags"]}
            found[raw["InstanceId"]] = {
                "kind": tags["ray-user-node-type"],
                "state": raw["State"]["Name"],
                "address": raw.get("PrivateIpAddress"),
                "lifecycle": raw.get("InstanceLifecycle", "on-demand"),
            }
    (home / "instances.tmp").write_text(json.dumps(found))
    os.replace(home / "instances.tmp", home / "instances.json")
    time.sleep(1)
"""


class Fleet:
    """The instances, and the hosts that run for them: one that is `running` has its host up, any other has it off.

    moto gives spot instances no request's id, by which Ray knows them: it stops here what it would end on AWS.
    """

    def __init__(self, lab: Lab):
        self._lab = lab
        self._seen: dict[int, str] = {}  # the instance that a host's disk belongs to
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="fleet")
        self.failure: Exception | None = None

    def instances(self, kind: str | None = None, state: str | None = None) -> dict[str, dict[str, Any]]:
        """By id; of one node type or state alone where asked. Raises what stopped the hosts' keeper."""
        if self.failure is not None:
            raise self.failure
        return {
            name: instance
            for name, instance in self._read().items()
            if kind in (None, instance["kind"]) and state in (None, instance["state"])
        }

    def host(self, instance: str) -> int:
        """The host of the lab that runs for an instance."""
        return _host(self._read()[instance])

    def terminate(self, instance: str) -> None:
        """AWS takes a machine back."""
        (self._lab.home(OP) / f"terminate-{instance}").touch()

    def wait(self, rule: str, met: Callable[[], bool], limit_s: float = 600) -> None:
        """Until something holds of the fleet; fails the test when it takes too long."""
        limit = time.monotonic() + limit_s
        while not met():
            assert time.monotonic() < limit, f"not within {limit_s} s: {rule}; there are {self.instances()}"
            time.sleep(0.5)

    def _read(self) -> dict[str, dict[str, Any]]:
        file = self._lab.home(OP) / "instances.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def __enter__(self) -> "Fleet":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._stop.wait(0.3):
                for name, instance in self._read().items():
                    self._settle(name, instance)
        except Exception as error:
            self.failure = error

    def _settle(self, name: str, instance: dict[str, Any]) -> None:
        if instance["address"] is None:
            return  # moto forgets the address of what is terminated
        host, wanted = _host(instance), instance["state"] in ("pending", "running")
        if wanted and not self._lab.is_up(host):
            if self._seen.get(host) != name:
                shutil.rmtree(self._lab.home(host).parent, ignore_errors=True)
            self._seen[host] = name
            self._lab.start(host)
        elif not wanted and self._seen.get(host) == name and self._lab.is_up(host):
            self._lab.kill(host)


def _host(instance: dict[str, Any]) -> int:
    return int(instance["address"].rpartition(".")[2]) - 10


@contextmanager
def aws(lab: Lab) -> Iterator[Fleet]:
    """The lab as an AWS region in which nothing runs yet."""
    lab.up(0)
    hosts = range(_FIRST - 10, _FIRST - 10 + _HOSTS)
    names = [f"{lab.address(host)} {lab.name(host)}" for host in [OP, *hosts]]
    (lab.home(OP).parent.parent / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
    home = lab.home(OP)
    (home / "agent.py").write_text(_AGENT)
    with ExitStack() as held:
        held.callback(lab.down)
        log = held.enter_context((home / "moto.log").open("w"))  # closed before `down`, which unmounts its disk
        types = {kind["node_config"]["InstanceType"] for kind in edited()["available_node_types"].values()}
        server = ["python", "-c", _SERVER, ",".join(types), "-H", "0.0.0.0", "-p", str(_PORT)]
        _until_end(held, lab.popen(OP, server, environment(lab), log))
        lab.op(f"for i in $(seq 200); do curl -s localhost:{_PORT} > /dev/null && exit; sleep 0.3; done; exit 1")
        _until_end(held, lab.popen(OP, ["python", "agent.py", lab.net], environment(lab), log))
        fleet = held.enter_context(Fleet(lab))
        fleet.wait("the agent writes", lambda: (home / "instances.json").exists(), 120)
        yield fleet


def _until_end(held: ExitStack, process: "subprocess.Popen[str]") -> None:
    """Ends a process with its stack."""
    held.callback(process.wait)
    held.callback(process.kill)


def environment(lab: Lab) -> dict[str, str]:
    """What sends the AWS clients of a host to the lab's own AWS."""
    return ACCOUNT | {"AWS_ENDPOINT_URL": _endpoint(lab), "AWS_DEFAULT_REGION": "us-west-2"}


def _endpoint(lab: Lab) -> str:
    return f"http://{lab.address(OP)}:{_PORT}"


def lab_only(lab: Lab) -> dict[str, Any]:
    """cluster.yaml as edited, but for what a lab can't do like AWS: user and key, addresses, sizes, installation.

    Ray's commands, node types, markets, profiles, mounts, the environment and the guard stay as they are.
    """
    config = edited()
    config["provider"]["use_internal_ips"] = True  # the lab has no others
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/lab_key"}
    for kind in config["available_node_types"].values():
        kind["node_config"]["KeyName"] = _KEY_NAME
    config["max_workers"] = config["available_node_types"]["gpu_spot"]["max_workers"] = 2
    config["idle_timeout_minutes"] = 0.2
    installed = [command for command in config["setup_commands"] if "/uv" not in command]
    assert len(installed) == len(config["setup_commands"]) - 3
    storage = f"s3://{BUCKET}/haan?endpoint_override={quote(_endpoint(lab), safe='')}"
    exports = {"PYTHONPATH": "$HOME/haan-search", "HAAN_STORAGE": storage, **environment(lab)}
    words = " ".join(f"'{key}={value}'" for key, value in exports.items())
    config["setup_commands"] = [
        *installed,
        f"ln -sfn {sys.prefix} ~/haan-venv",
        f"printf 'export %s\\n' {words} >> ~/.haan-env",
    ]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        small = [command.replace("1024 * 0.45", "1024 * 0.015") for command in config[key]]  # as /dev/shm is
        config[key] = patient(small)
    return config


def write(path: Path, config: dict[str, Any]) -> None:
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
