"""The process backend without root, and where the kernel refuses namespaces altogether."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import sagewright
from sagewright.backends.process import namespaces
from sagewright.backends.process.backend import ProcessBackend
from sagewright.backends.process.spec import Machine
from sagewright.core.errors import WorkloadRejected
from sagewright.workloads.backend import Capabilities, ComputeBackend
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import Mount, Workload
from suites.backend_bench import exited
from suites.backend_log_suite import lines_of
from support.process_bench import ProcessBench

pytestmark = pytest.mark.process
NOBODY = 65534


class _Refusing(ProcessBackend):
    """As on a kernel that grants no namespaces."""

    def _examine(self):  # three values of the base class
        launcher, machine, granted = super()._examine()
        refused = "unshare: Operation not permitted"
        return launcher, replace(machine, refused=refused), replace(granted, refused=refused)


class _RefusingBench(ProcessBench):
    async def connect(self, installation: str = "") -> ProcessBackend:
        backend = _Refusing(self.root, self.environments, installation or "the-test", environ=os.environ)
        self._backends.append(backend)
        return backend


@pytest.fixture
async def refusing(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[_RefusingBench]:
    bench = _RefusingBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
    yield bench
    await bench.aclose()


def script(bench: ProcessBench, text: str, **changes: object) -> Workload:
    work = replace(bench.workload(), entrypoint=("/bin/sh", "-c", text))
    return replace(work, **changes)  # fields of Workload


async def _lines(backend: ComputeBackend, work: Workload) -> list[str]:
    await backend.submit(work)
    seen = await exited(backend, work.id)
    lines = [line.decode() for line in await lines_of(backend, work.id)]
    assert seen.exit_code == 0, (seen, lines)
    return lines


async def test_refused_namespaces_are_told_with_their_mend(refusing: _RefusingBench) -> None:
    described = await (await refusing.connect()).describe()
    assert (described.available, described.real_opt_ml) == (True, False)
    assert "unshare" in (described.details or {})["namespaces"]


async def test_without_namespaces_the_base_folder_is_named_instead(refusing: _RefusingBench) -> None:
    channel = refusing.folder / "channel"
    channel.mkdir()
    (channel / "name").write_text("channel")
    mounts = (Mount(refusing.shared, "/opt/ml"), Mount(channel, "/opt/ml/input/data/training", read_only=True))
    text = 'cat "$SAGEMAKER_BASE_DIR/input/data/training/name"; echo; pwd; echo $SAGEMAKER_BASE_DIR; basename $HOME'
    lines = await _lines(await refusing.connect(), script(refusing, text, mounts=mounts))
    assert lines[0] == "channel"
    assert lines[1].endswith("/program")
    assert lines[2:] == [str(refusing.shared), "home"]


async def test_without_namespaces_a_folder_stands_for_mounts_below_opt_ml(refusing: _RefusingBench) -> None:
    mounts = (Mount(refusing.shared, "/opt/ml/model"),)
    text = 'echo made > "$SAGEMAKER_BASE_DIR/model/file"'
    assert await _lines(await refusing.connect(), script(refusing, text, mounts=mounts)) == []
    assert (refusing.shared / "file").read_text() == "made\n"


async def test_without_namespaces_a_variable_that_names_a_mounted_file_names_the_file_itself(
    refusing: _RefusingBench,
) -> None:
    bundle = refusing.folder / "bundle.pem"
    bundle.write_text("trusted")
    mounts = (Mount(refusing.shared, "/opt/ml"), Mount(bundle, "/opt/sagewright/ca-bundle.pem", read_only=True))
    env = {"AWS_CA_BUNDLE": "/opt/sagewright/ca-bundle.pem", "OTHER": "/opt/sagewright"}
    work = script(refusing, 'cat "$AWS_CA_BUNDLE"; echo; echo $OTHER', mounts=mounts, env=env)
    assert await _lines(await refusing.connect(), work) == ["trusted", "/opt/sagewright"]


async def test_without_namespaces_python_is_still_the_environments(refusing: _RefusingBench) -> None:
    work = replace(refusing.workload(), entrypoint=("python", "-c", "import sys; print(sys.prefix)"))
    (prefix,) = await _lines(await refusing.connect(), work)
    assert Path(prefix).parent == refusing.environments


async def test_without_namespaces_descendants_end_with_the_program(refusing: _RefusingBench) -> None:
    lock = refusing.shared / "lock"
    child = f"setsid flock {lock} sh -c 'echo here >> {refusing.shared}/child; sleep 600'"
    text = f"({child} &); while [ ! -e {refusing.shared}/child ]; do sleep 0.01; done"
    assert await _lines(await refusing.connect(), script(refusing, text)) == []
    import fcntl

    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_without_namespaces_what_needs_them_is_refused(refusing: _RefusingBench) -> None:
    backend = await refusing.connect()
    with pytest.raises(WorkloadRejected, match="namespaces"):
        await backend.submit(refusing.workload(network_isolation=True))
    elsewhere = refusing.workload(mounts=(Mount(refusing.shared, "/data"),))
    await backend.submit(elsewhere)
    seen = await exited(backend, elsewhere.id)
    assert (seen.cause, "/data" in seen.message) == (ExitCause.START, True)


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("user/max_user_namespaces", "0", "user.max_user_namespaces="),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ],
)
def test_the_switch_that_refuses_is_named_with_its_command(tmp_path: Path, name: str, value: str, mend: str) -> None:
    switch = tmp_path / "sys" / name
    switch.parent.mkdir(parents=True)
    switch.write_text(f"{value}\n")

    class Launcher:
        def prepare(self, *_: object) -> Path:
            return tmp_path

        def probe(self, _: Path) -> bytes:
            return json.dumps({"namespaces": "mount: Permission denied", "memory": False, "cpus": False}).encode()

    machine = Machine("/usr/bin/python3", (), "uv", tmp_path, gpus=0, user_namespace=True)
    granted = namespaces.probe(Launcher(), machine, proc=tmp_path)  # stands in for the real
    assert "mount: Permission denied" in granted.refused
    assert mend in granted.refused


def test_gpus_are_counted_by_their_devices(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert namespaces.machine("uv", tmp_path, dev=tmp_path).gpus == 2


_AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
AS_NOBODY = """
    import asyncio, json, os, sys
    from pathlib import Path
    from sagewright.backends.process.backend import ProcessBackend
    from sagewright.core.ids import WorkloadId
    from sagewright.workloads.workload import FolderImage, ImageRef, Mount, Resources, Workload

    async def main(folder):
        backend = ProcessBackend(folder / "root", folder / "environments", "it", environ={"PATH": os.environ["PATH"]})
        described = await backend.describe()
        script = 'id -u; echo $$; echo made > /opt/ml/file; python -c "import sys; print(sys.prefix)"; cd; pwd; ' \\
            'touch x; mkdir locked; touch locked/y; chmod 0 locked; python -c "import site, pathlib; ' \\
            'pathlib.Path(site.getsitepackages()[0], chr(120)).touch()"; exit 3'
        image = ImageRef("test", FolderImage("test", "sha256:0", folder / "image", ()))
        mounts = (Mount(folder / "ml", "/opt/ml"), Mount(folder / "ml", "/made-up/place", read_only=True))
        work = Workload(WorkloadId("one"), image, ("/bin/sh", "-c", script), None, mounts=mounts, hostname="algo-1",
            resources=Resources(cpus=1.0, memory=512 << 20, shared_memory=1 << 20), network_isolation=True)
        await backend.submit(work)
        lines = [line.message.decode() async for line in backend.logs(work.id)]
        seen = (await backend.observe())[work.id]
        await backend.remove(work.id)
        left = [path.name for path in (folder / "root").iterdir() if path.name[0] != "."]
        left += [path.name for path in (folder / "root" / ".trash").iterdir()]
        details = dict(described.details or {})
        print(json.dumps([described.real_opt_ml, details, lines, seen.exit_code, seen.message, left]))

    asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def nobodys(tmp_path: Path) -> Iterator[Path]:
    """A folder that only nobody owns, outside pytest's private one."""
    folder = Path("/var/tmp") / f"process-nobody-{os.getpid()}"
    for name in ("image", "ml"):
        (folder / name).mkdir(parents=True)
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def _python_for_nobody() -> str | None:
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(candidate).exists():
            said = subprocess.run([candidate, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True)
            if said.stdout.split() == [str(part).encode() for part in sys.version_info[:2]]:
                return candidate
    return None


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else")
def test_another_user_gets_real_paths_through_a_user_namespace(nobodys: Path) -> None:
    python = _python_for_nobody()
    if python is None:
        pytest.skip("no interpreter of this version that every user can run")
    source = Path(sagewright.__file__).parents[1]
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    said = subprocess.run(
        [*_AS_NOBODY, python, "-c", textwrap.dedent(AS_NOBODY), str(nobodys)],
        env={"PYTHONPATH": f"{source}:{packages}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    real, details, lines, code, message, left = json.loads(said.stdout)
    if not real:
        pytest.skip(f"this kernel grants nobody no namespaces: {details}")
    assert (code, message, left) == (3, "", [])
    assert lines == ["0", "1", "/opt/environment", "/root"]
    assert (nobodys / "ml" / "file").read_text() == "made\n"
    assert (nobodys / "ml" / "file").stat().st_uid == NOBODY
    assert not Path("/made-up").exists()


async def test_a_machine_that_is_not_linux_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    described: Capabilities = await ProcessBackend(tmp_path, tmp_path, "it", environ={}).describe()
    assert (described.available, described.installed, "Docker" in described.problem) == (False, False, True)


def test_the_runner_imports_nothing_but_the_standard_library() -> None:
    """It is copied away from the package and must start without site-packages, quickly."""
    source = Path(namespaces.__file__).with_name("runner")
    code = textwrap.dedent("""
        import sys; sys.path.insert(0, sys.argv[1])
        from runner import main, probe, child
        slow = ("pathlib", "typing", "subprocess", "dataclasses", "asyncio")
        print(sorted(name for name in slow if name in sys.modules))
    """)
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(source.parent)], capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"


def test_two_loops_may_use_one_backend_after_each_other(tmp_path: Path) -> None:
    """The CLI runs one loop per command."""
    backend = ProcessBackend(tmp_path / "root", tmp_path / "environments", "it", environ=os.environ)
    for _ in range(2):
        assert asyncio.run(backend.describe()).available
