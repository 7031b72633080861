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


_PIPE_WIDTH = 240  # columns when the output is not a terminal: nothing is cut for `grep`


def console() -> Console:
    """Standard output, as wide as the terminal."""
    made = Console(highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(highlight=False, soft_wrap=False, width=_PIPE_WIDTH)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, elastic: Sequence[str] = ()) -> Table:
    """One line per row: what does not fit is cut from the `elastic` columns; the others are shown whole."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="ellipsis" if heading in elastic else "fold", no_wrap=heading in elastic)
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


def size(count: float) -> str:
    """Bytes as people say them: 0 B, 3.4 KiB, 1.2 GiB."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"
