"""What a server leaves for its own commands, read while it comes and goes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sagewright.app import state
from sagewright.core.errors import SettingsError
from sagewright.settings import ControllerSettings, DataDir, ServerSettings, Settings


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.create()
    return made


def test_a_server_runs_only_while_its_lock_is_held(data: DataDir) -> None:
    state.save_running(data, state.Running("http://127.0.0.1:1", {"supervisor": 1}))
    assert state.load_running(data) is None, "what a killed server left behind is not a running server"
    with state.exclusive(data.run / "supervisor.lock", "held"):
        assert state.load_running(data) == state.Running("http://127.0.0.1:1", {"supervisor": 1})
    assert state.load_running(data) is None


def test_the_lock_is_refused_to_a_second_holder_with_its_words(data: DataDir) -> None:
    lock = data.run / "supervisor.lock"
    with (
        state.exclusive(lock, "first"),
        pytest.raises(SettingsError, match="already there"),
        state.exclusive(lock, "already there", patience=0.05),
    ):
        pass


def test_looking_never_keeps_a_server_from_starting(data: DataDir) -> None:
    state.save_running(data, state.Running("u", {}))
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            state.load_running(data)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(50):
            with state.exclusive(data.run / "supervisor.lock", "refused"):
                pass
    finally:
        stop.set()
        watcher.join()


def test_a_status_file_that_goes_while_it_is_read_is_no_error(data: DataDir) -> None:
    failures: list[BaseException] = []
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.is_set():
                state.load_running(data)
        except OSError as error:
            failures.append(error)

    watcher = threading.Thread(target=look)
    watcher.start()
    with state.exclusive(data.run / "supervisor.lock", "held"):
        for _ in range(300):
            state.save_running(data, state.Running("u", {}))
            (data.run / "status.json").unlink()
    stop.set()
    watcher.join()
    assert failures == []


def test_settings_come_back_as_they_were_saved(data: DataDir) -> None:
    server = ServerSettings(host="0.0.0.0", port=1234, gateways=3, proxy_networks=("10.0.0.0/8",))
    saved = Settings(data, server=server, docker_host="unix:///x", upstream_proxy="http://p:1")
    state.save_settings(saved)
    assert state.load_settings(data) == saved
    assert state.load_settings(DataDir(data.root / "elsewhere")) == Settings(DataDir(data.root / "elsewhere"))


@pytest.mark.parametrize("at_once", [None, 3])
def test_the_number_of_jobs_at_once_reaches_the_controller(data: DataDir, at_once: int | None) -> None:
    state.save_settings(Settings(data, controller=ControllerSettings(jobs_at_once=at_once)))
    assert state.load_settings(data).controller.jobs_at_once == at_once
