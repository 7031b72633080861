"""A change of this machine's addresses is heard of at once, not at the next look."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest

from sagewright.gateway.addresses import AddressChanges

ADDRESS = "127.77.77.77/32"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2")
async def test_an_address_that_comes_ends_the_wait() -> None:
    changes = AddressChanges(asyncio.get_running_loop())
    try:
        waiting = asyncio.create_task(changes.wait(3600))
        await asyncio.sleep(0)
        subprocess.run(["ip", "address", "add", ADDRESS, "dev", "lo"], check=True)
        async with asyncio.timeout(60):
            await waiting
    finally:
        subprocess.run(["ip", "address", "del", ADDRESS, "dev", "lo"], check=False)
        changes.close()


async def test_without_any_change_the_pause_ends_the_wait() -> None:
    changes = AddressChanges(asyncio.get_running_loop())
    await changes.wait(0.01)
    changes.close()
    changes.close()
    await changes.wait(0.01)
