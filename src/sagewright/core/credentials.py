"""Access keys without a table: every key we ever issue can be checked from the master key alone.

    access key id   ASIA + 16 characters, random
    secret          HMAC(master, "secret" | access key id), 40 characters
    session token   base64url(payload) + "." + HMAC(master, "token" | payload)

The payload names the principal and the expiry, so a session needs no row, and a gateway no look-up.
Owns: issuing and resolving credentials. Does not own: signatures (`wire.sigv4`), who may do what.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sagewright.core.context import Principal
from sagewright.core.errors import SettingsError
from sagewright.core.ids import Account

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client is given. `expiration` None never expires (the keys of the data directory's owner)."""

    access_key: str
    secret_key: str
    session_token: str
    expiration: datetime | None


@dataclass(frozen=True, slots=True)
class Session:
    """What a valid access key and session token stand for."""

    principal: Principal
    secret_key: str
    expiration: datetime | None


class UnknownCredentials(Exception):
    """The access key or its session token was not issued by this installation."""


class Keyring:
    """Issues and resolves credentials under one master key (32 random bytes)."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    @classmethod
    def open(cls, folder: Path) -> Keyring:
        """The keyring of a data directory; the master key is made at the first start, mode 0600."""
        path = folder / "master.key"
        if not path.exists():
            _create_private(path, secrets.token_bytes(32))
        master = path.read_bytes()
        if len(master) != 32:
            raise SettingsError(f"{path} must hold 32 bytes; remove it to have new keys made (old keys stop working)")
        return cls(master)

    def issue(
        self, account: Account, role: str, session_name: str, *, user_id: str, expiration: datetime | None
    ) -> Credentials:
        """Keys for the session `assumed-role/ROLE/SESSION_NAME`."""
        access_key = "ASIA" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
        payload = {
            "k": access_key,
            "a": account,
            "r": role,
            "s": session_name,
            "u": user_id,
            "x": int(expiration.timestamp()) if expiration else None,
        }
        body = base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode()
        return Credentials(access_key, self._secret(access_key), f"{body}.{self._seal(body)}", expiration)

    def resolve(self, access_key: str, session_token: str | None) -> Session:
        """Raises UnknownCredentials. An expired session is returned: the caller compares with its clock."""
        body, _, seal = (session_token or "").partition(".")
        if not seal or not hmac.compare_digest(seal.encode(errors="replace"), self._seal(body).encode()):
            raise UnknownCredentials(access_key)
        payload = json.loads(base64.urlsafe_b64decode(body))
        if payload["k"] != access_key:
            raise UnknownCredentials(access_key)
        account = Account(payload["a"])
        principal = Principal(
            account=account,
            arn=f"arn:aws:sts::{account}:assumed-role/{payload['r']}/{payload['s']}",
            user_id=f"{payload['u']}:{payload['s']}",
            access_key=access_key,
        )
        expires = datetime.fromtimestamp(payload["x"], UTC) if payload["x"] else None
        return Session(principal, self._secret(access_key), expires)

    def derive(self, purpose: str) -> bytes:
        """A key for another use (page tokens ...), so that one secret on disk is enough."""
        return self._mac(b"derive", purpose.encode())

    def _secret(self, access_key: str) -> str:
        return base64.b64encode(self._mac(b"secret", access_key.encode())).decode()[:40]

    def _seal(self, body: str) -> str:
        return base64.urlsafe_b64encode(self._mac(b"token", body.encode(errors="replace"))).decode().rstrip("=")

    def _mac(self, purpose: bytes, data: bytes) -> bytes:
        return hmac.new(self._master, purpose + b"|" + data, hashlib.sha256).digest()


def owner_credentials(keyring: Keyring, folder: Path, account: Account, role: str, user_id: str) -> Credentials:
    """The keys that `sagewright env` prints: made once, kept in `credentials.json`, mode 0600, never expiring."""
    path = folder / "credentials.json"
    if not path.exists():
        made = keyring.issue(account, role, "sagewright", user_id=user_id, expiration=None)
        kept = {"access_key": made.access_key, "secret_key": made.secret_key, "session_token": made.session_token}
        _create_private(path, json.dumps(kept, indent=2).encode())
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    kept = json.loads(path.read_text())
    return Credentials(kept["access_key"], kept["secret_key"], kept["session_token"], None)


def _create_private(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all, readable by its owner only. The first of several racing writers wins."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
