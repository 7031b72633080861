"""Signature Version 4 against botocore's own signers: what they sign we accept, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.wire.denials import Denied, Family, Reason, denial_fault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.sigv4 import UNSIGNED_PAYLOAD, Claim, Malformed, SigningKeys, Verifier, read_claim

SECRET = "secret/with+odd=characters0123456789abcd"
KEYS = Credentials("ASIAEXAMPLE", SECRET, "token.seal==")
HOST = "127.0.0.1:8470"


def signed(
    signer: type[SigV4Auth] = SigV4Auth,
    *,
    service: str = "sagemaker",
    method: str = "POST",
    path: str = "/",
    query: str = "",
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
    **options: object,
) -> HttpRequest:
    """A request as botocore signs it and as it would arrive."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, data=body, headers=headers or {})
    signer(KEYS, service, "us-east-1", **options).add_auth(request)
    parts = urlsplit(request.url)
    arrived = [(name, str(value)) for name, value in request.headers.items()]
    return HttpRequest(method, parts.path or "/", parts.query, Headers([("Host", HOST), *arrived]), body)


def claim_of(request: HttpRequest) -> Claim:
    claim = read_claim(request)
    assert isinstance(claim, Claim), claim
    return claim


def payload_hash(request: HttpRequest, claim: Claim) -> str:
    sent = request.headers.get("x-amz-content-sha256")
    if sent:
        return sent
    return (
        UNSIGNED_PAYLOAD
        if claim.presigned and claim.service == "s3"
        else hashlib.sha256(request.body or b"").hexdigest()
    )


def check(request: HttpRequest, secret: str = SECRET, now: datetime | None = None) -> None:
    claim = claim_of(request)
    verifier = Verifier()
    verifier.check_time(claim, now or datetime.now(UTC))
    verifier.verify(request, claim, secret, payload_hash(request, claim))


def refusal(request: HttpRequest, **options: object) -> Denied:
    with pytest.raises(Denied) as caught:
        check(request, **options)
    return caught.value


def test_a_json_request_signed_by_botocore_is_accepted() -> None:
    check(signed(headers={"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}))


@pytest.mark.parametrize(
    "path",
    ["/", "/endpoints/my-endpoint/invocations", "/a/../b//c/./d", "/FeatureGroup/a%20b", "/x%2Fy/%C3%BC", "/tail/"],
)
@pytest.mark.parametrize("query", ["", "b=2&a=1&a=0", "Record=a%20b&x=%2F", "flag&other="])
def test_paths_and_queries_of_other_services_are_normalised_like_botocore(path: str, query: str) -> None:
    check(signed(path=path, query=query, method="GET", body=b""))


@pytest.mark.parametrize("path", ["/", "/bucket/key", "/bucket/a//b/../c/./d", "/bucket/a%20b%2Bc%C3%BC", "/b/(x)!'*"])
@pytest.mark.parametrize(
    "query", ["", "uploads", "list-type=2&prefix=a%2Fb&encoding-type=url", "partNumber=1&uploadId=x"]
)
def test_s3_paths_are_taken_as_sent(path: str, query: str) -> None:
    check(signed(S3SigV4Auth, service="s3", path=path, query=query, method="PUT", body=b"bytes"))


@settings(max_examples=60, deadline=None)
@given(
    key=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=20),
    value=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
)
def test_any_key_and_query_value_that_botocore_can_sign_is_accepted(key: str, value: str) -> None:
    from botocore.utils import percent_encode

    check(
        signed(
            S3SigV4Auth,
            service="s3",
            path="/bucket/" + percent_encode(key, safe="/~"),
            query=f"prefix={percent_encode(value)}",
            method="GET",
            body=b"",
        )
    )


def test_a_path_that_was_decoded_on_the_way_still_fits() -> None:
    request = signed(S3SigV4Auth, service="s3", path="/bucket/a%28b%29%21", method="GET", body=b"")
    check(replace(request, raw_path="/bucket/a(b)!"))


def test_a_presigned_s3_url_is_accepted_until_it_expires() -> None:
    request = signed(
        S3SigV4QueryAuth, service="s3", path="/b/k%20y", query="versionId=1", method="GET", body=b"", expires=60
    )
    now = datetime.now(UTC)
    check(request, now=now)
    check(request, now=now + timedelta(seconds=58))
    denied = refusal(request, now=now + timedelta(seconds=62))
    assert denied.reason is Reason.EXPIRED_URL
    fault = denial_fault(denied, Family.S3)
    assert (fault.code, fault.status) == ("AccessDenied", 403)
    assert fault.message.startswith("Request has expired. Make a new URL")
    assert fault.members["X-Amz-Expires"] == "60"


def test_a_presigned_url_of_another_service_covers_the_body() -> None:
    check(signed(SigV4QueryAuth, service="sts", query="Action=GetCallerIdentity", method="GET", body=b"", expires=60))


@pytest.mark.parametrize("expires", [0, 604_801, "x", "1e3", "9" * 5000, "-1", "²"])
def test_a_presigned_url_with_a_senseless_life_is_refused(expires: object) -> None:
    request = signed(S3SigV4QueryAuth, service="s3", method="GET", body=b"", expires=expires)
    denied = refusal(request)
    assert denied.reason is Reason.MALFORMED_URL
    assert denial_fault(denied, Family.S3).code == "AuthorizationQueryParametersError"


@pytest.mark.parametrize("what", ["method", "raw_path", "raw_query", "host", "body", "target", "secret", "signature"])
def test_every_signed_part_counts(what: str) -> None:
    request = signed(headers={"X-Amz-Target": "SageMaker.ListModels"})
    secret = SECRET
    if what in {"method", "raw_path", "raw_query"}:
        changed = {"method": "PUT", "raw_path": "/other", "raw_query": "a=b"}[what]
        request = replace(request, **{what: changed})
    elif what == "body":
        request = replace(request, body=b"{ }")
    elif what == "secret":
        secret = "another"
    else:
        name, value = {
            "host": ("host", "evil"),
            "target": ("x-amz-target", "SageMaker.DeleteModel"),
            "signature": ("authorization", (request.headers.get("authorization") or "")[:-1] + "é"),
        }[what]
        request = replace(request, headers=Headers([(n, value if n == name else v) for n, v in request.headers]))
    denied = refusal(request, secret=secret)
    assert denied.reason is Reason.MISMATCH
    assert [denial_fault(denied, family).code for family in Family] == [
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    ]


def test_a_mismatch_shows_what_was_signed_so_that_it_can_be_compared() -> None:
    denied = refusal(signed(S3SigV4Auth, service="s3", path="/b/k", method="GET", body=b""), secret="x")
    assert denied.members["CanonicalRequest"].startswith("GET\n/b/k\n\nhost:127.0.0.1:8470\n")
    assert denied.members["StringToSign"].startswith("AWS4-HMAC-SHA256\n")


@pytest.mark.parametrize("name", ["x-amz-target", "x-amz-copy-source", "x-amz-meta-added"])
def test_an_x_amz_header_that_was_added_after_signing_is_refused(name: str) -> None:
    request = signed(S3SigV4Auth, service="s3", method="PUT", path="/b/k")
    request.headers.add(name, "x")
    denied = refusal(request)
    assert denied.reason is Reason.NOT_SIGNED
    assert denied.members == {"HeadersNotSigned": name}


def test_a_header_that_proxies_add_does_not_matter() -> None:
    request = signed()
    for name in ("User-Agent", "X-Forwarded-For", "Via", "X-Amzn-Trace-Id"):
        request.headers.add(name, "x")
    check(request)


def test_a_signature_that_leaves_the_host_out_is_refused() -> None:
    request = signed()
    authorization = (request.headers.get("authorization") or "").replace("SignedHeaders=host;", "SignedHeaders=")
    headers = Headers([(n, authorization if n == "authorization" else v) for n, v in request.headers])
    assert refusal(replace(request, headers=headers)).reason is Reason.NOT_SIGNED


def test_repeated_and_padded_headers_are_joined_as_botocore_does() -> None:
    check(signed(headers={"X-Amz-Meta-A": "  two   spaces  ", "X-Amz-Meta-B": "plain"}))


@pytest.mark.parametrize(("minutes", "accepted"), [(14, True), (-14, True), (16, False), (-16, False)])
def test_clocks_may_differ_by_fifteen_minutes(minutes: int, accepted: bool) -> None:
    request = signed()
    now = datetime.now(UTC) + timedelta(minutes=minutes)
    if accepted:
        check(request, now=now)
        return
    denied = refusal(request, now=now)
    s3, json, query = [denial_fault(denied, family) for family in Family]
    assert (s3.code, json.code, query.code) == (
        "RequestTimeTooSkewed",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    )
    assert s3.members["MaxAllowedSkewMilliseconds"] == "900000"
    words = (
        ("Signature expired: ", " is now earlier than ")
        if minutes > 0
        else ("Signature not yet current: ", " is still later than ")
    )
    assert json.message.startswith(words[0])
    assert words[1] in json.message
    assert "clock" in json.message


def test_the_date_header_may_stand_in_for_x_amz_date() -> None:
    request = signed(headers={"Date": "placeholder"})
    assert "x-amz-date" not in request.headers
    check(request)


@pytest.mark.parametrize(
    "timestamp", ["", "yesterday", "20250101T000000", "2025-13-45T00:00:00Z", "20251301T000000Z", "x" * 5000]
)
def test_a_date_that_cannot_be_read_is_refused(timestamp: str) -> None:
    request = signed()
    headers = Headers([(n, timestamp if n == "x-amz-date" else v) for n, v in request.headers])
    assert refusal(replace(request, headers=headers)).reason is Reason.MALFORMED


def test_the_scope_must_be_of_the_day_of_the_date() -> None:
    request = signed()
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    today = claim_of(request).date
    authorization = (request.headers.get("authorization") or "").replace(f"/{today}/", f"/{yesterday}/")
    headers = Headers([(n, authorization if n == "authorization" else v) for n, v in request.headers])
    denied = refusal(replace(request, headers=headers))
    assert denied.reason is Reason.MALFORMED
    assert "Date in Credential scope does not match" in denied.detail


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 garbage",
        "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKID/20250101/us-east-1/s3/aws4_request, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKID/20250101/US EAST/s3/aws4_request, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKID/20250101/us-east-1/s3/aws5, SignedHeaders=host, Signature=x",
        "AWS4-ECDSA-P256-SHA256 Credential=AKID/20250101/s3/aws4_request, SignedHeaders=host, Signature=x",
    ],
)
def test_an_authorization_header_that_cannot_be_read_says_why(authorization: str) -> None:
    claim = read_claim(HttpRequest("GET", "/", "", Headers([("Authorization", authorization)])))
    assert isinstance(claim, Malformed)
    assert claim.detail
    codes = [denial_fault(Denied(Reason.MALFORMED, claim.detail), family).code for family in Family]
    assert codes == ["AuthorizationHeaderMalformed", "IncompleteSignatureException", "IncompleteSignature"]


@pytest.mark.parametrize(
    "query", ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Credential=a", "X-Amz-Algorithm=other&X-Amz-Credential=a"]
)
def test_half_a_presigned_url_says_what_is_missing(query: str) -> None:
    claim = read_claim(HttpRequest("GET", "/", query, Headers()))
    assert isinstance(claim, Malformed)
    assert claim.presigned


def test_header_and_query_signatures_do_not_mix() -> None:
    request = signed(S3SigV4QueryAuth, service="s3", method="GET", body=b"", expires=60)
    headers = Headers([*request.headers, ("Authorization", "AWS4-HMAC-SHA256 Credential=x")])
    claim = read_claim(replace(request, headers=headers))
    assert isinstance(claim, Malformed)
    assert "Only one auth mechanism" in claim.detail


def test_every_refusal_has_words_and_advice_in_every_family() -> None:
    for family in Family:
        for reason in Reason:
            fault = denial_fault(Denied(reason, "The detail"), family)
            assert fault.code
            assert 400 <= fault.status < 500
            assert fault.message.count(". ") >= 1, fault.message


def test_signing_keys_are_kept_but_not_without_bound() -> None:
    keys = SigningKeys(limit=2)
    first = keys.key("a", "20250101", "us-east-1", "s3")
    assert keys.key("a", "20250101", "us-east-1", "s3") is first
    keys.key("b", "20250101", "us-east-1", "s3")
    keys.key("c", "20250101", "us-east-1", "s3")
    assert len(keys._kept) == 2
    assert keys.key("a", "20250101", "us-east-1", "s3") == first
