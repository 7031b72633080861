"""The fake backend under `backend_suite`: steps become a script, gates and marks are real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sagewright.backends.fake import script
from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.engine import FakeEngine
from sagewright.core.clock import SystemClock
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import ImageRef, Workload
from suites.backend_bench import (
    Allocate,
    Bench,
    Exit,
    IgnoreTerm,
    Mark,
    OnTerm,
    Outage,
    Print,
    PrintArguments,
    PrintEnvironment,
    PrintLines,
    PrintLong,
    Step,
    WaitFor,
)


class FakeBench(Bench):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.engine = FakeEngine(SystemClock(), self._choose)
        self._backends: list[FakeBackend] = []

    async def connect(self, installation: str = "") -> FakeBackend:
        self._backends.append(FakeBackend(self.engine, installation))
        return self._backends[-1]

    def image(self) -> ImageRef:
        return ImageRef("busybox")

    def missing_image(self) -> ImageRef:
        return ImageRef("no-such-image")

    def outage(self) -> Outage:
        return Outage(lambda: self._set_down(True), lambda: self._set_down(False))

    def marks(self, name: str) -> int:
        self.engine.advance()  # a fake program goes on only when somebody looks
        return super().marks(name)

    async def aclose(self) -> None:
        for backend in self._backends:
            await backend.aclose()

    async def _set_down(self, down: bool) -> None:
        self.engine.down = down

    def workload(self, *steps: Step, **changes: Any) -> Workload:
        made = super().workload(*steps, **changes)
        self.engine.script(made.id, self._script(made, steps))
        return made

    def _choose(self, workload: Workload) -> script.Script:
        raise AssertionError(f"{workload.id} was not made by this bench")

    def _script(self, workload: Workload, steps: tuple[Step, ...]) -> script.Script:
        if workload.image == self.missing_image():
            return script.Script(fails=(ExitCause.IMAGE, f"there is no image {workload.image.name}"))
        program = (workload.entrypoint or ("",))[0]
        if program != "/bin/sh":
            return script.Script(fails=(ExitCause.START, f"{program}: no such file"))
        return script.Script(steps=tuple(part for step in steps for part in self._translate(workload, step)))

    def _translate(self, workload: Workload, step: Step) -> list[script.Step]:
        say = self._say(workload, step)
        if say is not None:
            return [script.Say(say)]
        match step:
            case Mark(name):
                return [script.Do(lambda work: self._mark(work, name))]
            case WaitFor(name):
                return [script.Await((self.shared / name).exists)]
            case IgnoreTerm():
                return [script.Trap(None)]
            case OnTerm(text, code):
                return [script.Trap(script.OnTerm(code, text.encode() + b"\n"))]
            case Exit(code):
                return [script.End(code)]
            case Allocate():
                return [script.End(137, ExitCause.OUT_OF_MEMORY)]
        raise AssertionError(step)

    def _say(self, workload: Workload, step: Step) -> bytes | None:
        match step:
            case Print(content):
                return content
            case PrintLines(count, prefix):
                return "".join(f"{prefix}{number}\n" for number in range(count)).encode()
            case PrintLong(size):
                return b"x" * size + b"\n"
            case PrintEnvironment(name):
                return f"<{workload.env.get(name, '')}>\n".encode()
            case PrintArguments():
                return "".join(f"<{argument}>\n" for argument in workload.arguments or ()).encode()
        return None

    def _mark(self, workload: Workload, name: str) -> None:
        if not workload.mounts[0].read_only:
            with (self.shared / name).open("a") as file:
                file.write("here\n")
