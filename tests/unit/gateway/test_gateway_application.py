"""The request's line without sockets: order, refusals, failures, threads."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from sagewright.core.credentials import Credentials
from sagewright.core.errors import BlobStoreFull, Stale, StoreUnavailable
from sagewright.gateway.bodies import ClientGone
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from support.front_bench import Bench, issue


@pytest.fixture
def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, max_body=10_000)
    yield made
    made.listener.close()
    made.gateway.close()


def request_for(
    keys: Credentials,
    *,
    service: str = "sagemaker",
    target: str | None = "SageMaker.DescribeTrainingJob",
    body: bytes = b'{"TrainingJobName": "job"}',
    url: str = "http://host/",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> HttpRequest:
    sent = dict(headers or {})
    if target:
        sent |= {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest(method, url, data=body, headers=sent)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(BotoCredentials(keys.access_key, keys.secret_key, keys.session_token), service, "eu-west-1").add_auth(
        request
    )
    parts = urlsplit(request.url)
    items = [("Host", parts.netloc), ("Content-Length", str(len(body)))]
    items += [(name, str(value)) for name, value in request.headers.items()]
    return HttpRequest(method, parts.path, parts.query, Headers(items), body)


def error_of(response: HttpResponse) -> tuple[int, str, str]:
    """Status, code and message, read the way a client of the protocol would."""
    assert isinstance(response.body, bytes)
    if response.body.startswith(b"{"):
        parsed = json.loads(response.body)
        return response.status, parsed["__type"], parsed["message"]
    root = ET.fromstring(response.body)
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}
    return response.status, found["Code"], found["Message"]


async def test_a_good_request_reaches_its_operation_with_its_context(bench: Bench) -> None:
    response = await bench.gateway.handle(request_for(bench.credentials))
    assert response.status == 200
    assert isinstance(response.body, bytes)
    assert json.loads(response.body)["TrainingJobArn"] == "arn:aws:sagemaker:eu-west-1:000000000000:training-job/job"
    assert response.headers.get("x-amzn-requestid")


async def test_reads_run_here_and_writes_in_the_one_writer_thread(bench: Bench) -> None:
    for _ in range(3):
        await bench.gateway.handle(request_for(bench.credentials))
        await bench.gateway.handle(request_for(bench.credentials, target="SageMaker.StopTrainingJob"))
    assert bench.store.reading_threads == {"MainThread"}
    assert len(bench.store.writing_threads) == 1
    assert bench.store.writing_threads != {"MainThread"}


async def test_an_unsigned_request_is_refused_in_each_protocol(bench: Bench) -> None:
    json_headers = Headers([("X-Amz-Target", "SageMaker.ListModels")])
    form = Headers([("Content-Type", "application/x-www-form-urlencoded")])
    answers = [
        await bench.gateway.handle(HttpRequest("POST", "/", "", json_headers, b"{}")),
        await bench.gateway.handle(HttpRequest("POST", "/", "", form, b"Action=GetCallerIdentity")),
        await bench.gateway.handle(HttpRequest("GET", "/bucket/key", "", Headers(), b"")),
    ]
    errors = [error_of(answer) for answer in answers]
    assert [error[:2] for error in errors] == [
        (403, "MissingAuthenticationTokenException"),
        (403, "MissingAuthenticationToken"),
        (403, "AccessDenied"),
    ]
    assert all("sagewright env" in error[2] for error in errors)


async def test_foreign_keys_are_refused_in_each_protocol(bench: Bench) -> None:
    foreign = Credentials("AKIAIOSFODNN7EXAMPLE", "secret", "", None)
    codes = []
    for service, target in (("sagemaker", "SageMaker.ListModels"), ("sts", None), ("s3", None)):
        request = request_for(replace(foreign), service=service, target=target, method="GET" if not target else "POST")
        request.headers.add("content-type", "application/x-www-form-urlencoded" if service == "sts" else "x")
        codes.append(error_of(await bench.gateway.handle(request))[:2])
    assert codes == [(403, "UnrecognizedClientException"), (403, "InvalidClientTokenId"), (403, "InvalidAccessKeyId")]


@pytest.mark.parametrize("token", ["", "other.token", "é.é", "." * 3000, "no-dot"])
async def test_a_key_of_ours_with_another_token_is_refused(bench: Bench, token: str) -> None:
    keys = replace(bench.credentials, session_token=token)
    request = request_for(keys, service="s3", target=None, method="GET", url="http://host/b/k", body=b"")
    status, code, message = error_of(await bench.gateway.handle(request))
    assert (status, code) in {(403, "InvalidAccessKeyId"), (400, "InvalidToken")}
    assert "sagewright env" in message


async def test_a_token_of_another_session_is_refused(bench: Bench) -> None:
    keys = replace(bench.credentials, session_token=issue().session_token)
    status, code, message = error_of(await bench.gateway.handle(request_for(keys)))
    assert (status, code) == (403, "UnrecognizedClientException")
    assert "belong together" in message


async def test_keys_stop_working_when_they_expire_even_while_they_are_remembered(bench: Bench) -> None:
    keys = issue(datetime.now(UTC) + timedelta(hours=1))
    assert (await bench.gateway.handle(request_for(keys))).status == 200
    bench.gateway._clock = _Later()
    request = request_for(keys, headers={})
    bench.gateway._authenticator._verifier._skew = timedelta(hours=3)
    assert error_of(await bench.gateway.handle(request))[:2] == (403, "ExpiredTokenException")


class _Later:
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=2)


async def test_a_wrong_secret_is_refused(bench: Bench) -> None:
    keys = replace(bench.credentials, secret_key="wrong")
    status, code, message = error_of(await bench.gateway.handle(request_for(keys)))
    assert (status, code) == (403, "InvalidSignatureException")
    assert message.startswith("The request signature we calculated does not match")


async def test_a_fault_of_an_operation_is_the_answer(bench: Bench) -> None:
    response = await bench.gateway.handle(request_for(bench.credentials, body=b'{"TrainingJobName": "missing"}'))
    assert error_of(response) == (400, "ValidationException", "Requested resource not found.")


async def test_input_is_validated_before_the_operation(bench: Bench) -> None:
    response = await bench.gateway.handle(request_for(bench.credentials, body=b'{"TrainingJobName": "no spaces!"}'))
    assert error_of(response)[:2] == (400, "ValidationException")


async def test_a_bug_is_logged_with_its_request_id_and_told_without_details(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    response = await bench.gateway.handle(request_for(bench.credentials, body=b'{"TrainingJobName": "bug"}'))
    status, code, message = error_of(response)
    assert (status, code) == (500, "InternalFailure")
    assert "a bug" not in message
    request_id = response.headers.get("x-amzn-requestid") or "missing"
    assert request_id in message
    assert request_id in caplog.text
    assert "KeyError: 'a bug'" in caplog.text


@pytest.mark.parametrize("failure", [StoreUnavailable("The disk is full."), BlobStoreFull("The disk is full.")])
async def test_a_full_disk_is_a_503_that_clients_repeat(bench: Bench, failure: Exception) -> None:
    bench.store.failure = failure
    response = await bench.gateway.handle(request_for(bench.credentials, target="SageMaker.StopTrainingJob"))
    status, code, message = error_of(response)
    assert (status, code) == (503, "ServiceUnavailable")
    assert message.startswith("The disk is full.")


async def test_a_lost_compare_and_set_is_tried_again_but_not_for_ever(bench: Bench) -> None:
    bench.store.failure = Stale("again")
    response = await bench.gateway.handle(request_for(bench.credentials, target="SageMaker.StopTrainingJob"))
    assert error_of(response)[:2] == (503, "ServiceUnavailable")


@pytest.mark.parametrize(
    ("service", "target", "body", "named"),
    [
        ("sagemaker", "SageMaker.ListModels", b"{}", "sagemaker:ListModels"),
        ("logs", "Logs_20140328.GetLogEvents", b'{"logStreamName": "x"}', "logs:GetLogEvents"),
        ("dynamodb", "DynamoDB_20120810.ListTables", b"{}", "dynamodb:ListTables"),
        ("sns", None, b"Action=ListTopics&Version=2010-03-31", "sns:ListTopics"),
        ("no-such-service", "Nothing.DoIt", b"{}", "no-such-service:DoIt"),
        ("nothing", None, b"Action=DoIt", "nothing:DoIt"),
        ("..", None, b"Action=DoIt", "..:DoIt"),
    ],
)
async def test_what_we_do_not_have_is_refused_by_name(
    bench: Bench, service: str, target: str | None, body: bytes, named: str
) -> None:
    headers = {} if target else {"Content-Type": "application/x-www-form-urlencoded"}
    request = request_for(bench.credentials, service=service, target=target, body=body, headers=headers)
    status, code, message = error_of(await bench.gateway.handle(request))
    assert (status, code) == (501, "NotImplemented")
    assert named in message


async def test_an_operation_that_aws_does_not_have_is_refused(bench: Bench) -> None:
    response = await bench.gateway.handle(request_for(bench.credentials, target="SageMaker.MakeCoffee"))
    assert error_of(response)[1] == "UnknownOperationException"


async def test_bodies_above_the_limit_are_refused_before_they_are_read(bench: Bench) -> None:
    request = request_for(bench.credentials, body=b"x" * 10_001)
    asked = []

    async def pieces() -> AsyncIterator[bytes]:
        asked.append(1)
        yield b"x"

    response = await bench.gateway.handle(replace(request, body=None, stream=pieces()))
    assert error_of(response)[:2] == (413, "RequestEntityTooLargeException")
    assert not asked


async def test_bodies_that_lie_about_their_length_are_cut_off(bench: Bench) -> None:
    request = request_for(bench.credentials, body=b"x" * 100)

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    response = await bench.gateway.handle(replace(request, body=None, stream=pieces()))
    assert error_of(response)[:2] == (413, "RequestEntityTooLargeException")


async def test_a_client_that_leaves_in_the_middle_changes_nothing(bench: Bench) -> None:
    request = request_for(bench.credentials, target="SageMaker.StopTrainingJob")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        raise ClientGone

    with pytest.raises(ClientGone):
        await bench.gateway.handle(replace(request, body=None, stream=pieces()))
    assert not bench.store.writing_threads


async def test_an_upload_without_any_length_is_refused(bench: Bench) -> None:
    request = request_for(bench.credentials, service="s3", target=None, method="PUT", url="http://host/b/k", body=b"")
    without = Headers([(n, v) for n, v in request.headers if n != "content-length"])
    response = await bench.gateway.handle(replace(request, headers=without))
    assert error_of(response)[:2] == (411, "MissingContentLength")


async def test_an_s3_request_must_say_what_stands_for_its_body(bench: Bench) -> None:
    request = request_for(bench.credentials, service="s3", target=None, method="GET", url="http://host/b/k", body=b"")
    without = Headers([(n, v) for n, v in request.headers if n != "x-amz-content-sha256"])
    assert error_of(await bench.gateway.handle(replace(request, headers=without)))[1] == "InvalidRequest"


async def test_virtual_host_buckets_verify_as_sent_and_decode_as_paths(bench: Bench) -> None:
    url = "http://my.bucket.s3.us-east-1.amazonaws.com/dir/key"
    body = b"bytes"
    request = request_for(bench.credentials, service="s3", target=None, method="PUT", url=url, body=body)
    assert (await bench.gateway.handle(request)).status == 200
    assert bench.objects.objects == {"my.bucket/dir/key": body}


async def test_version_2_urls_work_with_virtual_hosts(bench: Bench) -> None:
    bench.objects.objects["bucket/key"] = b"bytes"
    keys = bench.credentials
    request = AWSRequest("GET", "http://bucket.s3.amazonaws.com/key")
    request.auth_path = "/bucket/key"
    HmacV1QueryAuth(BotoCredentials(keys.access_key, keys.secret_key, keys.session_token)).add_auth(request)
    parts = urlsplit(request.url)
    arrived = HttpRequest("GET", parts.path, parts.query, Headers([("Host", parts.netloc)]), b"")
    assert (await bench.gateway.handle(arrived)).status == 200


async def test_a_body_that_is_not_what_was_signed_is_refused(bench: Bench) -> None:
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    md5 = {"Content-MD5": hashlib.md5(body).hexdigest()}
    request = request_for(
        bench.credentials, service="s3", target=None, url="http://host/b?delete", body=body, headers=md5
    )
    assert (await bench.gateway.handle(request)).status == 200
    response = await bench.gateway.handle(replace(request, body=body.replace(b"a", b"b", 1)))
    assert error_of(response)[:2] == (400, "XAmzContentSHA256Mismatch")


async def test_health_and_the_page_for_browsers_need_no_signature(bench: Bench) -> None:
    health = await bench.gateway.handle(HttpRequest("GET", "/_sagewright/health", "", Headers(), b""))
    assert isinstance(health.body, bytes)
    assert json.loads(health.body)["status"] == "ok"
    page = await bench.gateway.handle(HttpRequest("GET", "/", "", Headers([("Host", "localhost:8470")]), b""))
    assert isinstance(page.body, bytes)
    assert b"sagewright env" in page.body
    other = await bench.gateway.handle(HttpRequest("GET", "/_sagewright/secrets", "", Headers(), b""))
    assert other.status == 404


async def test_the_page_does_not_hide_a_bucket(bench: Bench) -> None:
    headers = Headers([("Host", "bucket.localhost:8470")])
    response = await bench.gateway.handle(HttpRequest("GET", "/", "", headers, b""))
    assert error_of(response)[1] == "AccessDenied"


async def test_telemetry_is_answered_at_once(bench: Bench) -> None:
    headers = Headers([("Host", "sm-pysdk-t-us-east-1.s3.us-east-1.amazonaws.com")])
    response = await bench.gateway.handle(HttpRequest("GET", "/telemetry", "x=1", headers, b""))
    assert (response.status, response.body) == (200, b"")


async def test_the_access_log_speaks_only_at_debug(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sagewright.gateway"):
        await bench.gateway.handle(request_for(bench.credentials))
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "sagewright.gateway"):
        await bench.gateway.handle(request_for(bench.credentials))
    assert "sagemaker:DescribeTrainingJob → 200" in caplog.text
