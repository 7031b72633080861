"""`env`: the settings that make AWS clients of any age and language talk to this server."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from sagewright.app import state
from sagewright.app.supervisor import url
from sagewright.cli.server import data_dir, option
from sagewright.core.credentials import Keyring, owner_credentials
from sagewright.core.errors import SettingsError
from sagewright.settings import DataDir
from sagewright.store.kinds.role import DEFAULT_ROLE, DEFAULT_ROLE_ID

_BUNDLE_LIMIT = 10.0  # seconds; the authority is made in the background of the very first start

_SDK_CONFIG = """\
# Written by `sagewright env`: the SageMaker Python SDK reads it as its administrator's configuration.
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""


def env(data: Path | None, no_proxy: bool) -> None:
    """Print `export` lines for POSIX shells."""
    for name, value in variables(data_dir(data), proxy=not no_proxy).items():
        print(f"export {name}={shlex.quote(value)}")


def variables(folder: DataDir, *, proxy: bool = True) -> dict[str, str]:
    """What `env` prints, as a mapping. Raises SettingsError when the server was never started here."""
    if not (folder.run / "settings.json").exists():
        raise SettingsError(
            f"no server was ever started on {folder.root}. Start one: sagewright up --detach{option(folder)}"
        )
    if state.load_running(folder) is None:
        print(f"sagewright: the server is not running; start it with `sagewright up{option(folder)}`", file=sys.stderr)
    settings = state.load_settings(folder)
    endpoint = url(settings)
    keys = owner_credentials(Keyring.open(folder.keys), folder.keys, settings.account, DEFAULT_ROLE, DEFAULT_ROLE_ID)
    shown = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.session_token,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(_sdk_config(folder)),
    }
    if proxy:
        shown["HTTPS_PROXY"] = endpoint
        shown["NO_PROXY"] = _no_proxy(settings.server.host)
        shown["AWS_CA_BUNDLE"] = str(_bundle(folder))
    return shown


def _no_proxy(host: str) -> str:
    """Whatever was excluded before, and everything on this machine."""
    before = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    entries = [*filter(None, (entry.strip() for entry in before.split(","))), "127.0.0.1", "localhost", "::1", host]
    return ",".join(dict.fromkeys(entries))


def _sdk_config(folder: DataDir) -> Path:
    path = folder.run / "sagemaker-sdk.yaml"
    if not path.exists() or path.read_text() != _SDK_CONFIG:
        path.write_text(_SDK_CONFIG)
    return path


def _bundle(folder: DataDir) -> Path:
    path = folder.keys / "bundle.pem"
    deadline = time.monotonic() + _BUNDLE_LIMIT
    while not path.exists():
        if state.load_running(folder) is None or time.monotonic() > deadline:
            raise SettingsError(
                f"{path} is not there yet. Start the server (`sagewright up{option(folder)}`), or use --no-proxy."
            )
        time.sleep(0.02)
    return path
