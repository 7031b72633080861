"""Who may invoke: signatures on the short way and the long one, bearer tokens, and the front's ways in."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagewright.router import tokens
from support.router_bench import Bench, Model, one, running

LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("router"), max_payload=LIMIT)) as made:
        yield made


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def test_signatures_are_checked_on_every_request(bench: Bench, model: Model) -> None:
    bench.put("signed", one(model))
    good = bench.client()
    for _ in range(3):
        good.invoke_endpoint(EndpointName="signed", Body=b"x")
    wrong = bench.client(credentials=replace(bench.credentials, secret_key="not the secret"))
    with pytest.raises(ClientError) as caught:
        wrong.invoke_endpoint(EndpointName="signed", Body=b"x")
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    expired = bench.client(credentials=bench.issue(datetime.now(UTC) - timedelta(seconds=5)))
    with pytest.raises(ClientError) as caught:
        expired.invoke_endpoint(EndpointName="signed", Body=b"x")
    assert caught.value.response["Error"]["Code"] == "ExpiredTokenException"
    assert len(model.requests) == 3


@pytest.mark.parametrize("spoil", ["body", "header", "signature", "date", "extra"])
def test_a_request_that_was_changed_on_the_way_is_refused(bench: Bench, model: Model, spoil: str) -> None:
    """On a connection whose earlier requests were good, where the short way is taken."""
    bench.put("spoilt", one(model))
    client = bench.client()
    kept: list[Any] = []
    client.meta.events.register(
        "before-send.sagemaker-runtime.InvokeEndpoint", lambda request, **_: kept.append(request)
    )
    client.invoke_endpoint(EndpointName="spoilt", Body=b"12345", ContentType="text/csv")
    headers = {name: _text(value) for name, value in kept[0].headers.items()}
    path = "/endpoints/spoilt/invocations"
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=10)
    for _ in range(3):
        connection.request("POST", path, b"12345", headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"12345")
    seen = len(model.requests)
    changed, body = dict(headers), b"12345"
    if spoil == "body":
        body = b"12346"
    elif spoil == "header":
        changed["Content-Type"] = "text/csw"
    elif spoil == "signature":
        last = changed["Authorization"][-1]
        changed["Authorization"] = changed["Authorization"][:-1] + ("0" if last != "0" else "1")
    elif spoil == "date":
        changed["X-Amz-Date"] = changed["X-Amz-Date"][:-2] + ("0Z" if changed["X-Amz-Date"][-2] != "0" else "1Z")
    else:
        changed["X-Amz-Extra"] = "1"
    connection.request("POST", path, body, changed)
    answer = connection.getresponse()
    assert answer.status == 403
    assert b"ignature" in answer.read() or spoil == "extra"
    assert len(model.requests) == seen
    connection.request("POST", path, b"12345", headers)
    assert connection.getresponse().status == 200
    connection.close()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_without_a_signature_nothing_is_told(bench: Bench, model: Model) -> None:
    bench.put("closed", one(model))
    status, _, body = post(bench, "closed", b"x")
    assert status == 403
    assert b"Missing Authentication Token" in body
    status, _, body = post(bench, "no-such-endpoint", b"x")
    assert (status, b"not found" in body) == (403, False)


def post(bench: Bench, name: str, body: bytes, token: str | None = None, **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=10)
    given = {"Content-Type": "text/csv"} | headers
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    connection.request("POST", f"/endpoints/{name}/invocations", body, given)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_a_bearer_token_opens_its_endpoint_and_no_other(bench: Bench, model: Model) -> None:
    bench.put("front-door", one(model))
    bench.put("other", one(model))
    token = tokens.make(bench.keyring, "front-door", datetime.now(UTC) + timedelta(days=1))
    status, headers, body = post(bench, "front-door", b"1,2", token)
    assert (status, body, headers["Content-Type"]) == (200, b"1,2", "text/csv")
    assert headers["x-Amzn-Invoked-Production-Variant"] == "AllTraffic"
    assert post(bench, "other", b"1,2", token)[0] == 403
    assert post(bench, "front-door", b"1,2", token[:-1] + ("A" if token[-1] != "A" else "B"))[0] == 403
    assert post(bench, "front-door", b"1,2", "garbage")[0] == 403
    old = tokens.make(bench.keyring, "front-door", datetime.now(UTC) - timedelta(seconds=1))
    assert b"expired" in post(bench, "front-door", b"1,2", old)[2]
    forever = tokens.make(bench.keyring, "front-door", None)
    assert post(bench, "front-door", b"1,2", forever)[0] == 200


def test_a_bucket_that_is_called_endpoints_is_still_s3(bench: Bench) -> None:
    s3 = bench.client("s3", config={"s3": {"addressing_style": "path"}})
    with pytest.raises(ClientError) as caught:
        s3.create_multipart_upload(Bucket="endpoints", Key="x/invocations")
    assert caught.value.response["Error"]["Code"] == "NotImplemented"  # the bench's little S3 has heard of it


def test_through_the_proxy_over_tls_and_plain(bench: Bench, model: Model) -> None:
    """As clients that ignore AWS_ENDPOINT_URL come."""
    bench.put("proxied", one(model))
    proxies = {"http": bench.url, "https": bench.url}
    bench.authority.prepare()
    for scheme in ("https", "http"):
        client = bench.client(
            endpoint_url=f"{scheme}://runtime.sagemaker.us-east-1.amazonaws.com",
            config={"proxies": proxies},
            verify=str(bench.authority.bundle),
        )
        for _ in range(3):
            assert client.invoke_endpoint(EndpointName="proxied", Body=b"hi")["Body"].read() == b"hi"
    assert len(model.requests) == 6
