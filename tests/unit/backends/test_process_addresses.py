"""Programs of the process backend that serve ports: each is reached at an address of its own, and leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sagewright.backends.process.backend import ProcessBackend
from sagewright.backends.process.records import Records
from sagewright.backends.process.runner import network
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import Workload
from suites.backend_bench import Phase, exited, reached, until
from suites.backend_log_suite import lines_of
from support.process_bench import OURS, ProcessBench

pytestmark = pytest.mark.process

SERVER = """
import http.server, json, os, socket, urllib.request
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            body = eval(urllib.request.unquote(self.path[1:]))
        except Exception as error:
            body = repr(error)
        body = json.dumps(body).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Answer).serve_forever()
"""
HEEDING = SERVER.replace("PORT", "int(os.environ.get('SAGEMAKER_BIND_TO_PORT', 8080))")
STUBBORN = SERVER.replace("PORT", "8080")


class _Shared(ProcessBackend):
    """As where networks are refused: without root."""

    def _examine(self):  # three values of the base class
        launcher, machine, granted = super()._examine()
        refused = "CAP_NET_ADMIN is missing"
        return launcher, replace(machine, network=refused), replace(granted, network=refused)


class _SharedBench(ProcessBench):
    async def connect(self, installation: str = "") -> ProcessBackend:
        backend = _Shared(self.root, self.environments, installation or OURS, environ=self.environ)
        self._backends.append(backend)
        await backend.describe()
        return backend


@pytest.fixture
async def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
    if os.geteuid() != 0:
        pytest.skip("networks of their own need root")
    bench = ProcessBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
    yield bench
    await bench.aclose()


@pytest.fixture
async def shared(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[_SharedBench]:
    bench = _SharedBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
    yield bench
    await bench.aclose()


def serving(bench: ProcessBench, text: str = STUBBORN, **changes: object) -> Workload:
    work = replace(bench.workload(), entrypoint=("python", "-c", text), ports=(8080,))
    return replace(work, **changes)  # fields of Workload


async def started(backend: ComputeBackend, work: Workload) -> str:
    """Its address, once it answers there."""
    await backend.submit(work)
    address = (await reached(backend, work.id, Phase.RUNNING)).address
    assert address is not None

    async def answers() -> bool:
        try:
            return await ask(address, "1") == b"1"
        except OSError:
            return False

    await until(answers, f"{work.id} to serve at {address}")
    return address


async def ask(address: str, question: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    quoted = question.replace(" ", "%20").replace('"', "%22")
    writer.write(f"GET /{quoted} HTTP/1.0\r\n\r\n".encode())
    try:
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()
        await writer.wait_closed()


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("sw")}


async def test_any_number_of_instances_listen_on_the_same_port(bench: ProcessBench) -> None:
    backend = await bench.connect()
    works = [serving(bench) for _ in range(3)]
    addresses = await asyncio.gather(*(started(backend, work) for work in works))
    assert len(set(addresses)) == 3
    assert {address.rpartition(":")[2] for address in addresses} == {"8080"}
    answers = await asyncio.gather(
        *(ask(address, "sorted(name for _, name in socket.if_nameindex())") for address in addresses)
    )
    assert set(answers) == {b'["eth0", "lo"]'}


async def test_a_program_reaches_this_machine_by_its_name(bench: ProcessBench) -> None:
    backend = await bench.connect()
    address = await started(backend, serving(bench))
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        question = f'socket.create_connection(("{network.HOST_NAME}",{listener.getsockname()[1]}),5).getsockname()[0]'
        own = (await ask(address, question)).decode().strip('"')
    assert own == address.rpartition(":")[0]


async def test_an_isolated_program_is_reached_and_has_no_way_out(bench: ProcessBench) -> None:
    backend = await bench.connect()
    address = await started(backend, serving(bench, network_isolation=True))
    routes = await ask(address, "open('/proc/net/route').read()")
    assert routes.count(b"eth0") == 1, "the bridge's network, and no default route"
    unreachable = await ask(address, 'socket.socket().connect_ex(("198.51.100.1",80))')
    assert int(unreachable) == errno.ENETUNREACH


async def test_a_network_ends_with_its_workload_and_the_bridge_with_the_last(bench: ProcessBench) -> None:
    backend = await bench.connect()
    works = [serving(bench) for _ in range(2)]
    bridge = network.bridge_name(OURS)
    ports = {f"sw{socket.inet_aton((await started(backend, work)).rpartition(':')[0]).hex()}" for work in works}
    assert {bridge, *ports} <= interfaces()
    await backend.remove(works[0].id)
    assert bridge in interfaces()
    assert len(ports & interfaces()) == 1
    await backend.remove(works[1].id)
    assert not {bridge, *ports} & interfaces()


async def test_it_serves_on_when_we_and_even_its_runner_are_gone(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = serving(bench)
    address = await started(backend, work)
    await backend.aclose()
    record = Records(bench.root, OURS).find(work.id)
    assert record is not None
    runner = record.runner()
    assert runner is not None
    os.kill(runner.pid, signal.SIGKILL)
    later = await bench.connect()
    assert (await later.observe())[work.id].address == address
    assert await ask(address, "1") == b"1"
    await later.remove(work.id)
    assert f"sw{socket.inet_aton(address.rpartition(':')[0]).hex()}" not in interfaces()


async def test_an_address_that_was_given_on_is_not_taken_from_its_new_owner(bench: ProcessBench) -> None:
    backend = await bench.connect()
    old, new = serving(bench), serving(bench)
    await started(backend, old)
    address = await started(backend, new)
    (bench.root / old.id / "address").write_text(address)  # as if it had been freed and claimed again meanwhile
    await backend.remove(old.id)
    assert await ask(address, "1") == b"1"


async def test_an_address_is_told_only_while_it_runs(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = serving(bench, stop_grace=timedelta(seconds=0.1))
    await started(backend, work)
    await backend.stop(work.id)
    assert (await exited(backend, work.id)).address is None


async def test_without_ports_it_shares_this_machines_network(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = replace(
        bench.workload(), entrypoint=("/bin/sh", "-c", "ls /sys/class/net; getent hosts host.docker.internal")
    )
    await backend.submit(work)
    await exited(backend, work.id)
    lines = [line.decode() for line in await lines_of(backend, work.id)]
    assert {"lo"} < set(lines)
    assert lines[-1].split() == ["127.0.0.1", network.HOST_NAME]


# where the machine's network is shared


async def test_a_second_instance_gets_a_port_of_its_own_by_the_variable(shared: _SharedBench) -> None:
    backend = await shared.connect()
    first, second = await started(backend, serving(shared, HEEDING)), await started(backend, serving(shared, HEEDING))
    assert first != second
    assert first.startswith("127.0.0.1:")
    assert second.startswith("127.0.0.1:")


async def test_a_program_that_insists_on_a_taken_port_is_told_why_it_cannot_have_it(shared: _SharedBench) -> None:
    backend = await shared.connect()
    with _taken(8080):
        work = serving(shared)
        await backend.submit(work)
        seen = await exited(backend, work.id)
    assert (seen.cause, seen.exit_code) == (ExitCause.START, None)
    assert "8080" in seen.message
    assert "SAGEMAKER_BIND_TO_PORT" in seen.message


async def test_a_failure_of_another_kind_keeps_its_exit_code(shared: _SharedBench) -> None:
    backend = await shared.connect()
    with _taken(8080):
        work = replace(serving(shared), entrypoint=("/bin/sh", "-c", "echo the model is broken; exit 3"))
        await backend.submit(work)
        seen = await exited(backend, work.id)
    assert (seen.cause, seen.exit_code) == (ExitCause.EXIT, 3)


async def test_a_network_of_their_own_is_told(bench: ProcessBench) -> None:
    assert "network of its own" in ((await (await bench.connect()).describe()).details or {})["serving"]


async def test_what_is_shared_is_told(shared: _SharedBench) -> None:
    assert "SAGEMAKER_BIND_TO_PORT" in ((await (await shared.connect()).describe()).details or {})["serving"]


@contextmanager
def _taken(port: int) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # taken by somebody else already: as good
            other.bind(("0.0.0.0", port))
            other.listen()
        yield


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "169.254.200.1"),
        ([("169.254.201.7", 32)], "169.254.202.1"),
        ([("169.254.200.0", 22)], "169.254.204.1"),
        ([("169.254.0.0", 16), ("0.0.0.0", 0)], "169.254.200.1"),
    ],
)
def test_a_network_is_chosen_that_nothing_uses(taken: list[tuple[str, int]], expected: str) -> None:
    routes = [(socket.inet_aton(address), prefix) for address, prefix in taken]
    assert socket.inet_ntoa(network._free_network([], routes)) == expected


def test_metadata_services_of_clouds_are_left_alone() -> None:
    assert not {168, 169, 170, 171} & {each + step for each in network._THIRDS for step in (0, 1)}


async def test_usage_is_of_the_whole_tree_between_two_looks(bench: ProcessBench) -> None:
    backend = await bench.connect()
    spin = "import threading, os\nif os.fork() == 0:\n    while True: pass\n" + STUBBORN
    busy, idle = serving(bench, spin), serving(bench)
    await started(backend, busy)
    await started(backend, idle)
    assert await backend.usage([busy.id, idle.id]) == {}, "nothing to compare with yet"

    async def seen_at_work() -> bool:
        used = await backend.usage([busy.id, idle.id])
        return used[busy.id].cpu_percent > 5 + used[idle.id].cpu_percent and used[busy.id].memory_percent > 0

    await until(seen_at_work, "the busy one to be seen as busier")
    await backend.remove(busy.id)
    assert set(await backend.usage([busy.id, idle.id])) == {idle.id}


def test_freeing_what_the_kernel_has_freed_already_is_success() -> None:
    network.move_out(network.bridge_name("nobody"), "169.254.3.4", "w")
    with network.Netlink() as outside:
        network._delete(outside, "sw-nobody")
