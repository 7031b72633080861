"""Keys without a table: what was issued resolves, everything else does not."""

from __future__ import annotations

import base64
import json
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.core.credentials import Credentials, Keyring, UnknownCredentials, owner_credentials
from sagewright.core.errors import SettingsError
from sagewright.core.ids import Account

ACCOUNT = Account("000000000000")


def issue(ring: Keyring, expiration: datetime | None = None) -> Credentials:
    return ring.issue(ACCOUNT, "SageMakerRole", "me", user_id="AROAX", expiration=expiration)


def test_issued_keys_resolve_to_their_principal_and_secret() -> None:
    ring = Keyring(b"k" * 32)
    expiration = datetime(2030, 1, 1, tzinfo=UTC)
    made = issue(ring, expiration)
    session = ring.resolve(made.access_key, made.session_token)
    assert session.secret_key == made.secret_key
    assert len(made.secret_key) == 40
    assert session.principal.arn == "arn:aws:sts::000000000000:assumed-role/SageMakerRole/me"
    assert session.principal.user_id == "AROAX:me"
    assert session.expiration == expiration


def test_keys_of_another_installation_are_unknown() -> None:
    made = issue(Keyring(b"a" * 32))
    with pytest.raises(UnknownCredentials):
        Keyring(b"b" * 32).resolve(made.access_key, made.session_token)


def test_a_token_belongs_to_its_access_key() -> None:
    ring = Keyring(b"k" * 32)
    first, second = issue(ring), issue(ring)
    with pytest.raises(UnknownCredentials):
        ring.resolve(first.access_key, second.session_token)


@pytest.mark.parametrize("token", [None, "", ".", "a.b", "é.é", "x" * 10_000])
def test_garbage_tokens_are_unknown(token: str | None) -> None:
    ring = Keyring(b"k" * 32)
    with pytest.raises(UnknownCredentials):
        ring.resolve(issue(ring).access_key, token)


def test_a_changed_payload_breaks_the_seal() -> None:
    ring = Keyring(b"k" * 32)
    made = issue(ring, datetime.now(UTC) + timedelta(hours=1))
    body, _, seal = made.session_token.partition(".")
    payload = json.loads(base64.urlsafe_b64decode(body))
    payload["x"] = None
    forged = base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode()
    with pytest.raises(UnknownCredentials):
        ring.resolve(made.access_key, f"{forged}.{seal}")


def test_the_master_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    rings: list[Keyring] = []
    threads = [threading.Thread(target=lambda: rings.append(Keyring.open(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ring.derive("same") for ring in rings}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"], "no temporary file is left"
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600


def test_a_damaged_master_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "master.key").write_bytes(b"short")
    with pytest.raises(SettingsError, match="must hold 32 bytes"):
        Keyring.open(tmp_path)


def test_the_owners_keys_stay_the_same_and_private(tmp_path: Path) -> None:
    ring = Keyring.open(tmp_path)
    first = owner_credentials(ring, tmp_path, ACCOUNT, "SageMakerRole", "AROAX")
    (tmp_path / "credentials.json").chmod(0o644)
    again = owner_credentials(ring, tmp_path, ACCOUNT, "SageMakerRole", "AROAX")
    assert first == again
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert ring.resolve(first.access_key, first.session_token).expiration is None
