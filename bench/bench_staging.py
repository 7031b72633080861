"""Staging a channel of 10 GB in 1,000 files: at most 1/20 of the time of `cp -r`.

Both have the same files, in the store's own folder; the copy goes to the same disk, and the order alternates. Ours is
the whole staging out of a real store: listing, planning, linking, the folder tree. The bytes are real: nothing is
sparse. An argument is the size in MB.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from common import finish, paired, spread, verdict

from sagewright.blobs.files import FileBlobs
from sagewright.core.ids import Account, Region, TransferId
from sagewright.objects.local import LocalObjects
from sagewright.staging.meter import Meter
from sagewright.staging.stage import stage
from sagewright.store import object_rows
from sagewright.store.db import Database
from sagewright.workloads import layers
from sagewright.workloads.transfer import ChannelInput, StageInputs

ROUNDS = 2
FILES = 1000
SIZE = (int(sys.argv[1]) if len(sys.argv) > 1 else 10_000) * 1_000_000
ACCOUNT, REGION, BUCKET = Account("000000000000"), Region("us-east-1"), "bench"
PIECE = 1 << 20


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        store = Database.open(folder / "sagewright.db")
        objects = LocalObjects(store, FileBlobs(folder / "blobs"))
        fill(store, objects)
        source = folder / "source"
        show(objects, source)
        numbers = count()

        def ours() -> float:
            root = folder / "workloads" / f"job-{next(numbers)}" / "ml"
            channel = ChannelInput("train", f"s3://{BUCKET}/data/")
            transfer = StageInputs(TransferId("x"), ACCOUNT, REGION, root, {}, (), (channel,), layered=True)
            begun = time.monotonic()
            stage(transfer, objects, Meter(), folder / "trash")
            took = time.monotonic() - begun
            links = list(layers.links(root, "train").rglob("*.bin"))
            assert (len(links), sum(each.stat().st_size for each in links)) == (FILES, SIZE // FILES * FILES)
            return took

        def theirs() -> float:
            begun = time.monotonic()
            subprocess.run(["cp", "-r", source, folder / "copy"], check=True)
            took = time.monotonic() - begun
            shutil.rmtree(folder / "copy")
            return took

        staged, copied = paired(ours, theirs, ROUNDS)
        own = sum(path.lstat().st_blocks * 512 for path in (folder / "workloads").rglob("*") if own_bytes(path))
        store.close()
    print(f"{SIZE / 1e9:.1f} GB in {FILES} files, {ROUNDS} rounds (min / median / max)")
    print(f"staging, ms: {spread(staged)}")
    print(f"cp -r, ms: {spread(copied)}")
    finish(
        verdict("time, times cp's", statistics.median(staged) / statistics.median(copied), 1 / 20),
        verdict("bytes of its own for each file and round", own / FILES / ROUNDS, 1024),
    )


def own_bytes(path: Path) -> bool:
    """Whether it takes room that the store does not take anyway."""
    return path.is_dir() or path.lstat().st_nlink == 1


def fill(store: Database, objects: LocalObjects) -> None:
    """Each file is the same random block, turned a little: no two are alike."""
    made = {"name": BUCKET, "account": ACCOUNT, "region": REGION, "now": datetime.now(UTC), "settings": {}}
    store.write(lambda tx: object_rows.insert_bucket(tx, **made))
    block = random.Random(7).randbytes(SIZE // FILES)
    for number in range(FILES):
        with objects.put_stream(BUCKET, f"data/{number % 10}/{number}.bin") as writer:
            turned = block[number:] + block[:number]
            for start in range(0, len(turned), PIECE):
                writer.write(turned[start : start + PIECE])
            writer.commit()


def show(objects: LocalObjects, folder: Path) -> None:
    """The same files as a folder that `cp` can copy."""
    for each in objects.list(BUCKET, "data/"):
        path = folder / each.key
        path.parent.mkdir(parents=True, exist_ok=True)
        assert each.content_path is not None
        os.link(each.content_path, path)


if __name__ == "__main__":
    main()
