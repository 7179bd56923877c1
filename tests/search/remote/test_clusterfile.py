"""cluster.yaml is what EC2 takes, and a mistake in it is named before a machine starts. No network, no account."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from haan.errors import InputError
from search.remote import clusterfile
from tests.search.ec2 import CLUSTER_YAML, edited, launched

OWN_MACHINES = CLUSTER_YAML.parent / "search" / "clusters" / "own-machines.yaml"
Config = dict[str, Any]


def gpu(config: Config) -> Config:
    return config["available_node_types"]["gpu_spot"]


def node(config: Config) -> Config:
    return gpu(config)["node_config"]


def head_start(config: Config, old: str, new: str) -> None:
    commands = config["head_start_ray_commands"]
    changed = [command.replace(old, new) for command in commands]
    assert changed != commands, f"{old} stands in no command"
    config["head_start_ray_commands"] = changed


def no_auth_mode(config: Config) -> None:
    commands = config["setup_commands"]
    config["setup_commands"] = [command.replace("RAY_AUTH_MODE=token", "") for command in commands]


def test_cluster_yaml_launches_spot_workers_below_an_on_demand_head(tmp_path):
    machines = {machine.kind: machine for machine in launched(edited(), tmp_path)}
    head, worker = machines["head"], machines["gpu_spot"]
    assert (head.lifecycle, head.shutdown, head.profile) == ("on-demand", "stop", "haan-search-head")
    assert (worker.lifecycle, worker.shutdown, worker.profile) == ("spot", "terminate", "haan-search-worker")
    assert (head.gpus, worker.gpus) == (0, 1)  # Ray asks EC2, where the file leaves it out


@pytest.mark.parametrize("file", [CLUSTER_YAML, OWN_MACHINES], ids=lambda file: file.name)
def test_grpcs_fork_handlers_are_off_in_every_shell_of_a_cluster(file):
    exported = [command for command in yaml.safe_load(file.read_text())["setup_commands"] if "'export %s" in command]
    assert len(exported) == 1 and "GRPC_ENABLE_FORK_SUPPORT=0" in exported[0].split()


MUTATIONS: dict[str, tuple[Callable[[Config], object], str]] = {
    # what is wrong: (how it comes about, what the error says)
    "field typo": (lambda c: gpu(c).update(max_worker=2), "max_worker"),
    "min over max": (lambda c: gpu(c).update(min_workers=9), "min_workers"),
    "unknown instance type": (lambda c: node(c).update(InstanceType="g5.2xlarg"), "g5.2xlarg"),
    "node config typo": (lambda c: node(c).update(InstanceMarketOption={}), "InstanceMarketOption"),
    "no image": (lambda c: node(c).pop("ImageId"), "gpu_spot.node_config.ImageId: must name an image"),
    "torn image": (lambda c: node(c).update(ImageId="ami-deadbee"), "got 'ami-deadbee'"),
    "unknown head type": (lambda c: c.update(head_node_type="hed"), "head_node_type"),
    "unknown zone": (lambda c: c["provider"].update(availability_zone="us-west-2z"), "us-west-2z"),
    "no token in force": (no_auth_mode, "must export RAY_AUTH_MODE=token"),
    "no token brought": (lambda c: c["file_mounts"].pop("~/.ray/auth_token"), "file_mounts: must bring"),
    "open dashboard": (lambda c: head_start(c, "127.0.0.1", "0.0.0.0"), "must be 127.0.0.1, got '0.0.0.0'"),
    "unedited": (lambda c: c["setup_commands"].insert(0, "echo s3://YOUR-BUCKET"), "must be edited"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_in_cluster_yaml_is_named(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    mutate, reason = MUTATIONS[name]
    config = copy.deepcopy(edited())
    mutate(config)
    # Ray aborts with an exception of click, whose words it prints, and EC2's reasons are botocore's
    with pytest.raises(Exception) as caught:
        launched(config, tmp_path)
    said = capfd.readouterr()
    assert reason in f"{caught.value} {said.out} {said.err}"


def test_what_our_own_check_says_names_file_key_rule_and_value(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(CLUSTER_YAML.read_text().replace("      <<: *node\n", "      <<: *node\n      ImageId: ami-dead\n"))
    with pytest.raises(InputError) as caught:
        clusterfile.read(file)
    assert caught.value.messages == [
        f"{file}: setup_commands[0]: must be edited, got 'YOUR-BUCKET'; put your own in its place",
        f"{file}: available_node_types.gpu_spot.node_config.ImageId: "
        "must be ami- and 8 or 17 hexadecimal digits, or resolve:ssm:/PARAMETER, got 'ami-dead'",
    ]


def test_only_the_lines_marked_edit_are_left_to_the_user():
    lines = CLUSTER_YAML.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if not line.startswith("#")]
    assert [line for line in settings if "YOUR-" in line] == [line for line in settings if "# EDIT" in line] != []
    assert clusterfile.problems(edited(), "cluster.yaml") == []


def test_the_file_for_own_machines_is_sound_once_edited():
    config = yaml.safe_load(OWN_MACHINES.read_text())
    unedited = clusterfile.problems(config, "own-machines.yaml")
    assert unedited and all("must be edited" in message for message in unedited)
    config["provider"].update(head_ip="10.0.0.1", worker_ips=["10.0.0.2"])
    config["auth"]["ssh_user"] = "me"
    config["setup_commands"] = [one.replace("/YOUR-SHARED-FOLDER", "/mnt") for one in config["setup_commands"]]
    assert clusterfile.problems(config, "own-machines.yaml") == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [(None, "no such file"), ("a: [", "must be YAML"), ("[1]", "must be a `ray up` file"), ("a: 1", "got another")],
)
def test_what_is_no_cluster_file_is_refused(tmp_path, text: str | None, rule: str):
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=rule):
        clusterfile.read(file)


def test_a_byte_order_mark_changes_nothing_and_other_text_is_refused(tmp_path):
    file = tmp_path / "x.yaml"
    text = yaml.safe_dump(edited())
    file.write_text(text, encoding="utf-8-sig")
    assert clusterfile.read(file) == edited()
    file.write_text(text, encoding="utf-16")
    with pytest.raises(InputError, match=r"x.yaml: must be UTF-8 text, got UTF-16$"):
        clusterfile.read(file)
