"""cluster.yaml with its one edit made, and what EC2 would make of a cluster file, without a machine or an account."""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import moto
import yaml
from moto.ec2.models.instance_types import INSTANCE_TYPES

from search.remote import clusterfile

BUCKET = "haan-lab"
CLUSTER_YAML = Path(__file__).resolve().parents[2] / "cluster.yaml"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def edited() -> dict[str, Any]:
    """cluster.yaml as a user has it who did what its EDIT lines ask, and nothing else."""
    lines = CLUSTER_YAML.read_text(encoding="utf-8").splitlines()
    done = [line.replace("YOUR-BUCKET", BUCKET) if "# EDIT" in line else line for line in lines]
    return yaml.safe_load("\n".join(done))


@dataclass(frozen=True)
class Instance:
    """One machine that EC2 was asked for. gpus: what Ray takes it to have."""

    kind: str
    type: str
    lifecycle: str
    shutdown: str
    profile: str
    gpus: int


@contextmanager
def account(region: str) -> Iterator[Any]:
    """An empty AWS account in this process, and its EC2."""
    from ray.autoscaler._private.aws import utils

    with patch.dict(os.environ, ACCOUNT), moto.mock_aws():
        os.environ.pop("AWS_ENDPOINT_URL", None)
        utils.resource_cache.cache_clear()
        utils.client_cache.cache_clear()
        yield boto3.client("ec2", region)


def launched(config: Mapping[str, Any], home: Path) -> list[Instance]:
    """What a cluster file launches: the head, and of each other node type as many as it may have.

    home: where Ray may keep the key pair that it makes. Raises whatever our check, Ray or EC2 have against the file.
    """
    from ray.autoscaler._private.aws import config as aws_config
    from ray.autoscaler._private.aws import node_provider
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = clusterfile.problems(config, "cluster.yaml")
    if found:
        raise ValueError("\n".join(found))
    with (
        patch.dict(os.environ, {"HOME": str(home)}),
        patch.object(aws_config.time, "sleep"),  # it waits for AWS to spread a new role
        patch.object(node_provider, "list_ec2_instances", _instance_types),
        account(config["provider"]["region"]) as ec2,
    ):
        iam = boto3.client("iam")
        for profile in {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in _kinds(config).values()}:
            iam.create_instance_profile(InstanceProfileName=profile)
        filled = prepare_config(copy.deepcopy(dict(config)))
        filled = AWSNodeProvider.fillout_available_node_types_resources(filled)
        validate_config(filled)
        filled = AWSNodeProvider.bootstrap_config(filled)
        provider = AWSNodeProvider(filled["provider"], filled["cluster_name"])
        for name, kind in _kinds(filled).items():
            head = name == filled["head_node_type"]
            tags = {"ray-user-node-type": name, "ray-node-type": "head" if head else "worker", "ray-launch-config": ""}
            provider.create_node(kind["node_config"], tags, 1 if head else kind["max_workers"])
        reservations = ec2.describe_instances()["Reservations"]
        machines = [raw for reservation in reservations for raw in reservation["Instances"]]
        return [_instance(ec2, raw, _kinds(filled)) for raw in machines]


def _instance_types(region: str, credentials: object = None) -> list[Any]:
    """What EC2 says of its instance types: moto's own table, without 10 s of XML to and fro."""
    return list(INSTANCE_TYPES.values())


def _kinds(config: Mapping[str, Any]) -> dict[str, Any]:
    return config["available_node_types"]


def _instance(ec2: Any, raw: Mapping[str, Any], kinds: Mapping[str, Any]) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in raw["Tags"]}
    asked = ec2.describe_instance_attribute(
        InstanceId=raw["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )["InstanceInitiatedShutdownBehavior"]["Value"]
    profile = raw.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2]
    lifecycle = raw.get("InstanceLifecycle", "on-demand")
    kind = tags["ray-user-node-type"]
    gpus = kinds[kind]["resources"].get("GPU", 0)
    return Instance(kind, raw["InstanceType"], lifecycle, asked, profile, gpus)
