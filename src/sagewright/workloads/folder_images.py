"""Folder images: how a folder becomes one, is stored, and is told in a row.

Owns: the check, the content digest and the stored copy, `images/<hex digest>/`, read-only, put there whole by a rename.
Does not own: which name stands for which image (the store does), how one is run (`backends.process`).

The digest covers names, execute permissions, bytes, links, the entrypoint and the requirements: what is equal runs
equally, and is stored once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from sagewright.core.errors import SettingsError
from sagewright.workloads.workload import FolderImage

IGNORED = frozenset({".git", "__pycache__", ".venv"})
PROGRAM_FOLDER = "/opt/program"  # where the process backend shows the folder; its working directory
MOST_BYTES = 5 * 1024**3  # code, not data: beyond this someone has pointed at the wrong folder
MOST_FILES = 100_000

_COMMANDS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_INTERPRETERS = frozenset({"python", "python3", "sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/bash"})
_CHUNK = 1024 * 1024


def add_folder_image(
    images: Path, source: Path, name: str, entrypoint: tuple[str, ...], requirements: str
) -> FolderImage:
    """Store a copy of `source` below `images` as the image `name`; raises SettingsError saying what to change.

    `requirements` is the text of a pip requirements file. Adding the same content again stores nothing new.
    Raises OSError when the disk fails; then nothing is left behind.
    """
    if not name.strip():
        raise SettingsError("An image needs a name, such as `digits` or `team/digits:1`.")
    if not source.is_dir():
        raise SettingsError(f"{source} is not a folder: give the folder that holds the program.")
    _check_requirements(requirements)
    _check_size(source)
    images.mkdir(parents=True, exist_ok=True)
    aside = images / f".new-{secrets.token_hex(8)}"
    try:
        content = _copy(source, aside)
        _check_entrypoint(aside, entrypoint, requirements)
        told = json.dumps([content, entrypoint, requirements])
        digest = hashlib.sha256(told.encode()).hexdigest()
        _publish(aside, images / digest)
    finally:
        _discard(aside)
    return FolderImage(name, f"sha256:{digest}", images / digest, entrypoint, requirements)


def to_row(image: FolderImage) -> dict[str, object]:
    """As JSON for a row."""
    return {
        "name": image.name,
        "digest": image.digest,
        "path": str(image.path),
        "entrypoint": list(image.entrypoint),
        "requirements": image.requirements,
    }


def from_row(row: Mapping[str, object]) -> FolderImage:
    """The inverse of `to_row`."""
    entrypoint = row["entrypoint"]
    assert isinstance(entrypoint, list), "written by to_row"
    return FolderImage(
        name=str(row["name"]),
        digest=str(row["digest"]),
        path=Path(str(row["path"])),
        entrypoint=tuple(str(word) for word in entrypoint),
        requirements=str(row["requirements"]),
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What of one folder belongs to the image, in an order that is the same everywhere."""
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda entry: os.fsencode(entry.name)):
            environment = entry.is_dir(follow_symlinks=False) and (Path(entry.path) / "pyvenv.cfg").exists()
            if entry.name not in IGNORED and not environment:
                yield entry


def _check_size(source: Path) -> None:
    size = files = 0
    folders = [source]
    while folders:
        for entry in _entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
                continue
            files += 1
            size += entry.stat(follow_symlinks=False).st_size
        if size > MOST_BYTES or files > MOST_FILES:
            raise SettingsError(
                f"{source} holds more than {MOST_BYTES // 1024**3} GiB or {MOST_FILES} files. An image is for code: "
                "put data into an S3 channel and models into a model artifact, or give a smaller folder."
            )


def _copy(source: Path, target: Path) -> list[list[object]]:
    """Copy for keeps, read-only; returns what the digest covers. One read of each file: what is hashed is stored."""
    inside = source.resolve()
    content: list[list[object]] = []

    def copy(folder: Path, to: Path) -> None:
        to.mkdir(mode=0o755)
        for entry in _entries(folder):
            name = Path(entry.path).relative_to(source).as_posix()
            if entry.is_symlink():
                link = _inner_link(Path(entry.path), inside, name)
                (to / entry.name).symlink_to(link)
                content.append(["link", name, link])
            elif entry.is_dir():
                content.append(["folder", name])
                copy(Path(entry.path), to / entry.name)
            elif entry.is_file():
                content.append(["file", name, *_copy_file(Path(entry.path), to / entry.name)])
            else:
                raise SettingsError(f"{name} is a device, pipe or socket, which an image cannot hold: remove it.")
        to.chmod(0o555)

    copy(source, target)
    return content


def _inner_link(link: Path, inside: Path, name: str) -> str:
    target = link.readlink()
    if target.is_absolute() or not (link.parent / target).resolve().is_relative_to(inside):
        raise SettingsError(
            f"The link {name} leads out of the folder, to {target}: copy the file in, or link to it relatively."
        )
    return str(target)


def _copy_file(source: Path, target: Path) -> tuple[bool, str]:
    """(executable, SHA-256 of the bytes)."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("xb") as writing:
        executable = bool(os.fstat(reading.fileno()).st_mode & 0o111)
        while piece := reading.read(_CHUNK):
            digest.update(piece)
            writing.write(piece)
        os.fchmod(writing.fileno(), 0o555 if executable else 0o444)
    return executable, digest.hexdigest()


def _publish(aside: Path, final: Path) -> None:
    if final.exists():
        return
    os.sync()  # a name never stands for bytes that a power failure could still take away
    try:
        aside.rename(final)
    except OSError:
        if not final.exists():  # else somebody added the same at this moment
            raise


def _discard(aside: Path) -> None:
    if not aside.exists():
        return
    for folder, _, _ in os.walk(aside):
        Path(folder).chmod(0o755)
    shutil.rmtree(aside)


def _check_requirements(requirements: str) -> None:
    """An environment is built from the text alone: it cannot refer to files of the folder."""
    for line in requirements.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        refers = words[0] in ("-r", "-c", "-e", "--requirement", "--constraint", "--editable")
        if refers or words[0].startswith((".", "-r.", "-e.", "--requirement=", "--constraint=", "--editable=")):
            raise SettingsError(
                f"The requirement {line.strip()!r} refers to a file: list the packages by name, since the "
                "environment is built apart from the folder. Modules in the folder can be imported as they are."
            )


def _check_entrypoint(folder: Path, entrypoint: tuple[str, ...], requirements: str) -> None:
    if not entrypoint or not entrypoint[0]:
        raise SettingsError('An image needs an entrypoint, such as ["./program"] or ["python", "program.py"].')
    program = entrypoint[0]
    inner = _inner(folder, program)
    if inner is None:
        _check_command(folder, program, requirements)
        if program in _INTERPRETERS and len(entrypoint) > 1:
            _check_script(folder, program, entrypoint[1])
        return
    if not inner.is_file():
        raise SettingsError(f"The entrypoint {program!r} is not a file of the folder.{_similar(folder, program)}")
    _check_line_ends(inner, program)
    if not inner.stat().st_mode & stat.S_IXUSR:
        raise SettingsError(f"The entrypoint {program!r} is not executable: run `chmod +x {program}`, then add again.")
    with inner.open("rb") as file:
        start = file.read(4)
    if not start.startswith((b"#!", b"\x7fELF")):
        raise SettingsError(
            f"The entrypoint {program!r} is a script without a first line that names its interpreter: "
            "begin it with `#!/usr/bin/env python`, or name the interpreter in the entrypoint."
        )


def _inner(folder: Path, program: str) -> Path | None:
    """The file of the image that a word means; None when it means a command of the machine or the environment."""
    if program.startswith(f"{PROGRAM_FOLDER}/"):
        program = f".{program.removeprefix(PROGRAM_FOLDER)}"
    if program.startswith("/") or program in ("python", "python3"):
        return None
    path = folder / program
    if not path.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(f"The entrypoint {program!r} leads out of the folder: move the program into it.")
    return path if "/" in program or path.exists() else None


def _check_command(folder: Path, program: str, requirements: str) -> None:
    if program in ("python", "python3") or shutil.which(program, path=os.pathsep.join(_COMMANDS)):
        return
    if program.startswith("/"):
        raise SettingsError(f"The entrypoint {program!r} is not a program of this machine.{_similar(folder, program)}")
    if not requirements.strip():  # else it may be a command that a requirement installs
        raise SettingsError(
            f"The entrypoint {program!r} is neither a file of the folder nor a command of this machine, and no "
            f"requirements install it.{_similar(folder, program)}"
        )


def _check_script(folder: Path, interpreter: str, script: str) -> None:
    """`python train.py`: the file must be there. Options and `-m module` are left to the interpreter."""
    if script.startswith("-"):
        return
    path = _inner(folder, script if "/" in script else f"./{script}")
    if path is None:
        return
    if not path.exists():
        raise SettingsError(f"{interpreter} is to run {script!r}, not a file of the folder.{_similar(folder, script)}")
    if not interpreter.startswith("python"):  # Python does not mind Windows line ends, shells do
        _check_line_ends(path, script)


def _check_line_ends(path: Path, word: str) -> None:
    with path.open("rb") as file:
        first = file.readline(512)
    if first.endswith(b"\r\n") and (first.startswith(b"#!") or path.suffix == ".sh"):
        raise SettingsError(
            f"The lines of {word!r} end the Windows way (CRLF), which no shell can run: convert it, for example with "
            f"`sed -i 's/\\r$//' {word}`, then add again."
        )


def _similar(folder: Path, program: str) -> str:
    """' Did you mean ...?' for a word that only lacks its suffix, its folder or its case."""
    wanted = Path(program).stem.lower()
    near = sorted(
        path.relative_to(folder).as_posix()
        for path in (*folder.iterdir(), *folder.glob("*/*"))
        if path.is_file() and path.stem.lower() == wanted
    )
    return f" Did you mean {near[0]!r}?" if near else ""
