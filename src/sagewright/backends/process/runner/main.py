"""The runner's own life: publish the record, prepare, start, supervise, and write down the end.

Called as `run.py PIPE` in a prepared record folder that nobody sees yet (`.new/...`). Publishing is the rename to the
workload's id: a record is there exactly if its runner is, and of several racing submits one wins.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from contextlib import suppress

from . import cgroups, environment, files, ports, processes
from .requests import Requests, Stopped
from .start import Program
from .task import CannotRun, Task, load

_LOOK = 2.0  # seconds between looks for a request whose signal never came


def main() -> None:
    if sys.argv[1] == "--probe":
        from .probe import probe

        probe()
        return
    answer = int(sys.argv[1])
    requests = Requests()
    if os.fork():
        os._exit(0)  # the second fork: nobody of Sagewright is our parent
    task = load("workload.json")
    ending = files.ReservedFile("exit.json")  # before publishing: a disk too full for it refuses the workload
    if _publish(task, answer):
        _Runner(task, requests, ending).run()


def _publish(task: Task, answer: int) -> bool:
    me = processes.identify(os.getpid())
    assert me is not None, "a running process has an identity"
    files.write_json("runner", me.as_list())
    try:
        os.rename(os.getcwd(), f"../../{task.id}")
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        os.write(answer, b"present")
        return False
    with suppress(BrokenPipeError):  # who asked may have been killed; the record stands, so the work goes on
        os.write(answer, b"accepted")
    os.close(answer)
    return True


class _Runner:
    def __init__(self, task: Task, requests: Requests, ending: files.ReservedFile) -> None:
        self._task = task
        self._requests = requests
        self._record = os.getcwd()
        self._ending = ending
        self._said = ""
        self._started: float | None = None

    def run(self) -> None:
        try:
            self._prepare()
            outcome = self._supervise()
        except Stopped:
            outcome = self._outcome("exit", None, "Stopped before its program was started.")
        except CannotRun as error:
            outcome = self._outcome(error.cause, None, str(error))
        except Exception as error:
            traceback.print_exc()
            outcome = self._outcome("start", None, f"The workload could not be run: {error}.")
        while not self._ending.commit(outcome):
            self._requests.wait(0.5)  # a full disk: somebody will make room
            if self._requests.kill():
                return

    def _outcome(self, cause: str, code: int | None, message: str) -> dict[str, object]:
        times = {"started_at": self._started, "ended_at": time.time()}
        return {"cause": cause, "exit_code": code, "message": message[:3000], **times}

    def _report(self, progress: str) -> None:
        if progress != self._said:
            self._said = progress
            files.write_text("progress", progress)

    def _prepare(self) -> None:
        self._requests.check()
        environment.ensure(self._task, self._requests, self._report)
        if not os.path.isdir(self._task.folder):
            raise CannotRun("image", f"The stored folder of the image {self._task.image} is gone: add it again.")
        self._report("copying the image")
        files.copy_tree(self._task.folder, "program")
        self._requests.check()

    def _supervise(self) -> dict[str, object]:
        """From the fork to the program's end. The group's folders are on record before they can be needed."""
        task = self._task
        claim = ports.claim(task)
        if claim is not None:
            files.write_text("address", f"127.0.0.1:{claim.port}")
        group = cgroups.create(f"workload-{task.id}", task.memory, task.cpus)
        try:
            files.write_json("cgroups", group.folders)
            program = Program(task, self._record, group)
            code = self._watch(program)
            if claim is not None and (reason := claim.explain(code, "log")):
                return self._outcome("start", None, reason)
            out_of_memory = code != 0 and group.out_of_memory()
            return self._outcome("out-of-memory" if out_of_memory else "exit", code, "")
        finally:
            group.remove()

    def _watch(self, program: Program) -> int:
        try:
            self._started = program.start()
            return self._until_end(program)
        except BaseException:
            program.kill()  # what nobody supervises must not run
            raise

    def _until_end(self, program: Program) -> int:
        deadline: float | None = None
        while (code := program.reap()) is None:
            now = time.monotonic()
            if deadline is None and self._requests.stop():
                program.terminate()
                deadline = now + self._task.stop_grace
            if self._requests.kill() or (deadline is not None and now >= deadline):
                program.kill()
            self._requests.wait(_LOOK if deadline is None else min(_LOOK, max(0.01, deadline - now)))
        return code
