"""Passwords for the registry: ours, for twelve hours, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sagewright.core.credentials import Keyring
from sagewright.core.registry_tokens import LIFE, issue, verify

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYRING = Keyring(b"k" * 32)


def test_a_password_is_good_for_twelve_hours() -> None:
    text = issue(KEYRING, NOW)
    assert verify(KEYRING, text, NOW + LIFE - timedelta(seconds=1))
    assert not verify(KEYRING, text, NOW + LIFE)


@pytest.mark.parametrize("text", ["", ".", "a.b", "ä.b", "x" * 5000, issue(Keyring(b"o" * 32), NOW)])
def test_what_was_not_issued_here_is_refused(text: str) -> None:
    assert not verify(KEYRING, text, NOW)


def test_a_changed_password_is_refused() -> None:
    body, _, seal = issue(KEYRING, NOW).partition(".")
    later = issue(KEYRING, NOW + LIFE).partition(".")[0]
    assert not verify(KEYRING, f"{later}.{seal}", NOW)
    assert not verify(KEYRING, body, NOW)
