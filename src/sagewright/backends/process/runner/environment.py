"""Build a Python environment once per content, safely against other builders, kills and full disks.

    <environments>/<hash>            complete, never changed again
    <environments>/<hash>.lock       held by the one builder; shared for the instant in which one is looked for
    <environments>/.build-<hash>-*   being built; renamed to <hash> when done, else swept by the next builder

What no record names may be removed (`sagewright.backends.process.unused`): under the same lock, and this runner's
record was there before it looked. So an environment that was found stays, and its time says when it was last found.

Paths given to `uv` are relative and its name is short, so that no command line carries where the data lives.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from .requests import Requests
from .task import CannotRun, Task

_ATTEMPTS = 3  # only a build that was killed is tried again
_TAIL = 12  # lines of the log that explain a failure


def ensure(task: Task, requests: Requests, report: Callable[[str], None]) -> None:
    """Return once the environment is there. Stopped when a request comes; CannotRun when it cannot be built."""
    os.makedirs(task.environments, exist_ok=True)
    lock = os.open(f"{task.environment_path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if _found(lock, task.environment_path):
            return
        _acquire(lock, requests, report)
        if not _complete(task.environment_path):
            _Build(task, requests, report).run()
    finally:
        os.close(lock)


def _found(lock: int, path: str) -> bool:
    """Whether it is there, without waiting; a builder that holds the lock may yet replace it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not _complete(path):
        return False
    with suppress(OSError):  # a full or read-only disk: it only looks older than it is
        os.utime(path)
    return True


def _complete(path: str) -> bool:
    """Existence is completeness, because of the rename; a removed base interpreter leaves a dangling link."""
    return os.path.exists(f"{path}/bin/python")


def _acquire(lock: int, requests: Requests, report: Callable[[str], None]) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another workload to finish building the same environment")
            requests.pause(0.05)
        else:
            return


class _Build:
    def __init__(self, task: Task, requests: Requests, report: Callable[[str], None]) -> None:
        self._task = task
        self._requests = requests
        self._report = report
        self._aside = f".build-{task.environment}-{os.getpid()}"
        self._log = os.path.abspath("build.log")
        self._installing = False

    def run(self) -> None:
        self._sweep()
        try:
            for _ in range(_ATTEMPTS):
                if (code := self._attempt()) == 0:
                    return self._publish()
                self._sweep()
                if not self._was_killed(code):
                    break
            raise CannotRun("image", f"The image's requirements could not be installed:\n{self._explanation()}")
        finally:
            self._sweep()

    def _attempt(self) -> int:
        """Exit code of the first command that fails, else 0. Negative: the command was killed."""
        python = f"{self._aside}/bin/python"
        self._report("creating the Python environment")
        code = self._uv("venv", "--no-project", "--relocatable", "--python", self._task.python, self._aside)
        if code or not self._task.requirements.strip():
            return code
        wanted = f"{self._aside}/requirements.txt"
        with open(f"{self._task.environments}/{wanted}", "w", encoding="utf-8") as file:
            file.write(self._task.requirements)
        self._report("resolving the image's requirements")
        self._installing = True
        code = self._uv("pip", "install", "--python", python, "--requirement", wanted)
        self._installing = False
        if code == 0:
            self._compile(python)
        return code

    def _compile(self, python: str) -> None:
        """Now, once, instead of at every start of every workload. Tests are left out: they are half of the files, and
        nobody imports them. A file that does not compile (for another Python, say) is its importer's business."""
        self._report("compiling the installed packages")
        where = f"{self._aside}/lib"
        arguments = ["-I", "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", where]
        self._run(f"{self._task.environments}/{python}", ["python", *arguments])

    def _uv(self, *arguments: str) -> int:
        return self._run(self._task.uv, ["uv", *arguments])

    def _run(self, program: str, argv: list[str]) -> int:
        pid = os.fork()
        if pid == 0:
            self._become(program, argv)
        with suppress(OSError):  # on both sides, as either may be first; once it runs, it has done so itself
            os.setpgid(pid, pid)
        try:
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    return os.waitstatus_to_exitcode(status)
                self._requests.pause(0.2)
                self._report_progress()
        except BaseException:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _become(self, program: str, argv: list[str]) -> None:
        """In the child: its own process group, ending with the runner, writing to the build log."""
        from . import syscalls

        try:
            os.setpgid(0, 0)
            syscalls.die_with_parent(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self._task.environments)
            os.execve(program, argv, dict(os.environ))
        except OSError as error:
            os.write(2, f"{program}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _report_progress(self) -> None:
        """uv says `Resolved 12 packages in 40ms`, then prepares and installs them."""
        words = next((line.split() for line in reversed(self._lines()) if line.startswith("Resolved ")), [])
        if len(words) > 2 and self._installing:
            self._report(f"installing {words[1]} {words[2]}")

    def _lines(self) -> list[str]:
        try:
            with open(self._log, encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def _was_killed(self, code: int) -> bool:
        return code < 0 or any("signal: 9" in line for line in self._lines()[-_TAIL:])

    def _explanation(self) -> str:
        """uv's last lines, from its first error on: what it did before is in build.log."""
        lines = [line.rstrip() for line in self._lines() if line.strip()]
        failed = next((at for at, line in enumerate(lines) if line.startswith("error")), 0)
        return "\n".join(lines[failed:][-_TAIL:]) or "uv said nothing"

    def _publish(self) -> None:
        final = self._task.environment_path
        if os.path.lexists(final):  # incomplete by the check under the lock: its interpreter is gone
            os.rename(final, f"{self._task.environments}/.build-{self._task.environment}-broken")
        os.rename(f"{self._task.environments}/{self._aside}", final)

    def _sweep(self) -> None:
        """Remove what builds of this environment left. We hold its lock, so nobody else is at it."""
        prefix = f".build-{self._task.environment}-"
        leftover = [name for name in os.listdir(self._task.environments) if name.startswith(prefix)]
        if leftover:
            from shutil import rmtree

            for name in leftover:
                rmtree(f"{self._task.environments}/{name}", ignore_errors=True)
