"""Transform jobs for whoever measures them: those under way, and those that changed of late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import or_, select

from sagewright.core.clock import to_text
from sagewright.core.ids import Region
from sagewright.store.kinds.transform_job import IN_PROGRESS, KIND, STOPPING, TERMINAL, TransformStatus
from sagewright.store.resources import Tx
from sagewright.store.tables import resources


class Measured(NamedTuple):
    region: Region
    name: str
    status: TransformStatus
    ended: bool


def measured(tx: Tx, since: datetime) -> Iterator[Measured]:
    """Jobs that run, and jobs whose row changed after `since`, which may have ended."""
    columns = resources.c
    wanted = or_(columns.state.in_((IN_PROGRESS, STOPPING)), columns.changed_at > to_text(since))
    found = select(columns.region, columns.name, columns.state, columns.status).where(columns.kind == KIND, wanted)
    for row in tx.connection.execute(found):
        status = TransformStatus.from_row(orjson.loads(row.status))
        yield Measured(Region(row.region), row.name, status, row.state in TERMINAL)
