"""Roles and identities, as the SDKs ask about them."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import unquote

import pytest

from sagewright.core.credentials import Keyring
from sagewright.services import iam, sts
from sagewright.wire.faults import ApiFault
from unit.services.conftest import NOW, Call

IAM = iam.service(b"secret")
RING = Keyring(b"k" * 32)
STS = sts.service(RING)
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
)


def test_the_default_role_exists_and_trusts_sagemaker(call: Call) -> None:
    role = call(IAM, "GetRole", RoleName="SageMakerRole")["Role"]
    assert role["Arn"] == "arn:aws:iam::000000000000:role/SageMakerRole"
    trust = json.loads(unquote(role["AssumeRolePolicyDocument"]))
    assert trust["Statement"][0]["Principal"]["Service"] == "sagemaker.amazonaws.com"


def test_an_unknown_role_is_no_such_entity(call: Call) -> None:
    for name, request in (
        ("GetRole", {"RoleName": "Nobody"}),
        ("DeleteRole", {"RoleName": "Nobody"}),
        ("AttachRolePolicy", {"RoleName": "Nobody", "PolicyArn": "arn:aws:iam::aws:policy/X"}),
        ("SimulatePrincipalPolicy", {"PolicySourceArn": "arn:aws:iam::000000000000:role/Nobody", "ActionNames": ["x"]}),
    ):
        with pytest.raises(ApiFault, match="NoSuchEntity"):
            call(IAM, name, **request)


def test_a_role_is_made_changed_and_removed(call: Call) -> None:
    made = call(IAM, "CreateRole", RoleName="Mine", Path="/service-role/", AssumeRolePolicyDocument=TRUST)["Role"]
    assert made["Arn"] == "arn:aws:iam::000000000000:role/service-role/Mine"
    with pytest.raises(ApiFault, match="EntityAlreadyExists"):
        call(IAM, "CreateRole", RoleName="Mine", AssumeRolePolicyDocument=TRUST)
    policy = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
    call(IAM, "AttachRolePolicy", RoleName="Mine", PolicyArn=policy)
    call(IAM, "PutRolePolicy", RoleName="Mine", PolicyName="inline", PolicyDocument=TRUST)
    assert call(IAM, "ListAttachedRolePolicies", RoleName="Mine")["AttachedPolicies"][0]["PolicyArn"] == policy
    assert call(IAM, "ListRolePolicies", RoleName="Mine")["PolicyNames"] == ["inline"]
    with pytest.raises(ApiFault, match="DeleteConflict"):
        call(IAM, "DeleteRole", RoleName="Mine")
    call(IAM, "DetachRolePolicy", RoleName="Mine", PolicyArn=policy)
    call(IAM, "DeleteRolePolicy", RoleName="Mine", PolicyName="inline")
    call(IAM, "DeleteRole", RoleName="Mine")
    assert [role["RoleName"] for role in call(IAM, "ListRoles")["Roles"]] == ["SageMakerRole"]


@pytest.mark.parametrize("document", ["", "[]", "{}", "not json"])
def test_a_malformed_policy_is_refused(call: Call, document: str) -> None:
    with pytest.raises(ApiFault, match="MalformedPolicyDocument"):
        call(IAM, "CreateRole", RoleName="Mine", AssumeRolePolicyDocument=document)


def test_roles_are_listed_in_pages(call: Call) -> None:
    for number in range(5):
        call(IAM, "CreateRole", RoleName=f"r{number}", AssumeRolePolicyDocument=TRUST)
    found, marker = [], {}
    while True:
        page = call(IAM, "ListRoles", MaxItems=2, **marker)
        found += [role["RoleName"] for role in page["Roles"]]
        if not page["IsTruncated"]:
            break
        marker = {"Marker": page["Marker"]}
    assert found == ["SageMakerRole", "r0", "r1", "r2", "r3", "r4"]


def test_assume_role_gives_keys_that_resolve(call: Call) -> None:
    given = call(
        STS,
        "AssumeRole",
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        RoleSessionName="job",
        DurationSeconds=900,
    )
    keys = given["Credentials"]
    session = RING.resolve(keys["AccessKeyId"], keys["SessionToken"])
    assert session.secret_key == keys["SecretAccessKey"]
    assert session.expiration == keys["Expiration"] == NOW + timedelta(seconds=900)
    assert given["AssumedRoleUser"]["Arn"] == session.principal.arn


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::000000000000:role/Nobody",
        "arn:aws:iam::111111111111:role/SageMakerRole",
        "arn:aws:iam::000000000000:role/elsewhere/SageMakerRole",
    ],
)
def test_assuming_what_is_not_there_is_denied(call: Call, arn: str) -> None:
    with pytest.raises(ApiFault, match="AccessDenied") as caught:
        call(STS, "AssumeRole", RoleArn=arn, RoleSessionName="job")
    assert caught.value.status == 403


def test_who_am_i(call: Call) -> None:
    assert call(STS, "GetCallerIdentity")["Arn"] == "arn:aws:sts::000000000000:assumed-role/SageMakerRole/me"
    session = call(STS, "GetSessionToken")["Credentials"]
    assert RING.resolve(session["AccessKeyId"], session["SessionToken"]).principal.user_id == "AROAX:me"
