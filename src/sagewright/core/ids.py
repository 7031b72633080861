"""Names and identifiers: their types, and how each is built.

Owns: the NewTypes of the domain, ARN building and parsing, fresh ids.
Does not own: whether a name is legal (the service model says so, see `wire.validate`).
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass
from typing import NewType

Account = NewType("Account", str)  # twelve digits
Region = NewType("Region", str)  # a real AWS region name, e.g. us-east-1
Kind = NewType("Kind", str)  # "training-job": the resource part of the ARN
ResourceName = NewType("ResourceName", str)
Arn = NewType("Arn", str)
RequestId = NewType("RequestId", str)
WorkloadId = NewType("WorkloadId", str)  # legal as a container name and as a folder name
TransferId = NewType("TransferId", str)
BackendName = NewType("BackendName", str)  # "docker" | "process" | "fake"

DEFAULT_ACCOUNT = Account("000000000000")
DEFAULT_REGION = Region("us-east-1")

_UNSAFE = re.compile(r"[^a-zA-Z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Key:
    """What a reconcile request carries, and nothing else: which resource to look at again."""

    kind: Kind
    account: Account
    region: Region
    name: ResourceName

    def __str__(self) -> str:
        return f"{self.kind}/{self.account}/{self.region}/{self.name}"


def arn(service: str, region: Region | str, account: Account | str, resource: str) -> Arn:
    """`arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`; IAM passes an empty region."""
    return Arn(f"arn:aws:{service}:{region}:{account}:{resource}")


def new_request_id() -> RequestId:
    return RequestId(str(uuid.uuid4()))


def workload_id(kind: Kind, name: str, attempt: int, host: int) -> WorkloadId:
    """A name chosen before anything is started, unique per attempt because of its random tail.

    The tail keeps a job that was deleted and created again under the same name apart from its predecessor.
    """
    safe = _UNSAFE.sub("-", name)[:80]
    return WorkloadId(f"{kind}-{safe}-{attempt}-algo-{host}-{secrets.token_hex(4)}")
