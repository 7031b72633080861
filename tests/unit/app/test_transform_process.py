"""The controller's side of a run: what its process says, and how it may end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from sagewright.app.transform_process import TransformProcess
from sagewright.core.errors import StoreUnavailable, TransferError
from sagewright.staging.meter import Cancelled, Meter
from support.server import wait_for
from support.transform_runs import Runs, container


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    made = Runs(tmp_path / "data")
    yield made
    made.store.close()


def drivers(runs: Runs) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sagewright.app.transform" in words and str(runs.data.root).encode() in words:
            found.append(int(path.parent.name))
    return found


def test_it_runs_to_its_end_and_tells_how_far_it_is(runs: Runs) -> None:
    runs.put({"in/a": b"1\n2\n"})
    meter = Meter()
    with container(lambda body: (200, body)) as address:
        TransformProcess(runs.data.root)(runs.job(address), meter)
    assert (meter.progress["objects"], meter.progress["records"]) == (1, 2)
    assert runs.outputs() == {"a.out": b"1\n2\n"}
    assert drivers(runs) == []


def test_what_the_run_says_is_wrong_is_raised(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    with container(lambda body: (400, b"no")) as address, pytest.raises(TransferError, match=r"^ClientError: "):
        TransformProcess(runs.data.root)(runs.job(address), Meter())


def test_one_that_is_not_wanted_any_more_is_ended(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    held = threading.Event()
    meter = Meter()

    def answer(body: bytes) -> tuple[int, bytes]:
        meter.cancel()
        held.wait(30)
        return 200, body

    with container(answer) as address:
        with pytest.raises(Cancelled):
            TransformProcess(runs.data.root)(runs.job(address), meter)
        held.set()
    assert drivers(runs) == []


def test_one_that_is_killed_is_started_again_but_not_for_ever(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    process = TransformProcess(runs.data.root)
    endings: list[BaseException] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        for pid in wait_for(lambda: drivers(runs), "the driver runs"):
            os.kill(pid, signal.SIGKILL)
        return 200, body

    with container(answer) as address:
        for _ in range(5):
            with pytest.raises((StoreUnavailable, TransferError)) as caught:
                process(runs.job(address), Meter())
            endings.append(caught.value)
    assert [type(each) for each in endings] == [StoreUnavailable] * 4 + [TransferError]
    assert "killed by signal 9 5 times without finishing an object" in str(endings[-1])
