"""IAM roles as rows. There is no controller: a role is what its last request said.

spec: {"path", "role_id", "trust": {...policy document...}, "description", "max_session", "attached": [policy arn],
"inline": {name: document}}. Roles are global, so their rows carry the region "aws-global".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName
from sagewright.store.resources import Tx

KIND: Final = Kind("role")
GLOBAL: Final = Region("aws-global")
DEFAULT_ROLE: Final = "SageMakerRole"
DEFAULT_ROLE_ID: Final = "AROASAGEWRIGHTDEFAULT"
FULL_ACCESS: Final = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
SAGEMAKER: Final = "sagemaker.amazonaws.com"


def key(account: Account, name: str) -> Key:
    return Key(KIND, account, GLOBAL, ResourceName(name))


def role_arn(account: Account, path: str, name: str) -> str:
    return f"arn:aws:iam::{account}:role{path}{name}"


def default_spec() -> dict[str, Any]:
    """The role that exists from the start: SageMaker may assume it, and so may anyone of the account."""
    return {
        "path": "/",
        "role_id": DEFAULT_ROLE_ID,
        "trust": {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": SAGEMAKER}, "Action": "sts:AssumeRole"}],
        },
        "description": "Made by Sagewright at its first start; jobs and endpoints run with it.",
        "max_session": 43200,
        "attached": [FULL_ACCESS],
        "inline": {},
    }


def ensure_default(tx: Tx, account: Account, now: datetime) -> None:
    """Make the default role when it is not there."""
    if tx.find(key(account, DEFAULT_ROLE)) is None:
        tx.insert(key(account, DEFAULT_ROLE), default_spec(), {}, "", now=now, wake=False)


def trusts_sagemaker(spec: Mapping[str, Any]) -> bool:
    """Whether the trust policy lets the SageMaker service assume the role."""
    return any(_allows(statement) for statement in _as_list(spec["trust"].get("Statement", [])))


def _allows(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = ["*"] if principal == "*" else _as_list(principal.get("Service", []))
    actions = _as_list(statement.get("Action", []))
    return (
        statement.get("Effect") == "Allow"
        and bool({"sts:AssumeRole", "sts:*", "*"} & set(actions))
        and bool({SAGEMAKER, "*"} & set(services))
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
