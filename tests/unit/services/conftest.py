"""A store on disk and a caller, for operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.context import Ctx, Principal
from sagewright.core.ids import DEFAULT_ACCOUNT, DEFAULT_REGION, RequestId
from sagewright.services.service import Service
from sagewright.store.db import Database
from sagewright.store.kinds import role as roles

Call = Callable[..., Mapping[str, Any]]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(tmp_path / "rows.db")
    made.write(lambda tx: roles.ensure_default(tx, DEFAULT_ACCOUNT, NOW))
    yield made
    made.close()


def context(at: datetime = NOW) -> Ctx:
    principal = Principal(
        DEFAULT_ACCOUNT, "arn:aws:sts::000000000000:assumed-role/SageMakerRole/me", "AROAX:me", "ASIAX"
    )
    return Ctx(DEFAULT_ACCOUNT, DEFAULT_REGION, principal, at, RequestId("00000000-1111-2222-3333-444444444444"))


@pytest.fixture
def call(store: Database) -> Call:
    """`call(service, "Operation", second=3, **request)`: one operation in its transaction, at NOW + `second`."""

    def run(service: Service, name: str, /, *, second: int = 0, **request: Any) -> Mapping[str, Any]:
        operation = service.operations[name]
        ctx = context(NOW + timedelta(seconds=second))
        inside = store.write if operation.writes else store.read
        return inside(lambda tx: operation.function(ctx, tx, request))

    return run
