"""The feeder as a process: early readers and late ones, ends of ours and of its own, and what a container may do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.staging.feeder.pipe import FIRST, LAST, LONGEST_PART, MAGIC, MIDDLE, WHOLE, headers
from sagewright.workloads.transfer import TransferPhase
from suites.pipes import FEED, Fed, piped

if TYPE_CHECKING:
    from conftest import Bench

FAILED, RUNNING = TransferPhase.FAILED, TransferPhase.RUNNING
MIB = 1 << 20


@pytest.fixture
async def big(bench: Bench, fed: Fed) -> bytes:
    """A channel that no pipe holds at once."""
    content = os.urandom(MIB) * 8
    bench.objects.put("b", "data/big", content)
    await fed.stage(piped())
    fed.start()
    return content


def test_a_reader_that_leaves_early_gets_the_next_epoch(fed: Fed, big: bytes) -> None:
    for epoch in range(3):
        with open(fed.opened(f"train_{epoch}"), "rb", buffering=0) as pipe:
            assert pipe.read(10) == big[:10]
    assert fed.read("train_3") == big
    assert not (fed.data / "train_0").exists(), "a pipe that is over would be waited for in vain"


def test_it_goes_on_while_we_are_away(bench: Bench, fed: Fed, big: bytes) -> None:
    pid = fed.pid()
    with open(fed.opened("train_0"), "rb") as pipe:
        begin = pipe.read(MIB)
        bench.restart()
        assert fed.phase(RUNNING)
        fed.start()
        assert begin + pipe.read() == big
    assert fed.pid() == pid, "and no second one was started"


def test_killed_while_nobody_reads_it_is_followed_by_another(fed: Fed, big: bytes) -> None:
    assert fed.read("train_0") == big
    for early in ("train_1", "train_2"):
        os.close(fed.opened(early))
    deadline = time.monotonic() + 30
    while not (fed.data / "train_3").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    kill_idle(fed)
    fed.phase(None)
    fed.start()
    assert fed.read("train_3") == big


def test_killed_within_an_epoch_it_has_failed_whatever_the_reader_thinks(bench: Bench, fed: Fed, big: bytes) -> None:
    with open(fed.opened("train_0"), "rb") as pipe:
        pipe.read(MIB)
        os.kill(fed.pid(), signal.SIGKILL)
        assert len(pipe.read()) < 7 * MIB, "a false end"
    state = fed.phase(FAILED)
    assert state is not None
    assert state.message.startswith("InternalServerError: ")
    assert "within epoch 0" in state.message
    bench.restart()
    fed.start()
    assert fed.phase(FAILED), "and stays so"


def test_forgetting_ends_it_in_the_middle_of_an_epoch(bench: Bench, fed: Fed, big: bytes) -> None:
    pid = fed.pid()
    with open(fed.opened("train_0"), "rb") as pipe:
        pipe.read(10)
        bench.transfers.forget([FEED], bench.own)
        assert not Path(f"/proc/{pid}/cwd").exists()
    assert fed.state() is None
    assert not bench.own.exists()


def test_it_ends_by_itself_when_its_record_is_gone(bench: Bench, fed: Fed, big: bytes) -> None:
    import shutil

    pid = fed.pid()
    shutil.rmtree(bench.own)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/cwd").exists():
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.05)


def test_its_command_line_names_nobody(bench: Bench, fed: Fed, big: bytes) -> None:
    words = Path(f"/proc/{fed.pid()}/cmdline").read_bytes()
    assert b"sagewright" not in words
    assert str(bench.workloads).encode() not in words


def test_many_bytes_take_little_memory(bench: Bench, fed: Fed, big: bytes) -> None:
    """Grown by at most a few MiB over 20 epochs of 8 MiB."""

    def resident() -> int:
        lines = Path(f"/proc/{fed.pid()}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) >> 10

    fed.read("train_0")
    before = resident()
    for epoch in range(1, 21):
        assert len(fed.read(f"train_{epoch}")) == len(big)
    assert resident() - before < 6


@pytest.mark.parametrize("place", ["train_0", "../data"])
def test_a_link_in_place_of_a_pipe_is_never_written_to(
    bench: Bench, fed: Fed, big: bytes, tmp_path: Path, place: str
) -> None:
    kill_idle(fed)
    fed.phase(None)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "train_0").write_bytes(b"the host's own")
    if place == "train_0":
        (fed.data / "train_0").unlink()
        (fed.data / "train_0").symlink_to(outside / "train_0")
    else:
        fed.data.rename(tmp_path / "moved")
        fed.data.symlink_to(outside)
    fed.start()
    assert fed.phase(FAILED)
    assert (outside / "train_0").read_bytes() == b"the host's own"
    assert [each.name for each in outside.iterdir()] == ["train_0"]


def test_a_file_in_place_of_a_pipe_is_said(fed: Fed, big: bytes) -> None:
    (fed.data / "train_0").unlink()
    (fed.data / "beside").write_bytes(b"mine")
    (fed.data / "beside").rename(fed.data / "train_0")
    state = fed.phase(FAILED)
    assert state is not None
    assert "train_0 is no pipe any more" in state.message
    assert (fed.data / "train_0").read_bytes() == b"mine"


def test_a_pipe_that_was_removed_is_made_again(fed: Fed, big: bytes) -> None:
    (fed.data / "train_0").unlink()
    assert fed.read("train_0") == big


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (0, [(WHOLE, 0)]),
        (5, [(WHOLE, 5)]),
        (LONGEST_PART, [(WHOLE, LONGEST_PART)]),
        (LONGEST_PART + 1, [(FIRST, LONGEST_PART), (LAST, 1)]),
        (3 * LONGEST_PART, [(FIRST, LONGEST_PART), (MIDDLE, LONGEST_PART), (LAST, LONGEST_PART)]),
    ],
)
def test_a_record_too_long_for_its_length_field_comes_in_parts(size: int, parts: list[tuple[int, int]]) -> None:
    import struct

    found = []
    for header, length, padding in headers(size):
        magic, told = struct.unpack("<II", header)
        assert magic == MAGIC
        assert told & (1 << 29) - 1 == length
        assert (length + len(padding)) % 4 == 0
        found.append((told >> 29, length))
    assert found == parts


def kill_idle(fed: Fed) -> None:
    """SIGKILL at a moment when it is not about to let a reader in. Whoever is hit there has failed, by design."""
    progress = fed.own / "pipes" / "0" / "progress"
    pid = fed.pid()
    while True:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.01)
        if not progress.exists() or progress.read_bytes()[8:16] in (b"", bytes(8)):
            break
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)
    os.kill(pid, signal.SIGKILL)
