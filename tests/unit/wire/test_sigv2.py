"""Signature Version 2 against botocore's HmacV1 signers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagewright.wire import sigv2
from sagewright.wire.denials import Denied, Reason
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.sigv4 import Malformed

SECRET = "secret"
KEYS = Credentials("ASIAEXAMPLE", SECRET, "token.se+al==")


def presigned(
    query: str = "", path: str = "/bucket/key", headers: dict[str, str] | None = None, expires: int = 60
) -> HttpRequest:
    request = AWSRequest("GET", f"http://h{path}" + (f"?{query}" if query else ""), headers=headers or {})
    request.auth_path = None
    HmacV1QueryAuth(KEYS, expires).add_auth(request)
    parts = urlsplit(request.url)
    sent = [(n, v) for n, v in (headers or {}).items() if n.lower() == "content-type"]
    return HttpRequest("GET", parts.path, parts.query, Headers([("Host", "h"), *sent]))


def with_header(path: str = "/bucket/key", headers: dict[str, str] | None = None) -> HttpRequest:
    request = AWSRequest("PUT", f"http://h{path}", headers=headers or {})
    request.auth_path = None
    HmacV1Auth(KEYS).add_auth(request)
    arrived = [(name, str(value)) for name, value in request.headers.items()]
    return HttpRequest("PUT", urlsplit(request.url).path, urlsplit(request.url).query, Headers(arrived))


def check(request: HttpRequest, secret: str = SECRET, now: datetime | None = None) -> None:
    claim = sigv2.read_claim(request)
    assert isinstance(claim, sigv2.ClaimV2), claim
    assert claim.access_key == "ASIAEXAMPLE"
    assert claim.token == "token.se+al=="
    sigv2.verify(request, claim, secret, now or datetime.now(UTC))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "versionId=abc%2F%2B",
        "uploads",
        "partNumber=2&uploadId=x%3D%3D",
        "response-content-disposition=attachment%3B%20filename%3D%22a%20b%22&response-content-type=text%2Fplain",
        "prefix=not-signed&acl",
    ],
)
def test_presigned_urls_of_botocore_are_accepted(query: str) -> None:
    check(presigned(query, "/bucket/a%20b/%C3%BC"))


def test_a_content_type_that_was_signed_must_be_sent() -> None:
    request = presigned(headers={"Content-Type": "text/csv"})
    check(request)
    with pytest.raises(Denied, match="mismatch"):
        check(replace(request, headers=Headers([("Host", "h")])))


def test_headers_that_were_signed_into_the_url_count() -> None:
    check(presigned(headers={"x-amz-acl": "private"}))


def test_a_header_signature_is_accepted_with_date_or_x_amz_date() -> None:
    check(with_header(headers={"x-amz-meta-b": "2", "x-amz-meta-a": "1", "Content-MD5": "abc"}))


@pytest.mark.parametrize(
    "change",
    [{"method": "PUT"}, {"raw_path": "/bucket/other"}, {"raw_query": "&acl"}, {"raw_query": "&x-amz-acl=public-read"}],
)
def test_what_was_signed_counts(change: dict[str, str]) -> None:
    request = presigned()
    if "raw_query" in change:
        change = {"raw_query": request.raw_query + change["raw_query"]}
    with pytest.raises(Denied) as caught:
        check(replace(request, **change))
    assert caught.value.reason is Reason.MISMATCH


def test_another_secret_is_refused() -> None:
    with pytest.raises(Denied, match="mismatch"):
        check(presigned(), secret="other")
    with pytest.raises(Denied, match="mismatch"):
        check(with_header(), secret="other")


def test_an_expired_url_is_refused() -> None:
    with pytest.raises(Denied) as caught:
        check(presigned(), now=datetime.now(UTC) + timedelta(minutes=2))
    assert caught.value.reason is Reason.EXPIRED_URL


@pytest.mark.parametrize("expires", ["", "x", "-1", "9" * 400, "²"])
def test_an_expiry_that_is_no_time_is_refused(expires: str) -> None:
    claim = sigv2.ClaimV2("k", "s", None, True, expires)
    with pytest.raises(Denied) as caught:
        sigv2.verify(presigned(), claim, SECRET, datetime.now(UTC))
    assert caught.value.reason is Reason.MALFORMED_URL


def test_a_header_signature_of_an_hour_ago_is_refused() -> None:
    with pytest.raises(Denied) as caught:
        check(with_header(), now=datetime.now(UTC) + timedelta(hours=1))
    assert caught.value.reason is Reason.SKEWED


@pytest.mark.parametrize("authorization", ["AWS x", "AWS ", "Bearer abc", "Basic eDp5", ""])
def test_an_unknown_authorization_says_so(authorization: str) -> None:
    claim = sigv2.read_claim(HttpRequest("GET", "/", "", Headers([("Authorization", authorization)])))
    assert isinstance(claim, Malformed)


def test_a_url_without_a_signature_says_so() -> None:
    claim = sigv2.read_claim(HttpRequest("GET", "/", "AWSAccessKeyId=x&Expires=1", Headers()))
    assert isinstance(claim, Malformed)
    assert "signature" in claim.detail
