"""A service is a model's name and an explicit table: operation name → function, marked reads or writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sagewright.core.context import Ctx
from sagewright.store.resources import Tx

Request = Mapping[str, Any]
Response = Mapping[str, Any]
OperationFunction = Callable[[Ctx, Tx, Request], Response]


@dataclass(frozen=True, slots=True)
class Operation:
    """`writes` decides which kind of transaction surrounds the call."""

    function: OperationFunction
    writes: bool


def reads(function: OperationFunction) -> Operation:
    return Operation(function, writes=False)


def writes(function: OperationFunction) -> Operation:
    return Operation(function, writes=True)


@dataclass(frozen=True, slots=True)
class Service:
    """`name` is botocore's service name. An operation of the model that is not in the table is answered by name."""

    name: str
    operations: Mapping[str, Operation]
