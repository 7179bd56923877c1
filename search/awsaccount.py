"""Makes in an AWS account what cluster.yaml names: the bucket, and two roles and what they may do. Once an account."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

HEAD, WORKER = "haan-search-head", "haan-search-worker"
_POLICY, _ARN = "haan-search", "arn:aws:s3:::"
_EC2 = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}


def statements(buckets: Sequence[str], worker_arn: str) -> dict[str, list[dict[str, Any]]]:
    """What each role may do: both use the buckets, and the head starts and ends machines with the workers' role."""
    files = [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": [f"{_ARN}{bucket}" for bucket in buckets],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": [f"{_ARN}{bucket}/*" for bucket in buckets],
        },
    ]
    machines = [
        {
            "Effect": "Allow",
            "Action": ["ec2:Describe*", "ec2:RunInstances"],
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},  # of a machine that is being made
        },
        {
            "Effect": "Allow",
            "Action": [
                "ec2:StartInstances",
                "ec2:StopInstances",
                "ec2:TerminateInstances",
                "ec2:CreateTags",
                "ec2:DeleteTags",
            ],
            "Resource": "*",
            "Condition": {"StringLike": {"ec2:ResourceTag/ray-cluster-name": "*"}},  # no other machine of the account
        },
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": worker_arn},
        # EC2 looks the image up in the name of who starts a machine.
        {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "arn:aws:ssm:*::parameter/aws/service/*"},
    ]
    return {HEAD: files + machines, WORKER: files}


def prepare(bucket: str, region: str) -> list[str]:
    """Makes what is missing, and sets what the roles may do anew; a line each. Raises what AWS refuses with."""
    iam = boto3.client("iam")
    said = [_bucket(bucket, region)]
    arns = {name: _role(iam, name) for name in (HEAD, WORKER)}
    buckets = sorted({bucket, *_buckets(iam)})
    for name, allowed in statements(buckets, arns[WORKER]).items():
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_role_policy(RoleName=name, PolicyName=_POLICY, PolicyDocument=policy)
        said.append(f"role and instance profile {name}, for {', '.join(buckets)}")
    return [*said, _spot(iam)]


def _buckets(iam: Any) -> set[str]:
    """The buckets that the roles may use already: another cluster of the account may be at work on one."""
    try:
        document: Any = iam.get_role_policy(RoleName=WORKER, PolicyName=_POLICY)["PolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        return set()
    named = [one["Resource"] for one in document["Statement"]]
    places = [place for one in named for place in ([one] if isinstance(one, str) else one)]
    return {place.removeprefix(_ARN).removesuffix("/*") for place in places if place.startswith(_ARN)}


def _bucket(bucket: str, region: str) -> str:
    """A bucket that nobody outside the account sees into."""
    s3 = boto3.client("s3", region_name=region)
    if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
        where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else where))  # that region has no name here
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    found = s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] or "us-east-1"
    return f"bucket {bucket} in {found}"


def _role(iam: Any, name: str) -> str:
    """A role that machines can take on, and the instance profile of the same name that gives it to them; its ARN."""
    try:
        role = iam.get_role(RoleName=name)
    except iam.exceptions.NoSuchEntityException:
        trust = json.dumps({"Version": "2012-10-17", **_EC2})
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    try:
        profile = iam.get_instance_profile(InstanceProfileName=name)
    except iam.exceptions.NoSuchEntityException:
        profile = iam.create_instance_profile(InstanceProfileName=name)
    if not profile["InstanceProfile"]["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return role["Role"]["Arn"]


def _spot(iam: Any) -> str:
    """AWS's own role for spot machines, which the head may not make and the account's first spot machine needs."""
    try:
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    except (iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException):
        return "AWS's role for spot machines, there before"
    return "AWS's role for spot machines"


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m search.awsaccount",
        description="Makes the bucket and the roles that cluster.yaml names; run again, it adds what is missing.",
        epilog="Example: python -m search.awsaccount haan-of-mine --region us-west-2",
    )
    parser.add_argument("bucket", help="its name, which is unique over all of AWS")
    parser.add_argument("--region", default="us-west-2", help="that of cluster.yaml; us-west-2")
    asked = parser.parse_args()
    try:
        lines = prepare(asked.bucket, asked.region)
    except (ClientError, BotoCoreError) as error:
        sys.stderr.write(f"{asked.bucket}: AWS must let you make a bucket and roles, got: {error}\n")
        return 2
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
