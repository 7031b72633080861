"""Find a workload's program and become it; when that fails, say why in words that a user can act on.

The rules are a container's: a name without a slash is looked for in the image's folder, then along PATH; a path is
taken from the working directory, which is the image's folder. Exit codes of a shell are named in messages
(127 not found, 126 found but not runnable) because users know them.
"""

from __future__ import annotations

import errno
import os

from .task import CannotRun

_PYTHONS = ("python", "python3")


def locate(word: str, folder: str, search: str, environment: str) -> str:
    """The path to execute for `word`. `folder` is the working directory's name in messages. CannotRun if absent."""
    if not word:
        raise CannotRun("start", "The entrypoint's program is an empty word: name a program.")
    if word in _PYTHONS:
        return f"{environment}/bin/{word}"
    if "/" in word:
        if not os.path.lexists(word):
            where = word if word.startswith("/") else os.path.normpath(f"{folder}/{word}")
            raise _not_found(word, where)
        return word
    if os.path.isfile(word):
        return f"./{word}"
    for place in search.split(":"):
        if os.path.isfile(f"{place}/{word}") and os.access(f"{place}/{word}", os.X_OK):
            return f"{place}/{word}"
    raise _not_found(word, f"{folder}/{word}, then in PATH ({search})")


def _not_found(word: str, looked_for: str) -> CannotRun:
    return CannotRun("start", f"The program {word!r} was not found: looked for {looked_for} (exit code 127).")


def check(path: str, word: str) -> None:
    """CannotRun for what would fail, or fail obscurely, in the kernel or in `env`."""
    if os.path.isdir(path):
        raise _not_runnable(word, "it is a folder")
    if not os.path.exists(path):
        raise _not_found(word, f"{os.path.realpath(path)}, to which the link {path} leads")
    if not os.access(path, os.X_OK):
        raise _not_runnable(word, f"it is not executable; run `chmod +x {word}` and add the image again")
    first = _first_line(path)
    if not first.startswith(b"#!"):
        return
    if first.endswith(b"\r\n") or first.endswith(b"\r"):
        raise _not_runnable(
            word,
            "its lines end the Windows way (CRLF), so the interpreter's name on its first line ends in a carriage "
            f"return; convert it (`sed -i 's/\\r$//' {word}`) and add the image again",
        )
    interpreter = os.fsdecode(first[2:].split()[0]) if first[2:].split() else ""
    if not os.path.exists(interpreter):
        raise _not_runnable(word, f"its first line names the interpreter {interpreter!r}, which does not exist here")


def _first_line(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(512)
    except OSError:
        return b""  # executable but not readable: the kernel will say


def _not_runnable(word: str, why: str) -> CannotRun:
    return CannotRun("start", f"The program {word!r} cannot be run: {why} (exit code 126).")


def become(path: str, argv: list[str], env: dict[str, str]) -> None:
    """Replace this process. Returns never; CannotRun with the kernel's reason."""
    word = argv[0]
    try:
        os.execve(path, argv, env)
    except ValueError as error:
        raise CannotRun("start", f"The program {word!r} cannot be run: {error}.") from error
    except OSError as error:
        raise _not_runnable(word, _reason(error)) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return "it is neither a program for this machine's processor nor a script that begins with #!"
    if error.errno == errno.EACCES:
        return "permission denied; its file system or a folder above it forbids execution"
    if error.errno == errno.E2BIG:
        return "its arguments and environment variables together are too long for the kernel"
    return os.strerror(error.errno or 0)
