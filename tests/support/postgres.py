"""A PostgreSQL server of the test's own, on a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@contextmanager
def postgres_url() -> Iterator[str]:
    """SQLAlchemy's URL of an empty database; skips the test where there is no server to start."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs or find_spec("psycopg") is None:
        pytest.skip("no PostgreSQL server and psycopg on this machine")
    with TemporaryDirectory(prefix="sagewright-postgres-") as name:  # pytest's own folders are closed to other users
        folder, data = Path(name), Path(name) / "data"
        as_user: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        made = [*as_user, str(programs[-1]), "-D", str(data), "-A", "trust", "-U", "me"]
        subprocess.run(made, check=True, capture_output=True, cwd="/")
        control = [*as_user, str(programs[-1].with_name("pg_ctl")), "-D", str(data), "-w", "-s"]
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        subprocess.run([*control, "-o", options, "-l", str(folder / "log"), "start"], check=True, cwd="/")
        try:
            yield f"postgresql://me@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")
