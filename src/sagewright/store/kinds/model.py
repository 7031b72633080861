"""Models as rows: what a container is made of. There is no controller: a model is what its request said.

spec: {"request": CreateModel as decoded, without Tags, "images": [what each container's image meant at creation, in the
order of the containers; the form of `services.images.resolve`]}. State "".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName, arn

KIND: Final = Kind("model")


def key(account: Account, region: Region, name: str) -> Key:
    return Key(KIND, account, region, ResourceName(name))


def model_arn(model: Key) -> str:
    return arn("sagemaker", model.region, model.account, f"model/{model.name}")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    request: Mapping[str, Any]
    images: tuple[Mapping[str, Any], ...]

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        """The container definitions in wire spelling: the one PrimaryContainer, or all of Containers."""
        primary = self.request.get("PrimaryContainer")
        return (primary,) if primary else tuple(self.request.get("Containers") or ())

    def to_row(self) -> dict[str, Any]:
        return {"request": dict(self.request), "images": [dict(each) for each in self.images]}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ModelSpec:
        return cls(row["request"], tuple(row["images"]))
