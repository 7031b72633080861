"""The hosts of one job reach each other by name, and nobody else does. For backends that run real programs.

A binding brings `listen` and `ask`: shell words that serve the own name on port 7777 for ever, and that print what the
host in $peer serves there, or at port $KNOCK if that is set.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.workload import Workload
from suites.backend_bench import Bench, exited, marked
from suites.backend_log_suite import lines_of

PORT = 7777
_MEET = """
{listen} &
for peer in {names}; do
  n=0; r=
  while [ -z "$r" ] && [ $n -lt 300 ]; do r=$({ask}); n=$((n+1)); [ -n "$r" ] || sleep 0.1; done
  echo "$peer is $r"
done
{more}
echo here >> /opt/ml/met-{job}-$HOSTNAME
while [ ! -e /opt/ml/done-{job} ]; do sleep 0.05; done
"""

_KNOCK = """
export KNOCK={port}
while read ip name rest; do [ "$name" != "$HOSTNAME" ] || own=$ip; done < /etc/hosts
for peer in ${{own%.*}}.1 host.docker.internal; do
  r=$({ask})
  [ -z "$r" ] || echo "$peer is $r"
done
"""


class PeersSuite:
    listen: str
    ask: str
    escape = "while read name to rest; do [ $to = 00000000 ] && echo $name leads out; done < /proc/net/route"

    @pytest.fixture
    async def backend(self, bench: Bench) -> ComputeBackend:
        return await bench.connect()

    def hosts(self, bench: Bench, count: int, more: str = "", **changes: Any) -> list[Workload]:
        """One job: each asks each, itself too, then waits until all have done so."""
        names = [f"algo-{number}" for number in range(1, count + 1)]
        peers = {name: WorkloadId(f"sagewright-test-{secrets.token_hex(6)}") for name in names}
        job = peers["algo-1"]
        script = _MEET.format(listen=self.listen, ask=self.ask, names=" ".join(names), more=more, job=job)
        whole = bench.workload(entrypoint=("/bin/sh", "-c", script), **changes)
        return [replace(whole, id=peers[name], hostname=name, peers=peers) for name in names]

    async def met(self, bench: Bench, backend: ComputeBackend, works: list[Workload]) -> list[list[bytes]]:
        """What each of them said, once all have ended."""
        for work in works:
            await backend.submit(work)
        for work in works:
            await marked(bench, f"met-{works[0].id}-{work.hostname}")
        bench.open_gate(f"done-{works[0].id}")
        said = []
        for work in works:
            ended = await exited(backend, work.id)
            said.append(await lines_of(backend, work.id))
            assert ended.exit_code == 0, said
        return said

    async def test_each_host_reaches_each_by_its_name(self, bench: Bench, backend: ComputeBackend) -> None:
        works = self.hosts(bench, 3)
        met = await self.met(bench, backend, works)
        everybody = [b"algo-1 is algo-1", b"algo-2 is algo-2", b"algo-3 is algo-3"]
        assert met == [everybody] * 3
        for work in works:
            await backend.remove(work.id)
        assert await self.networks(bench) == 0

    async def test_isolated_hosts_reach_each_other_and_have_no_way_out(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        works = self.hosts(bench, 2, self.escape, network_isolation=True)
        assert await self.met(bench, backend, works) == [[b"algo-1 is algo-1", b"algo-2 is algo-2"]] * 2

    async def test_isolated_hosts_do_not_reach_this_machine(self, bench: Bench, backend: ComputeBackend) -> None:
        def greet() -> None:
            with suppress(OSError):  # closed
                while True:
                    there, _ = here.accept()
                    there.sendall(b"this machine")
                    there.close()

        with socket.create_server(("0.0.0.0", 0)) as here:
            threading.Thread(target=greet, daemon=True).start()
            knock = _KNOCK.format(port=here.getsockname()[1], ask=self.ask)
            for isolated, greeted in ((False, True), (True, False)):
                works = self.hosts(bench, 2, knock, network_isolation=isolated)
                for said in await self.met(bench, backend, works):
                    assert said[:2] == [b"algo-1 is algo-1", b"algo-2 is algo-2"]
                    assert any(b"is this machine" in line for line in said) is greeted
                for work in works:
                    await backend.remove(work.id)
            here.shutdown(socket.SHUT_RDWR)

    async def test_two_jobs_have_the_same_names_and_ports_and_do_not_meet(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        works = self.hosts(bench, 2)
        other = [replace(work, env={"OF": "other"}) for work in self.hosts(bench, 2)]
        everybody = [b"algo-1 is algo-1", b"algo-2 is algo-2"]
        first, second = await asyncio.gather(self.met(bench, backend, works), self.met(bench, backend, other))
        assert first == [everybody] * 2
        assert second == [[line + b" of other" for line in everybody]] * 2

    async def test_hosts_survive_a_restart_of_ours_and_their_network_still_goes_with_them(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        works = self.hosts(bench, 2)
        await backend.submit(works[0])
        await bench.crash(backend)
        reborn = await bench.connect()
        await reborn.submit(works[0])
        assert await self.met(bench, reborn, works) == [[b"algo-1 is algo-1", b"algo-2 is algo-2"]] * 2
        await reborn.remove(works[1].id)
        await reborn.remove(works[0].id)
        assert await self.networks(bench) == 0

    async def networks(self, bench: Bench) -> int:
        """How many are left of this bench."""
        raise AssertionError("a binding says how they are counted")
