"""One fake program being carried out: a script, and how far it has come. Pure: time comes in.

    accepted ──prepare──► running ──steps──► exited
        │                    │ SIGTERM: on_term          ▲
        └─ fails / stopped ──┴───────────────────────────┘

Owns: the state of one workload. Does not own: which exist, faults, or who looks (`engine`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sagewright.backends.fake.script import Await, Do, End, OnTerm, Run, Say, Script, Step, Trap
from sagewright.workloads.backend import LogCursor, LogRecord
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.workload import Workload

KILLED = 137


class Program:
    """`advance(now)` is the only thing that lets it act; what happened in between has its exact time."""

    def __init__(self, workload: Workload, script: Script, installation: str, accepted_at: datetime) -> None:
        self.workload = workload
        self.installation = installation
        self.records: list[LogRecord] = []
        self.vanished = False
        self.starts_at = accepted_at + timedelta(seconds=script.prepare)
        self.seen = Observation(workload.id, Phase.PREPARING, message=f"pulling image {workload.image.name}")
        self._script = script
        self._steps = list(script.steps)
        self._on_term = script.on_term
        self._now = accepted_at  # how far it has been carried out
        self._partial = b""
        self._ending: tuple[datetime, OnTerm] | None = None  # SIGTERM was heard: exits then, so

    @property
    def running(self) -> bool:
        return self.seen.phase is Phase.RUNNING

    @property
    def exited(self) -> bool:
        return self.seen.phase is Phase.EXITED

    @property
    def kept(self) -> bool:
        """Whether the substrate has a record of it: a failed image leaves none, a failed start does."""
        return not (self.exited and self.seen.started_at is None and self.seen.cause is ExitCause.IMAGE)

    def advance(self, now: datetime, kill_at: datetime | None = None) -> None:
        """Carry on until `now`, or until SIGKILL at `kill_at`."""
        if self.seen.phase is Phase.PREPARING and self.starts_at <= now:
            self._start()
        until = min(now, kill_at) if kill_at else now
        while self.running and self._step(until):
            pass
        if self.running and kill_at and kill_at <= now:
            self._exit(kill_at, KILLED, ExitCause.EXIT)
        self._now = max(self._now, until)

    def terminate(self, now: datetime) -> None:
        """SIGTERM. A second one changes nothing."""
        if self.seen.phase is Phase.PREPARING:
            self._fail(now, ExitCause.START, "stopped before it was started")
        elif self.running and self._on_term and not self._ending:
            self._ending = (now + timedelta(seconds=self._on_term.after), self._on_term)
            self.advance(now)

    def lose(self, now: datetime) -> None:
        """Its record is gone: seen as LOST from now on."""
        self.seen = Observation(
            self.workload.id,
            Phase.EXITED,
            started_at=self.seen.started_at,
            ended_at=now,
            cause=ExitCause.LOST,
            message="the machine restarted while it ran",
        )

    def _start(self) -> None:
        if self._script.fails:
            self._fail(self.starts_at, *self._script.fails)
            return
        self._now = self.starts_at
        self.seen = Observation(
            self.workload.id,
            Phase.RUNNING,
            started_at=self.starts_at,
            image_digest=self._script.image_digest,
        )

    def _step(self, until: datetime) -> bool:
        """Carry out one step, or the end that SIGTERM asked for; False when it must wait for more time."""
        if self._ending and self._now >= self._ending[0]:
            moment, on_term = self._ending
            self._say(moment, on_term.say)
            self._exit(moment, on_term.code, ExitCause.EXIT)
            return False
        horizon = min(until, self._ending[0]) if self._ending else until
        if self._carry_out(self._steps[0] if self._steps else End(0), horizon):
            del self._steps[:1]
            return True
        return self._ending is not None and self._now >= self._ending[0]

    def _carry_out(self, step: Step, until: datetime) -> bool:
        match step:
            case Say(content):
                self._say(self._now, content)
            case Run(seconds):
                return self._pass(seconds, until)
            case Await(holds):
                self._now = max(self._now, until)
                return holds()
            case Do(effect):
                effect(self.workload)
            case Trap(on_term):
                self._on_term = on_term
            case End():
                self.vanished = step.vanish
                self._exit(self._now, step.code, step.cause)
        return True

    def _pass(self, seconds: float | None, until: datetime) -> bool:
        """Let time pass; when it is not enough, the rest of the step is kept for later."""
        done = self._now + timedelta(seconds=seconds) if seconds is not None else None
        if done is not None and done <= until:
            self._now = done
            return True
        passed = max(until - self._now, timedelta(0))
        self._steps[0] = Run(None if seconds is None else seconds - passed.total_seconds())
        self._now += passed
        return False

    def _say(self, moment: datetime, content: bytes) -> None:
        *lines, self._partial = (self._partial + content).split(b"\n")
        for line in lines:
            self._record(moment, line)

    def _record(self, moment: datetime, line: bytes) -> None:
        cursor = LogCursor(str(len(self.records) + 1))
        self.records.append(LogRecord(cursor, int(moment.timestamp() * 1000), line))

    def _exit(self, moment: datetime, code: int, cause: ExitCause) -> None:
        if self._partial:
            self._record(moment, self._partial)
            self._partial = b""
        self.seen = Observation(
            self.workload.id,
            Phase.EXITED,
            started_at=self.seen.started_at,
            ended_at=moment,
            exit_code=code,
            cause=cause,
            image_digest=self.seen.image_digest,
        )

    def _fail(self, moment: datetime, cause: ExitCause, message: str) -> None:
        self.seen = Observation(self.workload.id, Phase.EXITED, ended_at=moment, cause=cause, message=message)
