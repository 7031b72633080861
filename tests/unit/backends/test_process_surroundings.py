"""What a program of the process backend sees, and that the host sees nothing of it."""

from __future__ import annotations

import fcntl
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sagewright.backends.process.records import Records
from sagewright.backends.process.spec import Machine, check, to_record
from sagewright.core.errors import BackendUnavailable, WorkloadRejected
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import Mount, Resources, Workload
from suites.backend_bench import Allocate, Mark, Print, WaitFor, exited, marked
from suites.backend_log_suite import lines_of
from support.process_bench import OURS, ProcessBench

pytestmark = pytest.mark.process


@pytest.fixture
async def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
    bench = ProcessBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
    yield bench
    await bench.aclose()


async def output_of(bench: ProcessBench, script: str, **changes: object) -> str:
    """What a shell script prints as a workload."""
    backend = await bench.connect()
    work = replace(bench.workload(), entrypoint=("/bin/sh", "-c", script), **changes)  # fields
    await backend.submit(work)
    seen = await exited(backend, work.id)
    lines = await lines_of(backend, work.id)
    assert seen.exit_code == 0, (seen, lines)
    return b"\n".join(lines).decode()


async def python_of(bench: ProcessBench, script: str, **changes: object) -> object:
    """What a Python script prints as JSON."""
    backend = await bench.connect()
    work = replace(bench.workload(), entrypoint=("python", "-c", script), **changes)  # fields
    await backend.submit(work)
    seen = await exited(backend, work.id)
    lines = await lines_of(backend, work.id)
    assert seen.exit_code == 0, (seen, lines)
    return json.loads(b"\n".join(lines))


def _names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


async def test_the_program_is_the_first_process_of_its_own_world(bench: ProcessBench) -> None:
    script = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; id -u; pwd"
    pid, host, processes, user, folder = (await output_of(bench, script)).splitlines()
    assert (pid, host, user, folder) == ("1", "algo-1", "0", "/opt/program")
    assert int(processes) < 6


async def test_its_folder_is_a_writable_copy_and_the_image_stays_as_it_was(bench: ProcessBench) -> None:
    source = bench.folder / "image"
    (source / "sub").mkdir()
    (source / "sub" / "data.txt").write_text("original")
    (source / "link").symlink_to("sub/data.txt")
    (source / "sub" / "data.txt").chmod(0o444)
    (source / "sub").chmod(0o555)
    script = "cat link; echo changed > sub/data.txt; touch sub/new new; rm link; ls -A"
    assert await output_of(bench, script) == "original\nnew\nsub".replace("original\n", "original")
    assert (source / "sub" / "data.txt").read_text() == "original"
    assert sorted(path.name for path in source.rglob("*")) == ["data.txt", "link", "sub"]


async def test_mounts_are_at_their_real_paths_nested_and_where_the_host_has_nothing(bench: ProcessBench) -> None:
    channel, far = bench.folder / "channel", bench.folder / "far"
    for folder in (channel, far):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    mounts = (
        Mount(channel, "/opt/ml/input/data/training", read_only=True),
        Mount(bench.shared, "/opt/ml"),
        Mount(far, "/sagewright-test-place/deep/far"),
    )
    script = """
        cat /opt/ml/input/data/training/name; echo; cat /sagewright-test-place/deep/far/name; echo
        touch /opt/ml/input/data/training/x 2>/dev/null || echo refused
        touch /opt/ml/written /sagewright-test-place/deep/far/written
    """
    assert await output_of(bench, script, mounts=mounts) == "channel\nfar\nrefused"
    assert (bench.shared / "written").exists()
    assert (far / "written").exists()
    assert not Path("/sagewright-test-place").exists()


async def test_nothing_of_it_reaches_the_hosts_file_system(bench: ProcessBench) -> None:
    def host() -> tuple[object, ...]:
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(bench.folder) in line]
        return mounts, _names("/opt"), _names("/"), Path("/etc/hosts").read_text()

    before = host()
    backend = await bench.connect()
    work = bench.workload(Mark("up"), WaitFor("gate"))
    await backend.submit(work)
    await marked(bench, "up")
    assert host() == before
    bench.open_gate("gate")
    await exited(backend, work.id)
    assert host() == before
    await backend.remove(work.id)
    assert not (bench.root / work.id).exists()
    assert list((bench.root / ".trash").iterdir()) == []


async def test_the_hosts_own_entries_stay_visible(bench: ProcessBench) -> None:
    (bench.folder / "visible").touch()
    own = _names("/opt") - {"ml", "program", "environment"}
    listed = (await output_of(bench, f"ls {bench.folder}/visible; ls -A /opt")).splitlines()
    assert listed[0] == f"{bench.folder}/visible"
    assert set(listed[1:]) == own | {"ml", "program", "environment"}


async def test_the_world_does_not_contain_copies_of_itself(bench: ProcessBench) -> None:
    count = await output_of(
        bench, f"ls -d {bench.root}/*/rootfs/usr/bin 2>/dev/null; grep -c rootfs /proc/self/mountinfo"
    )
    assert count.splitlines()[0].isdigit()
    assert f"{bench.root}" not in count


async def test_its_home_is_empty_and_its_own(bench: ProcessBench) -> None:
    """The host user's ~/.aws and ~/.ssh are not a job's business."""
    listed = await output_of(bench, "echo $HOME; cd; pwd; touch mine; ls -d .aws .ssh 2>/dev/null; ls")
    assert listed == "/root\n/root\nmine"
    assert not Path("/root/mine").exists()


async def test_only_the_base_environment_and_the_workloads_own_arrives(
    bench: ProcessBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the server's")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:password@127.0.0.1:9/simple")
    seen = await python_of(
        bench, "import json, os; print(json.dumps(dict(os.environ)))", env={"TRAINING_JOB_NAME": "x"}
    )
    assert isinstance(seen, dict)
    assert seen.pop("PATH").split(":")[0] == "/opt/environment/bin"
    assert seen == {"HOME": "/root", "HOSTNAME": "algo-1", "LANG": "C.UTF-8", "TRAINING_JOB_NAME": "x"}


LIBC_SIGNALS = 1 << 31 | 1 << 32
"""Signals 32 and 33 are the C library's own: it lets nobody set them, and some who start us ignore them."""


async def test_it_inherits_no_descriptors_ignored_signals_or_masks(bench: ProcessBench) -> None:
    script = """
import json, os
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
streams = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
fds = len(os.listdir("/proc/self/fd")) - 1
print(json.dumps([status["SigBlk"], streams[0], streams[1] == streams[2], fds]))
"""
    assert await python_of(bench, script) == ["0" * 16, "/dev/null", True, 3]
    ignored = int((await output_of(bench, "grep SigIgn /proc/self/status")).split()[1], 16)
    assert ignored & ~LIBC_SIGNALS == 0


async def test_python_is_the_environments_and_installing_into_it_stays_with_the_workload(bench: ProcessBench) -> None:
    script = """
import json, sys, pathlib, sysconfig
site = pathlib.Path(sysconfig.get_paths()["purelib"])
(site / "installed_at_run_time.py").write_text("x = 1")
import importlib; importlib.invalidate_caches()
import installed_at_run_time
print(json.dumps([sys.prefix, str(site)]))
"""
    first = await python_of(bench, script)
    assert isinstance(first, list)
    assert first[0] == "/opt/environment"
    assert not list(bench.environments.rglob("installed_at_run_time.py"))
    check_absent = (
        "import json, importlib.util; print(json.dumps(importlib.util.find_spec('installed_at_run_time') is None))"
    )
    assert await python_of(bench, check_absent) is True


async def test_shared_memory_is_its_own_and_of_the_size_asked_for(bench: ProcessBench) -> None:
    script = "df -k --output=size /dev/shm | tail -1; ls -A /dev/shm | wc -l; touch /dev/shm/mine"
    size, entries = (await output_of(bench, script, resources=Resources(shared_memory=32 << 20))).split()
    assert (int(size), entries) == (32 * 1024, "0")
    assert not Path("/dev/shm/mine").exists()


async def test_instance_names_resolve_to_this_machine(bench: ProcessBench) -> None:
    script = "import json, socket; print(json.dumps([socket.gethostbyname('algo-1'), socket.gethostbyname('algo-2')]))"
    assert await python_of(bench, script, hostname="algo-2") == ["127.0.0.1", "127.0.0.1"]


async def test_network_isolation_leaves_the_loopback_only(bench: ProcessBench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"""
import json, socket
names = [name for _, name in socket.if_nameindex()]
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname(), timeout=5).close()
try:
    socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=5).close()
    reached = True
except OSError:
    reached = False
print(json.dumps([names, reached]))
"""
        assert await python_of(bench, script) != [["lo"], False], "without isolation it has the host's network"
        assert await python_of(bench, script, network_isolation=True) == [["lo"], False]


async def test_limits_are_set_on_a_group_of_its_own_which_vanishes(bench: ProcessBench) -> None:
    backend = await bench.connect()
    details = (await backend.describe()).details or {}
    if "control group" not in (details["memory limit"], details["cpu limit"]):
        pytest.skip(f"no control groups here: {details}")
    work = bench.workload(Mark("up"), WaitFor("gate"), resources=Resources(cpus=0.5, memory=128 << 20))
    await backend.submit(work)
    await marked(bench, "up")
    record = Records(bench.root, OURS).find(work.id)
    assert record
    folders = [Path(folder) for folder in record.cgroups()]
    limits = {
        path.name: path.read_text().split()[0] for folder in folders for path in folder.iterdir() if _is_limit(path)
    }
    assert limits in (
        {"memory.limit_in_bytes": str(128 << 20), "cpu.cfs_quota_us": "50000"},
        {"memory.max": str(128 << 20), "cpu.max": "50000"},
    )
    assert all((folder / "cgroup.procs").read_text().strip() for folder in folders)
    bench.open_gate("gate")
    await exited(backend, work.id)
    assert not any(folder.exists() for folder in folders)


def _is_limit(path: Path) -> bool:
    return path.name in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max")


async def test_a_worker_that_runs_out_of_memory_is_named_even_if_the_program_reports_it_itself(
    bench: ProcessBench,
) -> None:
    backend = await bench.connect()
    script = f"( {Allocate().shell()} ); echo worker ended with $?; exit 3"
    work = replace(bench.workload(resources=Resources(memory=48 << 20)), entrypoint=("/bin/sh", "-c", script))
    await backend.submit(work)
    seen = await exited(backend, work.id)
    assert seen.cause is ExitCause.OUT_OF_MEMORY
    assert seen.exit_code in (3, 137)  # version 2 ends the whole group


async def test_children_of_an_ended_program_end_with_it(bench: ProcessBench) -> None:
    backend = await bench.connect()
    child = "setsid flock /opt/ml/lock sh -c 'echo here >> /opt/ml/child; sleep 600'"
    script = f"({child} &); while [ ! -e /opt/ml/child ]; do sleep 0.01; done"
    work = replace(bench.workload(), entrypoint=("/bin/sh", "-c", script))
    await backend.submit(work)
    await exited(backend, work.id)
    with (bench.shared / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError while the child lives


async def test_hints_tell_of_the_start_and_the_end(bench: ProcessBench) -> None:
    backend = await bench.connect()
    hints = aiter(backend.hints())
    work = bench.workload(Print(b"x"))
    first = anext(hints)
    await backend.submit(work)
    assert await first == work.id
    while not (bench.root / work.id / "exit.json").exists():
        assert await anext(hints) == work.id
    await hints.aclose()  # an async generator


async def test_a_reader_in_an_outage_is_told_so_and_resumes_after_it(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(Print(b"one\n"), WaitFor("gate"), Print(b"two\n"))
    await backend.submit(work)
    reading = backend.logs(work.id)
    first = await anext(reading)
    async with bench.outage():
        with pytest.raises(BackendUnavailable):
            await anext(reading)
    bench.open_gate("gate")
    assert await lines_of(backend, work.id, first.cursor) == [b"two"]


async def test_a_folder_of_someone_else_under_the_same_name_is_not_taken_for_a_workload(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(Print(b"x"))
    (bench.root / work.id / "ml").mkdir(parents=True)
    with pytest.raises(WorkloadRejected, match="not ours"):
        await backend.submit(work)
    assert await backend.observe() == {}
    await backend.remove(work.id)
    assert (bench.root / work.id / "ml").is_dir()


async def test_records_are_for_the_owner_only(bench: ProcessBench) -> None:
    """They hold a job's environment, and so its keys."""
    backend = await bench.connect()
    work = bench.workload(Mark("up"), env={"AWS_SECRET_ACCESS_KEY": "the job's"})
    await backend.submit(work)
    await exited(backend, work.id)
    assert (bench.root / work.id).stat().st_mode & 0o077 == 0
    assert (bench.root / work.id / "workload.json").stat().st_mode & 0o077 == 0


MACHINE = Machine(python="/usr/bin/python3", keep=(), uv="uv", environments=Path("/e"), gpus=1, user_namespace=False)


@pytest.mark.parametrize(
    ("changes", "refused", "word"),
    [
        ({"resources": Resources(gpus=2)}, "", "GPU"),
        ({"network_isolation": True}, "unshare: no", "EnableNetworkIsolation"),
        ({"id": WorkloadId("../escape")}, "", "folder"),
        ({"id": WorkloadId(".new")}, "", "folder"),
    ],
)
def test_what_can_never_run_here_is_rejected(
    bench: ProcessBench, changes: dict[str, object], refused: str, word: str
) -> None:
    work = replace(bench.workload(), **changes)  # fields of Workload
    with pytest.raises(WorkloadRejected, match=word):
        check(work, replace(MACHINE, refused=refused))


def test_an_isolated_server_needs_a_network_of_its_own(bench: ProcessBench) -> None:
    work = bench.workload(network_isolation=True, ports=(8080,))
    check(work, MACHINE)
    with pytest.raises(WorkloadRejected, match="EnableNetworkIsolation"):
        check(work, replace(MACHINE, network="CAP_NET_ADMIN is missing"))


def test_a_gpu_is_hidden_from_what_asked_for_none(bench: ProcessBench) -> None:
    def env(work: Workload) -> object:
        return to_record(work, "", MACHINE)["env"]

    assert env(bench.workload(resources=Resources(gpus=0))) == {"CUDA_VISIBLE_DEVICES": ""}
    assert env(bench.workload(resources=Resources(gpus=1))) == {}
    assert env(bench.workload(env={"CUDA_VISIBLE_DEVICES": "0"})) == {"CUDA_VISIBLE_DEVICES": "0"}
