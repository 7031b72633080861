"""Page tokens cannot be read across listings, nor changed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.wire import pages
from sagewright.wire.faults import ApiFault

SECRET = b"s" * 32
TEXT = st.text(st.characters(codec="utf-8"))


@given(position=st.lists(TEXT), scope=TEXT)
def test_a_token_opens_to_what_was_sealed(position: list[str], scope: str) -> None:
    token = pages.seal(SECRET, position, scope)
    assert pages.unseal(SECRET, token, scope) == tuple(position)
    assert token.replace("-", "a").replace("_", "a").isalnum()


@given(position=st.lists(TEXT, min_size=1), bit=st.integers(0, 10_000))
def test_a_changed_token_is_refused(position: list[str], bit: int) -> None:
    token = pages.seal(SECRET, position, "ListTrainingJobs")
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    with pytest.raises(ApiFault):
        pages.unseal(SECRET, base64.urlsafe_b64encode(raw).decode(), "ListTrainingJobs")


@pytest.mark.parametrize(("secret", "scope"), [(b"t" * 32, "A"), (SECRET, "B"), (SECRET, "")])
def test_a_token_of_another_scope_or_secret_is_refused(secret: bytes, scope: str) -> None:
    with pytest.raises(ApiFault) as raised:
        pages.unseal(secret, pages.seal(SECRET, ["x"], "A"), scope)
    assert raised.value.code == "ValidationException"
    assert raised.value.message.startswith("Invalid NextToken")


@given(st.text())
def test_any_text_is_refused_politely(token: str) -> None:
    with pytest.raises(ApiFault):
        pages.unseal(SECRET, token, "A")
