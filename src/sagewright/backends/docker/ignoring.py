""".dockerignore: which files of a folder do not go to the engine.

Owns: reading the patterns as `docker build` does: `*`, `?`, `[...]`, `**`, and `!` for exceptions; the last that
matches a file or a folder above it decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

_ALWAYS: Final = ("Dockerfile", ".dockerignore")


class Ignored:
    def __init__(self, lines: Sequence[str], *, dockerfile: str = "Dockerfile") -> None:
        rules = (line.strip() for line in lines)
        self._rules = [
            (not rule.startswith("!"), re.compile(_expression(rule.removeprefix("!").strip().strip("/"))))
            for rule in rules
            if rule and not rule.startswith("#")
        ]
        self._kept = {*_ALWAYS, dockerfile}

    @classmethod
    def of(cls, folder: Path, dockerfile: str = "Dockerfile") -> Ignored:
        path = folder / ".dockerignore"
        return cls(path.read_text().splitlines() if path.is_file() else (), dockerfile=dockerfile)

    def __call__(self, path: PurePosixPath) -> bool:
        """Whether `path`, relative to the folder, is left out. The Dockerfile never is: the engine needs it."""
        if str(path) in self._kept:
            return False
        names = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
        out = False
        for leaves_out, pattern in self._rules:
            if any(pattern.fullmatch(name) for name in names):
                out = leaves_out
        return out


def _expression(pattern: str) -> str:
    """A regular expression for a whole path."""
    pattern, made, place = str(PurePosixPath(pattern)), "", 0
    while place < len(pattern):
        if pattern.startswith("**/", place):
            made, place = made + "(?:.*/)?", place + 3
        elif pattern.startswith("**", place):
            made, place = made + ".*", place + 2
        elif pattern[place] == "*":
            made, place = made + "[^/]*", place + 1
        elif pattern[place] == "?":
            made, place = made + "[^/]", place + 1
        elif pattern[place] == "[" and (end := pattern.find("]", place + 2)) > 0:
            made, place = made + pattern[place : end + 1], end + 1
        else:
            made, place = made + re.escape(pattern[place]), place + 1
    return made
