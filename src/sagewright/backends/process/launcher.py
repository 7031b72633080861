"""Start a runner so that nothing of Sagewright is needed for it to live on.

    .new/<id>-<random>/   the record, complete, seen by nobody
            │  the runner starts in it and renames it
            ▼
    <id>/                 now it is a workload, and its runner is alive

A crash before the rename leaves an old folder in `.new` that the next start sweeps; after it, a running workload.

The runner's command line is relative and names neither Sagewright nor the data directory, and its source is a copy:
neither `pkill -f sagewright` nor an upgrade of this package touches what runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import WorkloadId

_ENTRY = """import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
from runner.main import main
main()
"""
_STALE = 600.0  # seconds after which an unpublished record has no living maker


class Launcher:
    """Prepares record folders below `root` and starts runners. All calls block for some milliseconds."""

    def __init__(self, root: Path, python: str, environ: Mapping[str, str]) -> None:
        """`python` runs the runner; `environ` is all that it and an environment build get to see."""
        self._new = root / ".new"
        self._root = root
        self._python = python
        self._environ = dict(environ)
        self._entry = _install(root / ".runner")
        self._new.mkdir(exist_ok=True)
        _sweep(self._new)

    def prepare(self, workload: WorkloadId, record: Mapping[str, object]) -> Path:
        """A complete record that nobody sees yet."""
        folder = self._new / f"{workload}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        _write_private(folder / "workload.json", json.dumps(record).encode())
        _write_private(folder / "log", b"")
        return folder

    def start(self, folder: Path) -> bool:
        """Run the record; False when a workload of its id is there already (then the record is dropped)."""
        reading, writing = os.pipe()
        try:
            self._spawn(folder, str(writing), pass_fds=(writing,)).wait()
            os.close(writing)
            writing = -1
            with open(reading, "rb") as pipe:
                answer = pipe.read()
        finally:
            if writing >= 0:
                os.close(writing)
        if answer == b"accepted":
            return True
        said = _tail(folder / "runner.log")
        shutil.rmtree(folder, ignore_errors=True)
        if answer != b"present":
            raise BackendUnavailable(f"A process to run {folder.name} could not be started: {said}")
        return False

    def publish_failure(self, folder: Path, workload: WorkloadId, ending: Mapping[str, object]) -> bool:
        """A workload that ended before any process was needed; False as for `start`."""
        _write_private(folder / "exit.json", json.dumps(ending).encode())
        try:
            folder.rename(self._root / workload)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            if not (self._root / workload).exists():
                raise
            return False
        return True

    def probe(self, folder: Path) -> bytes:
        """What the runner's probe prints about the kernel, run in a prepared folder that is removed afterwards."""
        (folder / "program").mkdir()
        try:
            with self._spawn(folder, "--probe", stdout=subprocess.PIPE) as process:
                answer = process.stdout.read() if process.stdout else b""
            if not answer:
                raise BackendUnavailable(f"The kernel could not be examined: {_tail(folder / 'runner.log')}")
            return answer
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _spawn(
        self, folder: Path, argument: str, *, stdout: int | None = None, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        python = Path(self._python)
        with open(folder / "runner.log", "ab") as said:
            return subprocess.Popen(
                [python.name, "-I", "-S", os.path.relpath(self._entry, folder), argument],
                executable=self._python,
                cwd=folder,
                env=self._environ,  # its PATH begins with the interpreter's folder, which argv[0] is looked for in
                stdin=subprocess.DEVNULL,
                stdout=said if stdout is None else stdout,
                stderr=said,
                start_new_session=True,
                pass_fds=pass_fds,
            )


def _install(place: Path) -> Path:
    """Copy the runner's source to `<place>/<hash of it>/`, once per version; the path of its entry script."""
    source = Path(__file__).with_name("runner")
    files = {f"runner/{path.name}": path.read_bytes() for path in sorted(source.glob("*.py"))}
    files["run.py"] = _ENTRY.encode()
    digest = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    installed = place / digest
    if not installed.exists():
        aside = place / f".{digest}-{secrets.token_hex(4)}"
        (aside / "runner").mkdir(parents=True)
        for name, content in files.items():
            (aside / name).write_bytes(content)
        try:
            aside.rename(installed)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not installed.exists():
                raise
    return installed / "run.py"


def _sweep(new: Path) -> None:
    for folder in new.iterdir():
        if time.time() - folder.stat().st_mtime > _STALE:
            shutil.rmtree(folder, ignore_errors=True)


def _write_private(path: Path, content: bytes) -> None:
    """A record holds a job's environment, and so its credentials."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _tail(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()[-1000:] or "it ended at once and said nothing"
    except OSError as error:
        return str(error)
