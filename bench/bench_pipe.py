"""A Pipe channel: as fast as `cat FILE > PIPE`, many small objects nearly as fast as `tar`, and never more memory.

The reader is the same program for both, and reads to the end of file. 2 GiB in one object; 20,000 objects of 10 KiB as
RecordIO records, beside `tar` of the same files, which frames them as well. Memory is the feeder's own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from common import finish, paired, spread, verdict

from sagewright.core.ids import Account, Region, TransferId
from sagewright.staging.meter import Meter
from sagewright.staging.stage import stage
from sagewright.staging.transfers import LocalTransfers
from sagewright.workloads.transfer import ChannelInput, FeedPipes, PipeInput, StageInputs
from suites.plain_objects import PlainObjects

ROUNDS = 5
BIG, SMALL, COUNT = 2 << 30, 10 << 10, 20_000
FEED = TransferId("job.feed")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        objects = PlainObjects(folder / "objects")
        objects.create_bucket("b")
        for number in range(COUNT):
            objects.put("b", f"small/{number:06}", os.urandom(64) * (SMALL // 64))
        (folder / "block").write_bytes(os.urandom(1 << 20) * 64)
        with objects.put_stream("b", "big/one", "") as writer:
            block = (folder / "block").read_bytes()
            for _ in range(BIG // len(block)):
                writer.write(block)
            writer.commit()
        workloads = folder / "workloads"
        workloads.mkdir()
        root = workloads / "job" / "ml"
        channels = (
            ChannelInput("big", "s3://b/big/", pipe=PipeInput()),
            ChannelInput("small", "s3://b/small/", pipe=PipeInput(records=True)),
        )
        job = StageInputs(TransferId("job.stage"), Account("0"), Region("r"), root, {}, ("input/data",), channels)
        begun = time.monotonic()
        stage(job, objects, Meter(), folder / "trash")
        print(f"{COUNT + 1} objects were made ready in {time.monotonic() - begun:.2f} s")
        transfers = LocalTransfers(objects, workloads)
        transfers.start(FeedPipes(FEED, root))
        data = root / "input" / "data"
        try:
            epoch = {"big": 0, "small": 0}

            def ours(channel: str) -> float:
                path = data / f"{channel}_{epoch[channel]}"
                epoch[channel] += 1
                while not path.exists():
                    time.sleep(0.001)
                return read(path)

            big = objects.buckets["b"]["big/one"].content_path
            streamed, by_cat = paired(lambda: ours("big"), lambda: beside(folder, f"cat {big}"), ROUNDS)
            small = root.parent / "pipes" / "1" / "objects"
            gathered, by_tar = paired(lambda: ours("small"), lambda: beside(folder, f"tar cf - -C {small} ."), ROUNDS)
            memory = resident(int((root.parent / "pipes" / "lock").read_text()))
        finally:
            transfers.forget([FEED], root.parent)
            transfers.close()
    print(f"2 GiB, s (min / median / max of {ROUNDS}): {spread(streamed, 1)}; cat: {spread(by_cat, 1)}")
    print(f"20,000 records, s: {spread(gathered, 1)}; tar: {spread(by_tar, 1)}")
    finish(
        verdict("one object, times cat's speed", median(by_cat) / median(streamed), 0.9, at_most=False),
        verdict("small objects, times tar's speed", median(by_tar) / median(gathered), 0.6, at_most=False),
        verdict("the feeder's memory", memory, 32, unit=" MiB"),
    )


def read(path: Path) -> float:
    """Seconds until the end of file, from the opening on."""
    begun = time.monotonic()
    descriptor = os.open(path, os.O_RDONLY)
    piece = bytearray(1 << 20)
    while os.readv(descriptor, [piece]):
        pass
    os.close(descriptor)
    return time.monotonic() - begun


def beside(folder: Path, command: str) -> float:
    """The same reader, with a pipe that `command` writes to."""
    path = folder / "beside"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: subprocess.run(f"exec {command} > {path}", shell=True, check=True))
    writer.start()
    taken = read(path)
    writer.join()
    return taken


def resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
