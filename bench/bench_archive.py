"""model.tar.gz of 1 GB of float weights: at least 3 times as fast as `tar czf`, at most 1.1 times its size.

Both read the same folder and write to the same disk; the order alternates. Ours is the whole collection into the
tests' object store. The weights are float32 from a normal distribution: they hardly shrink, as real ones.
"""

from __future__ import annotations

import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from common import finish, paired, spread, verdict

from sagewright.core.ids import Account, Region, TransferId
from sagewright.staging.collect import collect
from sagewright.staging.meter import Meter
from sagewright.workloads.transfer import CollectOutputs
from suites.plain_objects import PlainObjects

ROUNDS = 3
SIZE = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 1 << 30
FILES = 4


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        model = folder / "ml" / "model"
        model.mkdir(parents=True)
        write_weights(model)
        objects = PlainObjects(folder / "objects")
        objects.create_bucket("b")
        numbers = count()

        def ours() -> float:
            uri = f"s3://b/{next(numbers)}.tar.gz"
            work = CollectOutputs(TransferId("x"), Account("0"), Region("r"), model.parent, {"model": uri})
            begun = time.monotonic()
            collect(work, objects, Meter())
            return time.monotonic() - begun

        def theirs() -> float:
            begun = time.monotonic()
            subprocess.run(["tar", "czf", folder / "theirs.tar.gz", "-C", model, "."], check=True)
            return time.monotonic() - begun

        made, by_tar = paired(ours, theirs, ROUNDS)
        size = len(objects.read("b", "0.tar.gz")) / (folder / "theirs.tar.gz").stat().st_size
    print(f"ours, s (min / median / max of {ROUNDS}): {spread(made, 1)}")
    print(f"tar czf, s: {spread(by_tar, 1)}")
    finish(
        verdict("speed, times tar's", statistics.median(by_tar) / statistics.median(made), 3, at_most=False),
        verdict("size, times tar's", size, 1.1),
    )


def write_weights(folder: Path) -> None:
    """The same 16 MiB of weights, turned a little for each piece: farther apart than deflate looks back."""
    values = random.Random(7)
    block = b"".join(struct.pack("<f", values.gauss(0, 0.02)) for _ in range(1 << 22))
    for index in range(FILES):
        with (folder / f"layer-{index}.bin").open("wb") as file:
            for piece in range(SIZE // FILES // len(block)):
                turn = 4 * (index * 64 + piece)
                file.write(block[turn:] + block[:turn])


if __name__ == "__main__":
    main()
