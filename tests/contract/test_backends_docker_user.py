"""An ordinary user with an engine of root: what a container's root writes can be collected, and nothing of it stays."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docker_bench import remove_all
from support.images import BUSYBOX, SOCKET, need

USER = 43210
PROGRAM = """
cd /opt/ml/input/data/train && echo more >> a && rm -r deep && mkdir deep && echo new > deep/new && chmod 700 deep
umask 077 && mkdir /opt/ml/input/data/train/own && echo own > /opt/ml/input/data/train/own/file
cd /opt/ml/model && mkdir closed && echo weights > closed/weights && chmod 700 closed && setfacl -b closed 2>/dev/null
chown -R 0:0 /opt/ml/model/closed && chmod 600 closed/weights && id -u
"""
SCENARIO = """
import aiodocker
from sagewright.backends.docker.backend import DockerBackend
from sagewright.core.ids import Account, Region, TransferId, WorkloadId
from sagewright.staging.transfers import LocalTransfers
from sagewright.workloads import layers
from sagewright.workloads.observation import Phase
from sagewright.workloads.transfer import ChannelInput, CollectOutputs, StageInputs, TransferPhase
from sagewright.workloads.workload import ImageRef, Mount, Workload
from suites.plain_objects import PlainObjects

base, image, installation, program = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
os.setgroups([int(sys.argv[6])])
os.setgid(int(sys.argv[5]))
os.setuid(int(sys.argv[5]))
workloads = base / "workloads"
workloads.mkdir()
objects = PlainObjects(base / "objects")
objects.create_bucket("b")
objects.put("b", "data/a", b"a")
objects.put("b", "data/deep/b", b"b")
transfers = LocalTransfers(objects, workloads)
account, region, name = Account("000000000000"), Region("us-east-1"), WorkloadId(f"sagewright-{installation}")
root = workloads / name / "ml"


async def ended(transfer):
    transfers.start(transfer)
    while True:
        state = transfers.observe([transfer.id]).get(transfer.id)
        if state and state.phase is not TransferPhase.RUNNING:
            assert state.phase is TransferPhase.DONE, state.message
            return state
        await asyncio.sleep(0.01)


async def main():
    backend = DockerBackend(installation, scratch=workloads)
    described = await backend.describe()
    assert described.layers, described
    channel = ChannelInput("train", "s3://b/data/")
    stage = StageInputs(TransferId("stage"), account, region, root, {}, ("model",), (channel,), layered=True)
    await ended(stage)
    changes = layers.changes(root, "train")
    mounts = (Mount(root, "/opt/ml"), Mount(layers.links(root, "train"), "/opt/ml/input/data/train", changes=changes))
    await backend.submit(Workload(name, ImageRef(image), ("/bin/sh", "-c", program), None, mounts=mounts))
    while (found := (await backend.observe([name])).get(name)) is None or found.phase is not Phase.EXITED:
        await asyncio.sleep(0.05)
    assert found.exit_code == 0, [line.message async for line in backend.logs(name)]
    await backend.hand_over(name)
    collect = CollectOutputs(TransferId("collect"), account, region, root, {"model": "s3://b/model.tar.gz"})
    assert (await ended(collect)).written == ("s3://b/model.tar.gz",)
    await backend.remove(name)
    transfers.forget([stage.id, collect.id], root.parent)
    transfers.close()
    await backend.aclose()
    shutil.rmtree(workloads / ".transfers")
    LocalTransfers(objects, workloads).close()
    leftovers = [str(path) for path in (workloads / ".trash").rglob("*")]
    assert leftovers == [], leftovers
    assert (objects.read("b", "data/a"), objects.read("b", "data/deep/b")) == (b"a", b"b")


asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of that user; pytest's own folder is closed to others."""
    made = Path(tempfile.mkdtemp(prefix="sagewright-test-"))
    os.chown(made, USER, USER)
    yield made
    shutil.rmtree(made)


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become an ordinary user")
def test_an_ordinary_user_can_collect_and_remove_what_root_wrote(folder: Path) -> None:
    need()
    group = Path(SOCKET).stat().st_gid
    prelude = f"import asyncio, os, shutil, sys; sys.path[:0] = {sys.path!r}; from pathlib import Path\n"
    installation = f"test-{secrets.token_hex(6)}"
    arguments = [str(folder), BUSYBOX, installation, PROGRAM, str(USER), str(group)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", prelude + SCENARIO, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd="/",
            env={**os.environ, "HOME": str(folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        remove_all(installation)
