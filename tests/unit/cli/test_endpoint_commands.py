"""`invoke`, `endpoints` and `logs` against a server of canned answers: what they send, print and say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import botocore.session
import pytest
from botocore.config import Config

from sagewright.cli import endpoints as commands
from sagewright.cli import logs as log_commands
from sagewright.core.errors import SettingsError


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


class Canned(ThreadingHTTPServer):
    """Answers by path, or by operation for the JSON protocol; the last of several answers is repeated."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    def says(self, key: str, *answers: Any) -> None:
        self.answers[key] = [
            each if isinstance(each, Answer) else Answer(200, json.dumps(each).encode()) for each in answers
        ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Canned

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        key = self.headers.get("x-amz-target", self.path).rpartition(".")[2]
        self.server.seen.append((key, {name.lower(): value for name, value in self.headers.items()}, body))
        queue = self.server.answers[key]
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        self.send_response(answer.status)
        for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    made = Canned()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()

    class Api:
        def __init__(self, _folder: Any) -> None:
            self._session = botocore.session.Session()

        def client(self, service: str, *, read_timeout: float = 30, attempts: int = 3) -> Any:
            return self._session.create_client(
                service,
                region_name="us-east-1",
                endpoint_url=f"http://127.0.0.1:{made.server_port}",
                aws_access_key_id="a",
                aws_secret_access_key="b",
                config=Config(proxies={}, retries={"total_max_attempts": attempts}, read_timeout=read_timeout),
            )

    monkeypatch.setattr(commands, "Api", Api)
    monkeypatch.setattr(log_commands, "Api", Api)
    monkeypatch.setattr(log_commands, "_POLL", 0.0)
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


PATH = "/endpoints/e/invocations"
GONE = Answer(400, json.dumps({"__type": "ValidationException", "message": 'Could not find endpoint "x".'}).encode())
NO_JOB = Answer(400, json.dumps({"__type": "ValidationException", "message": "Requested resource not found."}).encode())
NO_TRANSFORM = Answer(
    400, json.dumps({"__type": "ValidationException", "message": "Could not find requested job with name: e"}).encode()
)
NO_GROUP = Answer(400, json.dumps({"__type": "ResourceNotFoundException", "message": "no group"}).encode())


def invoke(file: Path, **options: str | None) -> None:
    asked = {"content_type": None, "accept": None, "variant": None, **options}
    commands.invoke(None, "e", file, **asked)


def error(name: str, status: int, **members: Any) -> Answer:
    return Answer(status, json.dumps(members).encode(), {"x-amzn-errortype": name})


def test_the_answer_is_printed_byte_for_byte(
    server: Canned, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    body = bytes(range(256)) * 1000
    server.says(PATH, Answer(200, body, {"content-type": "application/x-npy"}))
    (tmp_path / "x.csv").write_bytes(b"1,2\r\n\xff")
    invoke(tmp_path / "x.csv", content_type="text/csv", accept="application/x-npy", variant="B")
    assert capsysbinary.readouterr().out == body
    ((_, headers, sent),) = server.seen
    assert sent == b"1,2\r\n\xff"
    assert (headers["content-type"], headers["accept"]) == ("text/csv", "application/x-npy")
    assert headers["x-amzn-sagemaker-target-variant"] == "B"


def test_what_was_not_asked_for_is_not_sent(server: Canned, tmp_path: Path) -> None:
    server.says(PATH, Answer(200, b""))
    (tmp_path / "x").write_bytes(b"")
    invoke(tmp_path / "x")
    ((_, headers, _),) = server.seen
    assert {"content-type", "accept", "x-amzn-sagemaker-target-variant"}.isdisjoint(headers)


@pytest.mark.parametrize(
    ("name", "kind"), [("x.csv", "text/csv"), ("x.json", "application/json"), ("x.png", "image/png")]
)
def test_the_name_of_the_file_tells_what_it_is(server: Canned, tmp_path: Path, name: str, kind: str) -> None:
    server.says(PATH, Answer(200, b""))
    (tmp_path / name).write_bytes(b"")
    invoke(tmp_path / name)
    invoke(tmp_path / name, content_type="text/plain")
    assert [headers["content-type"] for _, headers, _ in server.seen] == [kind, "text/plain"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            error("ModelError", 424, Message="Received", OriginalStatusCode=400, OriginalMessage="no such column\n"),
            "the model answered 400: no such column\nIts log: sagewright logs e",
        ),
        (
            error("ModelError", 424, Message="it timed out", OriginalStatusCode=0),
            "the model did not answer: it timed out",
        ),
        (error("ValidationError", 400, Message="Endpoint e of account 0 not found."), "Endpoint e of account 0"),
        (error("ServiceUnavailable", 503, Message="has no instance"), "has no instance"),
        (error("413", 413, Message="has 9 bytes; the most is 8"), "has 9 bytes; the most is 8"),
    ],
)
def test_refusals_are_plain_words_and_asked_once(server: Canned, tmp_path: Path, answer: Answer, words: str) -> None:
    server.says(PATH, answer)
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(SettingsError) as caught:
        invoke(tmp_path / "x")
    assert words in str(caught.value)
    assert len(server.seen) == 1


def test_a_file_that_cannot_be_read_is_said(server: Canned, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*: No such file"):
        invoke(tmp_path / "none")
    assert server.seen == []


def endpoint(name: str, **more: Any) -> dict[str, Any]:
    variant = {
        "VariantName": "A",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 2,
    }
    return {
        "EndpointName": name,
        "EndpointArn": "arn",
        "EndpointStatus": "InService",
        "CreationTime": 1.0,
        "LastModifiedTime": 1.0,
        "ProductionVariants": [variant],
        **more,
    }


def test_endpoints_are_listed_and_one_that_goes_meanwhile_is_left_out(
    server: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    server.says("ListEndpoints", {"Endpoints": [endpoint("gone"), endpoint("bad")]})
    server.says("DescribeEndpoint", GONE, endpoint("bad", EndpointStatus="Failed", FailureReason="no ping"))
    commands.endpoints(None, as_json=False, limit=20)
    out = capsys.readouterr().out
    assert "gone" not in out
    assert "A  weight 1  1/2 instances" in out
    assert "\nbad: no ping\n" in out


def test_what_keeps_a_deployment_back_is_told_while_it_is_under_way(
    server: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "0 of 1 instances in service (1 starting). The last GET /ping: 500"
    status = {"Status": "Creating", "StatusMessage": told}
    pending = {"EndpointConfigName": "c", "ProductionVariants": [{"VariantName": "A", "VariantStatus": [status]}]}
    server.says("ListEndpoints", {"Endpoints": [endpoint("new")]})
    server.says("DescribeEndpoint", endpoint("new", EndpointStatus="Creating", PendingDeploymentSummary=pending))
    commands.endpoints(None, as_json=False, limit=20)
    assert f"\nnew: A: {told}\nIts log: sagewright logs new\n" in capsys.readouterr().out


def test_an_endpoints_log_is_followed_until_it_is_gone(server: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    server.says("DescribeEndpoint", endpoint("e"), endpoint("e"), GONE)
    first, second = {"logStreamName": "A/1"}, {"logStreamName": "A/2"}
    server.says(
        "DescribeLogStreams",
        NO_GROUP,
        {"logStreams": [first], "nextToken": "t"},
        {"logStreams": [second]},
    )
    server.says(
        "GetLogEvents",
        {"events": [{"timestamp": 1, "message": "one"}], "nextForwardToken": "f"},
        {"events": [], "nextForwardToken": "f"},
        {"events": [{"timestamp": 1, "message": "two"}], "nextForwardToken": "f"},
        {"events": [], "nextForwardToken": "f"},
    )
    log_commands.logs(None, "e", follow=True, kind=None)
    assert capsys.readouterr().out == "A/1: one\nA/2: two\n"


def test_following_a_failed_endpoint_ends_with_the_reason(server: Canned) -> None:
    server.says("DescribeEndpoint", endpoint("e", EndpointStatus="Failed", FailureReason="no ping"))
    server.says("DescribeLogStreams", NO_GROUP)
    with pytest.raises(SettingsError, match="e failed: no ping"):
        log_commands.logs(None, "e", follow=True, kind=None)


def test_the_log_of_a_deleted_endpoint_can_be_read(server: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    server.says("DescribeEndpoint", GONE)
    server.says("DescribeTrainingJob", NO_JOB)
    server.says("DescribeTransformJob", NO_TRANSFORM)
    server.says("DescribeLogStreams", {"logStreams": [{"logStreamName": "A/1"}]})
    server.says(
        "GetLogEvents",
        {"events": [{"timestamp": 1, "message": "one"}], "nextForwardToken": "f"},
        {"events": [], "nextForwardToken": "f"},
    )
    log_commands.logs(None, "e", follow=False, kind=None)
    assert capsys.readouterr().out == "A/1: one\n"


def test_a_name_that_means_nothing_is_said(server: Canned) -> None:
    server.says("DescribeEndpoint", GONE)
    server.says("DescribeTrainingJob", NO_JOB)
    server.says("DescribeTransformJob", NO_TRANSFORM)
    server.says("DescribeLogStreams", NO_GROUP)
    with pytest.raises(SettingsError, match="no training or transform job named 'e', and no endpoint"):
        log_commands.logs(None, "e", follow=False, kind=None)
    with pytest.raises(SettingsError, match="no endpoint named 'e'"):
        log_commands.logs(None, "e", follow=False, kind="endpoint")
