"""How the commands write: one place for tables and times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

STATUS_STYLE = {
    "Completed": "green",
    "InProgress": "cyan",
    "Failed": "red",
    "Stopping": "yellow",
    "Stopped": "yellow",
    "InService": "green",
    "Creating": "cyan",
    "Updating": "cyan",
    "RollingBack": "yellow",
    "Deleting": "yellow",
    "OutOfService": "red",
}


def console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def status_word(status: str) -> str:
    style = STATUS_STYLE.get(status)
    return f"[{style}]{status}[/]" if style else status


def ago(moment: datetime, now: datetime | None = None) -> str:
    """`moment` as people say it: 12s, 5m, 3h, 2d ago."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
