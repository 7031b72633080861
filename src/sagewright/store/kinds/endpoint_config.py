"""Endpoint configurations as rows. Immutable, and there is no controller.

spec: {"request": CreateEndpointConfig as decoded, without Tags}. State "". An endpoint copies what it needs into its
plan, so a configuration may be deleted while endpoints that were made from it serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName, arn

KIND: Final = Kind("endpoint-config")


def key(account: Account, region: Region, name: str) -> Key:
    return Key(KIND, account, region, ResourceName(name))


def config_arn(config: Key) -> str:
    return arn("sagemaker", config.region, config.account, f"endpoint-config/{config.name}")


@dataclass(frozen=True, slots=True)
class EndpointConfigSpec:
    request: Mapping[str, Any]

    def to_row(self) -> dict[str, Any]:
        return {"request": dict(self.request)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> EndpointConfigSpec:
        return cls(row["request"])
