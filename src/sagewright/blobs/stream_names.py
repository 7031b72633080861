"""Where a log group and a log stream lie on the disk, reversibly, whatever they are called.

    group  /aws/sagemaker/TrainingJobs   %2Faws%2Fsagemaker%2FTrainingJobs/
    stream my-job/algo-1-1700000000      my-job+/algo-1-1700000000.log

A folder ending in `+` stands for a slash, so that the streams of one job among 100,000 are found by listing one folder;
a folder ending in `~` means that a name too long for one file name goes on inside. Neither sign is in an escaped name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

SUFFIX: Final = ".log"
_LONGEST: Final = 200  # characters of one file name; file systems take 255


def group_path(root: Path, group: str) -> Path:
    return root.joinpath(*_pieces(_escape(group), ""))


def stream_path(folder: Path, stream: str) -> Path:
    """The file of `stream` in the folder of its group."""
    *above, last = stream.split("/")
    return _below(folder, above).joinpath(*_pieces(_escape(last), SUFFIX))


def groups(root: Path) -> Iterator[str]:
    """Every group, in no particular order."""
    for above, name in _entries(root, ""):
        if name.endswith("~"):
            yield from (unquote(found) for found in _long_groups(root / name, above + name[:-1]))
        elif not name.startswith("."):
            yield unquote(above + name)


def streams(folder: Path, prefix: str) -> Iterator[str]:
    """Every stream of a group's folder whose name starts with `prefix`, in no particular order."""
    above = prefix.split("/")[:-1]
    start = "".join(f"{segment}/" for segment in above)
    return (name for name in _streams_below(_below(folder, above), start) if name.startswith(prefix))


def _streams_below(folder: Path, start: str, piece: str = "") -> Iterator[str]:
    for above, name in _entries(folder, piece):
        if name.endswith(SUFFIX):
            yield start + unquote(above + name.removesuffix(SUFFIX))
        elif name.endswith("+"):
            yield from _streams_below(folder / name, f"{start}{unquote(above + name[:-1])}/")
        elif name.endswith("~"):
            yield from _streams_below(folder / name, start, above + name[:-1])


def _long_groups(folder: Path, piece: str) -> Iterator[str]:
    for above, name in _entries(folder, piece):
        if name.endswith("~"):
            yield from _long_groups(folder / name, above + name[:-1])
        else:
            yield above + name


def _entries(folder: Path, above: str) -> Iterator[tuple[str, str]]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names alone; 100,000 Path objects would cost a second
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        yield above, name


def _below(folder: Path, segments: list[str]) -> Path:
    for segment in segments:
        folder = folder.joinpath(*_pieces(_escape(segment), "+"))
    return folder


def _escape(name: str) -> str:
    """Percent-encoding that also hides a leading dot and the sign `~`, which `quote` would let through."""
    escaped = quote(name, safe="").replace("~", "%7E")
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def _pieces(escaped: str, ending: str) -> list[str]:
    pieces = [escaped[start : start + _LONGEST] for start in range(0, len(escaped), _LONGEST)] or [""]
    return [*(f"{piece}~" for piece in pieces[:-1]), pieces[-1] + ending]
