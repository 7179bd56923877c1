"""The account that cluster.yaml needs, made in an empty one (moto), and made again without harm."""

import json
import os
from unittest.mock import patch

import boto3
import moto

from search import awsaccount
from tests.search.ec2 import ACCOUNT, edited


def test_it_makes_what_cluster_yaml_names_and_twice_changes_nothing():
    kinds = edited()["available_node_types"].values()
    named = {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in kinds}
    with patch.dict(os.environ, ACCOUNT), moto.mock_aws():
        os.environ.pop("AWS_ENDPOINT_URL", None)
        first = awsaccount.prepare("haan-lab", "us-west-2")
        again = awsaccount.prepare("haan-lab", "us-west-2")
        assert again[:-1] == first[:-1]
        assert again[-1] in (first[-1], f"{first[-1]}, there before")
        iam, s3 = boto3.client("iam"), boto3.client("s3", "us-west-2")
        profiles = iam.list_instance_profiles()["InstanceProfiles"]
        assert {profile["InstanceProfileName"] for profile in profiles} == named
        for profile in profiles:
            (role,) = profile["Roles"]
            policy = iam.get_role_policy(RoleName=role["RoleName"], PolicyName="haan-search")["PolicyDocument"]
            may = json.dumps(policy)
            assert "arn:aws:s3:::haan-lab/*" in may
            assert ("ec2:RunInstances" in may) == (role["RoleName"] == awsaccount.HEAD), "workers start no machines"
        assert s3.get_bucket_location(Bucket="haan-lab")["LocationConstraint"] == "us-west-2"
        closed = s3.get_public_access_block(Bucket="haan-lab")["PublicAccessBlockConfiguration"]
        assert all(closed.values())


def test_a_second_bucket_takes_nothing_from_the_first():
    with patch.dict(os.environ, ACCOUNT), moto.mock_aws():
        os.environ.pop("AWS_ENDPOINT_URL", None)
        awsaccount.prepare("haan-lab", "us-west-2")
        said = awsaccount.prepare("haan-other", "us-east-1")
        assert said[0] == "bucket haan-other in us-east-1"
        assert awsaccount.prepare("haan-lab", "us-east-1")[0] == "bucket haan-lab in us-west-2", "where it is"
        for name in (awsaccount.HEAD, awsaccount.WORKER):
            policy = boto3.client("iam").get_role_policy(RoleName=name, PolicyName="haan-search")["PolicyDocument"]
            assert policy["Statement"][0]["Resource"] == ["arn:aws:s3:::haan-lab", "arn:aws:s3:::haan-other"]
            assert policy["Statement"][1]["Resource"] == ["arn:aws:s3:::haan-lab/*", "arn:aws:s3:::haan-other/*"]


def test_what_aws_refuses_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["awsaccount", "Not A Bucket"])
    with patch.dict(os.environ, ACCOUNT), moto.mock_aws():
        os.environ.pop("AWS_ENDPOINT_URL", None)
        assert awsaccount.main() == 2
    assert "Not A Bucket: AWS must let you" in capsys.readouterr().err
