"""What a program's last log lines say of its end: the exception, where it was raised, a command line's complaint. Pure.

Read: tracebacks as Python prints them, and as IPython does (a notebook that nbconvert or papermill executes), with or
without colours. A launcher (torchrun, mpirun, SDK v3's drivers, the training toolkit) ends with a traceback of its
own, which only says that another program failed, and the ranks that lost a failed one say that the connection was
closed: the cause stands before them. Owns: reading. Does not own: what is made of it (`failure`, `endpoint_failures`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
_LIBRARY: Final = re.compile(r"/(?:site|dist)-packages/|/lib/python3|^<|/sm_drivers/|/bin/[^/]+$")
_RANK: Final = re.compile(
    r"^\[(?:\d+,[^\]]*\]<std(?:out|err)>|default\d+\]): ?"
)  # mpirun's and torchrun's, before a line
_PASSED_ON: Final = re.compile(
    "CalledProcessError|ChildFailedError|ExecuteUserScriptError|Training Execution failed|exited unexpectedly"
)
_LOST_A_PEER: Final = re.compile(
    "connection (?:closed|reset|refused|aborted)|broken pipe|remote process exited|NCCL|store timeout", re.I
)
_IGNORED: Final = "Exception ignored in"
NEAR: Final = 20  # lines: what was raised longer ago than that did not end the program
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


class _Raised(NamedTuple):
    """One traceback: the lines that it is from and to, what it says, and the last place of the user's."""

    begin: int
    end: int
    said: str
    place: str


def plain(line: str) -> str:
    """Without what only a terminal understands."""
    return _ESCAPE.sub("", line)


def passes_on(text: str) -> bool:
    """Whether a failure file, or an exception, only says that another program failed."""
    return bool(_PASSED_ON.search(text))


def raised(lines: Sequence[str]) -> str:
    """`ValueError: no data (train.py, line 12)`: the exception that ended the program; empty when there is none."""
    texts = [_bare(line) for line in lines]
    found = list(_tracebacks(texts))
    if not found or found[-1].end < len(texts) - NEAR:
        return ""
    together = [found.pop()]
    while found and (passes_on(together[0].said) or together[0].begin - found[-1].end <= NEAR):
        together.insert(0, found.pop())
    first_hand = [each for each in together if not passes_on(each.said)] or together
    said, place = ([each for each in first_hand if not _LOST_A_PEER.search(each.said)] or first_hand)[-1][2:]
    return f"{said} ({place})" if place else said


def _tracebacks(texts: Sequence[str]) -> Iterator[_Raised]:
    """In the order in which they end."""
    begin: int | None = None
    place, ignored, in_frames = "", False, False
    for number, text in enumerate(texts):
        if _BEGINS in text:
            begin, place, in_frames = number, "", False
            ignored = number > 0 and texts[number - 1].startswith(_IGNORED)
        elif found := _place(text):
            begin, in_frames = number if begin is None else begin, True
            place = found.words if found.own else place
        elif begin is not None and in_frames and _RAISED.match(text):
            if not ignored:
                yield _Raised(begin, number, text.rstrip(": ."), place)
            begin, place, ignored, in_frames = None, "", False, False


def _bare(line: str) -> str:
    """Without colours, and without what a launcher or an ExceptionGroup writes before it."""
    return _GROUP.sub("", _RANK.sub("", plain(line))).rstrip()


def exceptions(lines: Sequence[str]) -> list[str]:
    """Each line near the end that looks like an exception and what it says, also of those that led to another."""
    return [text for line in lines[-2 * NEAR :] if _RAISED.match(text := _bare(line))]


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
