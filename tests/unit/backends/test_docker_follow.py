"""Following a log through streams that end early, are cut, or find the container gone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from sagewright.backends.docker import follow as module
from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.follow import Look, follow
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.observation import Phase

CONTAINER: dict[str, Any] = {"Id": "c", "HostConfig": {"LogConfig": {"Type": "local"}}}
RUNNING, EXITED = Look(Phase.RUNNING, CONTAINER), Look(Phase.EXITED, CONTAINER)


def line(number: int, end: bytes = b"\n") -> bytes:
    content = b"2026-11-22T14:02:%02d.000000000Z line %d" % (number, number) + end
    return b"\x01\0\0\0" + len(content).to_bytes(4, "big") + content


class ScriptedEngine:
    """Each request for the log gets the next answer: chunks, then the error if there is one."""

    def __init__(self, *answers: list[bytes | Exception]) -> None:
        self.closed = False
        self.last = b""  # what a request for the last lines gets
        self.tails = 0
        self.asked: list[tuple[str, bool]] = []
        self._answers = list(answers)

    async def logs(
        self, container: str, *, since: str, follow: bool, tail: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if tail is not None:
            self.tails += 1
            if self.last:
                yield self.last
            return
        self.asked.append((since, follow))
        for chunk in self._answers.pop(0):
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


async def read(engine: ScriptedEngine, *looks: Look | Exception | None) -> list[bytes]:
    left = list(looks)

    async def look() -> Look | None:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return [each.message async for batch in follow(cast(Engine, engine), look, None) for each in batch]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(module, "_PREPARING", 0.0)


async def test_a_stream_that_ends_while_the_program_runs_is_not_the_end() -> None:
    engine = ScriptedEngine([line(1)], [line(1), line(2)], [line(1), line(2), line(3)])
    assert await read(engine, RUNNING, RUNNING, EXITED) == [b"line 1", b"line 2", b"line 3"]
    assert [follow for _, follow in engine.asked] == [True, True, False]


async def test_a_log_whose_last_line_is_known_is_not_read_again() -> None:
    engine = ScriptedEngine([line(1), line(2)])
    engine.last = line(1) + line(2)
    assert await read(engine, RUNNING, EXITED) == [b"line 1", b"line 2"]
    assert [follow for _, follow in engine.asked] == [True]


@pytest.mark.parametrize("last", [b"", line(2), line(2, b""), line(1) + line(1)])
async def test_a_log_that_goes_on_after_the_last_known_line_is_read_to_its_end(last: bytes) -> None:
    engine = ScriptedEngine([line(1)], [line(1), line(2)])
    engine.last = last
    assert await read(engine, RUNNING, EXITED) == [b"line 1", b"line 2"]
    assert engine.tails == 1


async def test_a_cut_inside_a_frame_loses_and_doubles_nothing() -> None:
    cut: list[bytes | Exception] = [line(1), line(2)[:20], BackendUnavailable("cut")]
    engine = ScriptedEngine(cut, [line(1), line(2)])
    assert await read(engine, RUNNING, EXITED) == [b"line 1", b"line 2"]


async def test_a_cut_of_the_last_read_is_read_again() -> None:
    engine = ScriptedEngine([line(1), BackendUnavailable("cut")], [line(1), line(2, b"")])
    assert await read(engine, EXITED, EXITED) == [b"line 1", b"line 2"]


async def test_the_first_look_fails_at_once_and_later_ones_after_some_attempts() -> None:
    down = BackendUnavailable("down")
    with pytest.raises(BackendUnavailable):
        await read(ScriptedEngine(), down)
    engine = ScriptedEngine([line(1)], [line(1), line(2)])
    assert await read(engine, RUNNING, down, down, EXITED) == [b"line 1", b"line 2"]
    with pytest.raises(BackendUnavailable):
        await read(ScriptedEngine([line(1)]), RUNNING, down, down, down)


async def test_after_our_own_end_it_does_not_wait_for_the_engine() -> None:
    engine = ScriptedEngine([line(1)])
    engine.closed = True
    with pytest.raises(BackendUnavailable):
        await read(engine, RUNNING, BackendUnavailable("closed"))


async def test_what_prepares_is_waited_for_and_what_failed_has_no_lines() -> None:
    preparing, failed = Look(Phase.PREPARING, None), Look(Phase.EXITED, None)
    assert await read(ScriptedEngine([line(1)]), preparing, preparing, EXITED) == [b"line 1"]
    assert await read(ScriptedEngine(), preparing, failed) == []
    assert await read(ScriptedEngine(), None) == []


async def test_a_container_that_is_removed_under_the_reader_is_the_end() -> None:
    engine = ScriptedEngine([EngineRefused(404, "no such container")])
    assert await read(engine, RUNNING, None) == []
