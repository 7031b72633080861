"""Environments of folder images: built once, whole or not at all, whoever is killed; and what a build may see."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import signal
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sagewright.backends.process import environments
from sagewright.backends.process.records import Records
from sagewright.workloads.observation import ExitCause, Phase
from sagewright.workloads.workload import Workload
from suites.backend_bench import exited, look, until
from suites.backend_log_suite import lines_of
from support.process_bench import OURS, ProcessBench

HERE = environments.base_python()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ProcessBench]:
    folder = tmp_path / "bench"
    folder.mkdir()
    bench = ProcessBench(folder, tmp_path / "environments")
    bench.environ = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels(tmp_path))}
    yield bench
    await bench.aclose()


def wheels(folder: Path) -> Path:
    """A folder of one package, `greeter`, with a module and a command."""
    place = folder / "wheels"
    place.mkdir()
    files = {
        "greeter.py": "def main():\n    print('hello from', __file__)\n",
        "greeter-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n",
        "greeter-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "greeter-1.0.dist-info/entry_points.txt": "[console_scripts]\ngreet = greeter:main\n",
    }
    record = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    files["greeter-1.0.dist-info/RECORD"] = "\n".join([*record, "greeter-1.0.dist-info/RECORD,,"]) + "\n"
    with zipfile.ZipFile(place / "greeter-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return place


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def needing(bench: ProcessBench, requirements: str, *entrypoint: str) -> Workload:
    image = bench.folder_image(bench.folder / "image", *entrypoint, requirements=requirements)
    return replace(bench.workload(), image=image, entrypoint=None)


def built(bench: ProcessBench) -> list[str]:
    """Names in the environments' folder, without locks and uv's cache."""
    names = (path.name for path in bench.environments.iterdir())
    return sorted(name for name in names if not name.endswith(".lock") and name != ".cache")


@pytest.mark.process
async def test_requirements_are_importable_and_their_commands_run(bench: ProcessBench) -> None:
    backend = await bench.connect()
    for entrypoint in (("greet",), ("python", "-c", "import greeter; greeter.main()")):
        work = needing(bench, "greeter==1.0", *entrypoint)
        await backend.submit(work)
        assert (await exited(backend, work.id)).exit_code == 0
        (line,) = await lines_of(backend, work.id)
        assert line.startswith(b"hello from /opt/environment/lib/python3")
    assert built(bench) == [environments.key("greeter==1.0", HERE)]
    assert list(bench.environments.rglob("greeter*.pyc")), "compiled once, not at every start"


@pytest.mark.process
async def test_many_workloads_of_many_controllers_build_one_environment_once(bench: ProcessBench) -> None:
    backends = [await bench.connect() for _ in range(3)]
    works = [needing(bench, "greeter", "greet") for _ in range(6)]
    await asyncio.gather(*(backends[number % 3].submit(work) for number, work in enumerate(works)))
    for work in works:
        assert (await exited(backends[0], work.id)).exit_code == 0
    assert built(bench) == [environments.key("greeter", HERE)]
    logs = [bench.root / work.id / "build.log" for work in works]
    assert sum(log.exists() for log in logs) == 1, "one built, five waited"


@pytest.mark.process
async def test_a_requirement_that_cannot_be_had_fails_with_the_resolvers_words(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = needing(bench, "no-such-package-at-all>=3", "greet")
    await backend.submit(work)
    seen = await exited(backend, work.id)
    assert (seen.exit_code, seen.cause) == (None, ExitCause.IMAGE)
    assert "no-such-package-at-all" in seen.message
    assert "requirements could not be installed:\nerror: " in seen.message, "the cause, not what led to it, comes first"
    assert built(bench) == []


@pytest.mark.process
async def test_an_environment_whose_interpreter_is_gone_is_built_anew(bench: ProcessBench) -> None:
    backend = await bench.connect()
    broken = bench.environments / environments.key("greeter", HERE)
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "python").symlink_to("/no/such/python")
    work = needing(bench, "greeter", "greet")
    await backend.submit(work)
    assert (await exited(backend, work.id)).exit_code == 0
    assert built(bench) == [broken.name]


class _Server(ThreadingHTTPServer):
    """Serves a folder; until `release` is set, requests are held."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.release = threading.Event()
        self.asked = threading.Event()
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))


class _Handler(SimpleHTTPRequestHandler):
    server: _Server

    def send_head(self):  # as in the standard library
        self.server.asked.set()
        self.server.release.wait(60)
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:  # as in the standard library
        try:
            shutil.copyfileobj(source, outputfile)
        except ConnectionError:
            return  # the client was killed, as the test wants it


@contextmanager
def slow_index(bench: ProcessBench, tmp_path: Path) -> Iterator[_Server]:
    with _Server(tmp_path / "wheels") as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        bench.environ = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": url}
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()


def _runner(bench: ProcessBench, work: Workload) -> int:
    record = Records(bench.root, OURS).find(work.id)
    assert record
    runner = record.runner()
    assert runner
    return runner.pid


async def _building(server: _Server) -> None:
    async def asked() -> bool:
        return server.asked.is_set()

    await until(asked, "the build to ask for packages")


def _builder(runner: int) -> int:
    (child,) = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
    return int(child)


@pytest.mark.process
async def test_a_killed_build_is_done_once_more(bench: ProcessBench, tmp_path: Path) -> None:
    with slow_index(bench, tmp_path) as server:
        backend = await bench.connect()
        work = needing(bench, "greeter", "greet")
        await backend.submit(work)
        await _building(server)
        seen = await look(backend, work.id)
        assert (seen.phase, bool(seen.message)) == (Phase.PREPARING, True)
        os.kill(_builder(_runner(bench, work)), signal.SIGKILL)
        server.release.set()
        assert (await exited(backend, work.id)).exit_code == 0
    assert built(bench) == [environments.key("greeter", HERE)]


@pytest.mark.process
async def test_a_runner_killed_while_it_builds_leaves_a_loss_and_the_next_one_builds(
    bench: ProcessBench, tmp_path: Path
) -> None:
    with slow_index(bench, tmp_path) as server:
        backend = await bench.connect()
        first, second = needing(bench, "greeter", "greet"), needing(bench, "greeter", "greet")
        await backend.submit(first)
        await _building(server)
        runner = _runner(bench, first)
        builder = _builder(runner)
        await backend.submit(second)
        os.kill(runner, signal.SIGKILL)
        server.release.set()
        seen = await exited(backend, first.id)
        assert (seen.exit_code, seen.cause) == (None, ExitCause.LOST)
        assert (await exited(backend, second.id)).exit_code == 0

        async def ended() -> bool:
            return not Path(f"/proc/{builder}").exists()

        await until(ended, "the build of the killed runner to end with it")
    assert built(bench) == [environments.key("greeter", HERE)]


@pytest.mark.process
@pytest.mark.parametrize("how", ["stop", "remove"])
async def test_stopping_a_build_leaves_nothing_behind(bench: ProcessBench, tmp_path: Path, how: str) -> None:
    with slow_index(bench, tmp_path) as server:
        backend = await bench.connect()
        work = needing(bench, "greeter", "greet")
        await backend.submit(work)
        await _building(server)
        builder = _builder(_runner(bench, work))
        await getattr(backend, how)(work.id)
        if how == "stop":
            seen = await exited(backend, work.id)
            assert (seen.exit_code, seen.started_at) == (None, None)
        assert not Path(f"/proc/{builder}").exists()
        assert built(bench) == []


def test_the_key_follows_what_is_installed_and_not_how_it_is_written() -> None:
    key = environments.key("a==1\nb", HERE)
    assert key == environments.key("# comment\n\n  a==1  \nb\n", HERE)
    assert key != environments.key("a==2\nb", HERE)
    assert key != environments.key("a==1\nb", "/another/python")


def test_a_build_sees_the_users_package_settings_and_nothing_else(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "LD_PRELOAD": "x",
        "HTTPS_PROXY": "http://proxy:1",
        "UV_INDEX_STRATEGY": "first-index",
        "PIP_INDEX_URL": "https://mirror/simple",
        "PIP_EXTRA_INDEX_URL": "https://a/simple\n https://b/simple",
        "PIP_FIND_LINKS": "/wheels https://c/links",
        "PIP_CERT": "/ca.pem",
        "PIP_TRUSTED_HOST": "mirror",
        "PIP_NO_INDEX": "0",
        "HOME": str(tmp_path),
    }
    built = environments.build_environ(given, Path("/data/environments"), "/python/bin/python3")
    machine = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    assert built == machine | {
        "PATH": "/python/bin:/bin",
        "HOME": str(tmp_path),
        "HTTPS_PROXY": "http://proxy:1",
        "UV_CACHE_DIR": "/data/environments/.cache",
        "UV_INDEX_STRATEGY": "first-index",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
        "UV_FIND_LINKS": "/wheels,https://c/links",
        "UV_INSECURE_HOST": "mirror",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_pips_configuration_files_count_and_the_environment_wins(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(
        "[global]\nindex-url = https://user/simple\nfind_links =\n  /one\n  /two\n[install]\nno-index = true\n"
    )
    named = tmp_path / "named.conf"
    named.write_text("[global]\nindex-url = https://named/simple\n")
    home = {"HOME": str(tmp_path), "PATH": "/bin"}
    built = environments.build_environ(home, tmp_path, HERE)
    assert built["UV_DEFAULT_INDEX"] == "https://user/simple"
    assert (built["UV_FIND_LINKS"], built["UV_NO_INDEX"]) == ("/one,/two", "1")
    built = environments.build_environ(home | {"PIP_CONFIG_FILE": str(named)}, tmp_path, HERE)
    assert built["UV_DEFAULT_INDEX"] == "https://named/simple"
    built = environments.build_environ(home | {"PIP_INDEX_URL": "https://env/simple"}, tmp_path, HERE)
    assert built["UV_DEFAULT_INDEX"] == "https://env/simple"


def test_a_broken_pip_configuration_is_left_to_pip_to_complain_about(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"no section \xff")
    environ = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PATH": "/bin"}
    assert "UV_DEFAULT_INDEX" not in environments.build_environ(environ, tmp_path, HERE)
