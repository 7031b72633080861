"""What a program's last log lines say of its end: the exception, where it was raised, a command line's complaint. Pure.

Read: tracebacks as Python prints them, and as IPython does (a notebook that nbconvert or papermill executes), with or
without colours. Owns: reading. Does not own: what is made of it (`failure`, `endpoint_failures`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_BEGINS: Final = "Traceback (most recent call last)"
_FRAME: Final = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_IPYTHON_FRAME: Final = re.compile(r"^\s*File (?P<file>[^\s\"]+):(?P<line>\d+)")
_GROUP: Final = re.compile(r"^ {2}[|+] (?=\S| )")  # before each line of an ExceptionGroup's own traceback
_CELL: Final = re.compile(
    r"^\s*(?:Cell |Input )In ?\[(?P<cell>\d+)\](?:, line (?P<line>\d+)|.*<cell line: (?P<first>\d+)>)"
)
_RAISED: Final = re.compile(r"^(?:(?:[A-Za-z_]\w*\.)*_?[A-Z]\w*|(?:[a-z_]\w*\.)+\w*(?:error|timeout))(?::.*)?$")
_LIBRARY: Final = re.compile(r"/(?:site|dist)-packages/|/lib/python3|^<")
# What sh, bash and env print for a script whose lines end with CRLF: the return as it is, or written out.
_WINDOWS: Final = re.compile(
    r"\$'\\r'|[Ii]llegal option -\r|: -\r: invalid option|\r['’]?: (?:not found|No such file)|\\r['’\"]: "
)


# How command lines and libraries that do not raise tell why they end the program.
_COMPLAINT: Final = re.compile(
    r"(?:[\w./-]+: )?error: .+|Error: .+|\s*what\(\): +(?P<what>.+)|Fatal Python error: .+|"
    r".*: Assertion [`'].+' failed\.?|(?:double free|corrupted|(?:free|malloc|realloc|munmap_chunk)\(\):).*|"
    r"\*\*\* stack smashing .*|"
    r"\S+: error while loading shared libraries: .+"
)


class _Place(NamedTuple):
    words: str
    own: bool  # the user's code, not a library's


def plain(line: str) -> str:
    """Without what only a terminal understands."""
    return _ESCAPE.sub("", line)


def raised(lines: Sequence[str]) -> str:
    """`ValueError: no data (train.py, line 12)`: the exception of the last traceback; empty when there is none."""
    texts = [_GROUP.sub("", plain(line)).rstrip() for line in lines]
    places = {number: place for number, text in enumerate(texts) if (place := _place(text))}
    if not places:
        return ""
    last = max(places)
    said = next((text for text in texts[last + 1 :] if _RAISED.match(text)), "")
    if not said:
        return ""
    begun = max((number for number, text in enumerate(texts[:last]) if _BEGINS in text), default=0)
    own = [place.words for number, place in places.items() if number >= begun and place.own]
    return f"{said.rstrip(': .')} ({own[-1]})" if own else said.rstrip(": .")


def exceptions(lines: Sequence[str]) -> list[str]:
    """Every line that looks like the name of an exception and what it says, also of those that led to another."""
    return [text for line in lines if _RAISED.match(text := _GROUP.sub("", plain(line)).rstrip())]


def complaint(lines: Sequence[str]) -> str:
    """What a command line, or a library that aborts the program, has said last: `train.py: error: …`; or nothing."""
    for line in reversed(lines):
        if found := _COMPLAINT.fullmatch(plain(line).rstrip()):
            return (found["what"] or found[0]).strip().rstrip(".")
    return ""


def has_windows_line_ends(lines: Sequence[str]) -> bool:
    """Whether a shell stumbled over the carriage returns of its script."""
    return any(_WINDOWS.search(line) for line in lines)


def _place(text: str) -> _Place | None:
    if found := _CELL.match(text):
        return _Place(f"notebook cell [{found['cell']}], line {found['line'] or found['first']}", own=True)
    if found := _FRAME.match(text) or _IPYTHON_FRAME.match(text):
        file = found["file"]
        return _Place(f"{file.rpartition('/')[2]}, line {found['line']}", own=not _LIBRARY.search(file))
    return None
