"""What an operation may know besides its request and its transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sagewright.core.ids import Account, Region, RequestId


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed. `arn` is the caller identity, e.g. `arn:aws:sts::000000000000:assumed-role/SageMakerRole/me`."""

    account: Account
    arn: str
    user_id: str
    access_key: str


@dataclass(frozen=True, slots=True)
class Ctx:
    """One call's surroundings. Time and ids come in as values, so that operations stay deterministic."""

    account: Account
    region: Region
    principal: Principal
    now: datetime
    request_id: RequestId
    base_url: str = ""  # how this client reached us, e.g. http://127.0.0.1:8470
    registry: str = ""  # where our image registry is reached on this machine, e.g. 127.0.0.1:8470
    registry_url: str = ""  # what ECR's answers call it: http://127.0.0.1:8470, or AWS's own name where docker finds us
    image_names: Path | None = None  # the user's table of images (`services.image_table`)
