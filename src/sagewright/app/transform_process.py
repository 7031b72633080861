"""The controller's side of a transform run: one process per instance, fed on stdin, heard on stdout.

A run of millions of records must not slow the controller down, so that it has a process of its own. That ends with
the controller: what it had published is on disk, and the next one goes on (`batch.journal`).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from sagewright.core.errors import StoreUnavailable, TransferError
from sagewright.core.ids import TransferId
from sagewright.staging.meter import Meter
from sagewright.workloads.transfer import RunTransform

_LOOK: Final = 0.2  # seconds between looks whether it is still wanted
_KILLED: Final = 5  # times that a process may be killed without finishing an object
FIELDS: Final = (
    "id",
    "account",
    "region",
    "request",
    "addresses",
    "instance",
    "instances",
    "log_stream",
    "started_at",
)


class TransformProcess:
    def __init__(self, data: Path) -> None:
        self._data = data
        self._killed: dict[TransferId, tuple[int, int]] = {}  # objects that were finished, times since

    def __call__(self, transfer: RunTransform, meter: Meter) -> None:
        """Until all is done. Raises TransferError, StoreUnavailable (start it again), Cancelled."""
        lifeline, held = os.pipe()
        command = [sys.executable, "-m", "sagewright.app.transform", "--data", str(self._data), "--lifeline"]
        try:
            process = subprocess.Popen(
                [*command, str(lifeline)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(lifeline,)
            )
        except BaseException:
            os.close(held)
            raise
        finally:
            os.close(lifeline)
        try:
            result = self._follow(process, transfer, meter)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            os.close(held)
        if result is None and process.returncode > 0:
            raise TransferError(
                f"InternalServerError: the process of {transfer.id} ended with {process.returncode}; "
                "server.log says why."
            )
        if result is None:
            raise self._was_killed(transfer.id, meter, -process.returncode)
        self._killed.pop(transfer.id, None)
        if result["retry"]:
            raise StoreUnavailable(result["error"])
        if result["error"]:
            raise TransferError(result["error"])

    def _was_killed(self, transfer: TransferId, meter: Meter, number: int) -> TransferError | StoreUnavailable:
        """Start it again, unless that has been in vain too often: what kills it is here to stay."""
        finished = int(meter.progress.get("objects", 0))
        before, times = self._killed.get(transfer, (finished, 0))
        times = times + 1 if finished <= before else 1
        self._killed[transfer] = (finished, times)
        if times < _KILLED:
            return StoreUnavailable(f"the process of {transfer} was killed by signal {number}")
        del self._killed[transfer]
        return TransferError(
            f"InternalServerError: the process of {transfer} was killed by signal {number} {times} times without "
            "finishing an object. Is the machine out of memory? dmesg says more."
        )

    def _follow(self, process: subprocess.Popen[bytes], transfer: RunTransform, meter: Meter) -> dict[str, Any] | None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(told_of(transfer))
        process.stdin.close()
        descriptor, held, result = process.stdout.fileno(), b"", None
        said = select.poll()
        said.register(descriptor, select.POLLIN)
        while True:
            meter.check()
            if not said.poll(_LOOK * 1000):
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                process.wait()
                return result
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                told = orjson.loads(line)
                if "progress" in told:
                    meter.progress = told["progress"]
                else:
                    result = told


def told_of(transfer: RunTransform) -> bytes:
    """What the process reads."""
    return orjson.dumps({name: getattr(transfer, name) for name in FIELDS} | {"root": str(transfer.root)})
