"""How the commands reach the server: botocore clients, like any user's, with the data directory's own keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sagewright.app import state
from sagewright.cli.server import option
from sagewright.core.credentials import Keyring, owner_credentials
from sagewright.core.errors import SettingsError
from sagewright.settings import DataDir
from sagewright.store.kinds.role import DEFAULT_ROLE, DEFAULT_ROLE_ID


class Api:
    """Clients for one running server. Raises SettingsError when none runs."""

    def __init__(self, folder: DataDir) -> None:
        running = state.load_running(folder)
        if running is None:
            raise SettingsError(f"no server runs on {folder.root}. Start one: sagewright up --detach{option(folder)}")
        self.settings = state.load_settings(folder)
        self.url = running.url
        self._session = botocore.session.Session()
        self._keys = owner_credentials(
            Keyring.open(folder.keys), folder.keys, self.settings.account, DEFAULT_ROLE, DEFAULT_ROLE_ID
        )

    def client(self, service: str, *, read_timeout: float = 30, attempts: int = 3) -> Any:
        """A botocore client. Untyped, as botocore makes its methods at run time."""
        return self._session.create_client(
            service,
            region_name=self.settings.region,
            endpoint_url=self.url,
            aws_access_key_id=self._keys.access_key,
            aws_secret_access_key=self._keys.secret_key,
            aws_session_token=self._keys.session_token,
            config=Config(
                proxies={}, retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=read_timeout
            ),
        )


@contextmanager
def plain_errors() -> Iterator[None]:
    """The server's refusals as one line for the terminal."""
    try:
        yield
    except ClientError as error:
        raise SettingsError(error.response["Error"].get("Message") or str(error)) from error
    except BotoCoreError as error:
        raise SettingsError(str(error)) from error
