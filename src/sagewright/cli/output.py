"""How the commands write: one place for tables and times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

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


_GAP = 2  # spaces between the columns of a table
_PIPE_WIDTH = 240  # columns when the output is not a terminal: nothing is cut for `grep`


Cell = str | Text
"""Plain words, whatever signs are in them, or words with a style."""


def console() -> Console:
    """Standard output, as wide as the terminal."""
    made = Console(highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(highlight=False, soft_wrap=False, width=_PIPE_WIDTH)


def show(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, elastic: Sequence[str] = ()) -> None:
    """Print a table that fits the terminal."""
    target = console()
    target.print(table(headings, rows, elastic=elastic, width=target.width))


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, elastic: Sequence[str], width: int) -> Table:
    """One line per row in `width` columns: what does not fit is cut from the `elastic` columns, which share the room
    that the others leave; the others are shown whole, in further lines where even they do not fit."""
    cells = [tuple(cell if isinstance(cell, Text) else Text(cell) for cell in row) for row in rows]
    needed = {
        heading: max(len(heading), *(_width(row[at]) for row in cells)) if cells else len(heading)
        for at, heading in enumerate(headings)
    }
    room = width - _GAP * (len(headings) - 1) - sum(needed[heading] for heading in headings if heading not in elastic)
    limits = _shares({heading: needed[heading] for heading in elastic}, room)
    shown = [at for at, heading in enumerate(headings) if heading not in elastic or limits[heading] > 1]
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for heading in (headings[at] for at in shown):
        limit = limits.get(heading)
        cut = limit is not None
        made.add_column(heading, overflow="ellipsis" if cut else "fold", no_wrap=cut, width=limit)
    for row in cells:
        made.add_row(*(row[at] for at in shown))
    return made


def _width(cell: Text) -> int:
    return max((cell_len(line) for line in cell.plain.splitlines()), default=0)


def _shares(needed: Mapping[str, int], room: int) -> dict[str, int]:
    """Of each column: what it needs if that is no more than its share, so that the others get what it leaves."""
    given: dict[str, int] = {}
    for heading in sorted(needed, key=lambda each: needed[each]):
        given[heading] = max(0, min(needed[heading], room // (len(needed) - len(given))))
        room -= given[heading]
    return given


def status_word(status: str) -> Text:
    return Text(status, style=STATUS_STYLE.get(status, ""))


def cause(job: Mapping[str, Any]) -> str:
    """The first line of a failure's reason, without its kind, as a table cuts it soon."""
    return str(job.get("FailureReason", "")).partition("\n")[0].partition(": ")[2].removesuffix(" Last log lines:")


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
