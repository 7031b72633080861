"""botocore clients against a gateway on a real port: every way in which they sign, upload and download."""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from support.front_bench import Bench, running


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("front"))) as made:
        yield made


def eventually(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_json_and_a_query_service_answer(bench: Bench) -> None:
    job = bench.client("sagemaker").describe_training_job(TrainingJobName="a")
    assert job["TrainingJobArn"].endswith("training-job/a")
    assert job["ResponseMetadata"]["RequestId"]
    assert bench.client("sts").get_caller_identity()["Arn"].endswith("SageMakerRole/me")


def test_typed_errors_reach_the_client(bench: Bench) -> None:
    with pytest.raises(ClientError) as caught:
        bench.client("sagemaker").describe_training_job(TrainingJobName="missing")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError) as caught:
        bench.client("s3").get_object(Bucket="b", Key="none")
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"


def test_a_service_we_do_not_have_is_refused_by_name(bench: Bench) -> None:
    for service, call in (
        ("dynamodb", lambda client: client.list_tables()),
        ("sns", lambda client: client.list_topics()),
        ("lambda", lambda client: client.list_functions()),
        ("sagemaker-runtime", lambda client: client.invoke_endpoint(EndpointName="e", Body=b"x")),
        ("cloudwatch", lambda client: client.list_metrics()),
    ):
        with pytest.raises(ClientError) as caught:
            call(bench.client(service))
        assert caught.value.response["Error"]["Code"] == "NotImplemented", service
        assert f"{service}:" in caught.value.response["Error"]["Message"]


@pytest.mark.parametrize("size", [0, 1, 8191, 1_500_000])
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_uploads_over_http_arrive_whole(bench: Bench, size: int, checksums: str) -> None:
    body = os.urandom(size)
    config = {"proxies": {}, "request_checksum_calculation": checksums}
    bench.client("s3", config=config).put_object(Bucket="b", Key=f"http{size}", Body=body)
    assert bench.objects.objects[f"b/http{size}"] == body


def test_uploads_of_files_and_content_encodings(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    with path.open("rb") as file:
        bench.client("s3").put_object(Bucket="b", Key="file", Body=file, ContentEncoding="gzip")
    assert bench.objects.objects["b/file"] == path.read_bytes()
    assert bench.objects.encodings["b/file"] == "gzip"


@pytest.mark.parametrize(
    "key", ["a b", "ü/ß", "a//b/../c/./d", "+&=?#%", "(x)!'*~", "endpoints/e/invocations", "a" * 900]
)
@pytest.mark.parametrize("addressing", ["path", "virtual"])
def test_strange_keys_are_signed_alike_on_both_sides(bench: Bench, key: str, addressing: str) -> None:
    s3 = bench.client(
        "s3",
        endpoint_url=f"http://localhost:{bench.port}",
        config={"proxies": {}, "s3": {"addressing_style": addressing}},
    )
    resolve = _resolving_locally(bench) if addressing == "virtual" else None
    if resolve:
        s3.meta.events.register("before-send.s3", resolve)
    s3.put_object(Bucket="bucket", Key=key, Body=b"x")
    assert s3.head_object(Bucket="bucket", Key=key)["ContentLength"] == 1
    assert bench.objects.objects.pop(f"bucket/{key}") == b"x"


def _resolving_locally(bench: Bench) -> Callable[..., None]:
    """`bucket.localhost` may not resolve everywhere: connect to 127.0.0.1 with the signed Host header."""

    def rewrite(request: Any, **_: Any) -> None:
        request.headers["Host"] = f"bucket.localhost:{bench.port}"
        request.url = request.url.replace("bucket.localhost", "127.0.0.1")

    return rewrite


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls_work_in_both_signature_versions(bench: Bench, version: str) -> None:
    s3 = bench.client("s3", config={"proxies": {}, "signature_version": version, "s3": {"addressing_style": "path"}})
    put = s3.generate_presigned_url("put_object", {"Bucket": "b", "Key": "pre signed/ü", "ContentType": "text/csv"})
    get = s3.generate_presigned_url("get_object", {"Bucket": "b", "Key": "pre signed/ü", "ResponseContentType": "a/b"})
    assert ("X-Amz-Signature" in get) is (version == "s3v4")
    answer = requests.put(put, data=b"bytes", headers={"Content-Type": "text/csv"}, timeout=10)
    assert answer.status_code == 200, answer.text
    assert requests.get(get, timeout=10).content == b"bytes"
    tampered = requests.get(get.replace("pre%20signed", "pre%20signet"), timeout=10)
    assert (tampered.status_code, "SignatureDoesNotMatch" in tampered.text) == (403, True)


def test_version_2_header_signatures_work(bench: Bench) -> None:
    s3 = bench.client("s3", config={"proxies": {}, "signature_version": "s3"})
    s3.put_object(Bucket="b", Key="v2", Body=b"bytes", Metadata={"a": "1"})
    assert s3.get_object(Bucket="b", Key="v2")["Body"].read() == b"bytes"


def test_bodies_of_other_s3_operations_are_read_whole(bench: Bench) -> None:
    answer = bench.client("s3").delete_objects(Bucket="b", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    assert [item["Key"] for item in answer["Deleted"]] == ["a", "b"]


def test_a_tampered_upload_is_refused_and_never_ends_well(bench: Bench) -> None:
    s3 = bench.client("s3")

    def tamper(request: Any, **_: Any) -> None:
        request.body = b"Bytes"

    s3.meta.events.register("before-send.s3", tamper)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="b", Key="tampered", Body=b"bytes")
    assert caught.value.response["Error"]["Code"] == "XAmzContentSHA256Mismatch"
    assert "b/tampered" not in bench.objects.objects


def test_a_large_download_is_whole_and_does_not_pile_up_in_memory(bench: Bench) -> None:
    body = os.urandom(1 << 20) * 24
    bench.objects.objects["b/large"] = body
    bench.objects.download_sent = 0
    answer = bench.client("s3").get_object(Bucket="b", Key="large")
    eventually(lambda: bench.objects.download_sent > 0)
    seen = -1
    while seen != bench.objects.download_sent:  # the client reads nothing: sending must come to rest
        seen = bench.objects.download_sent
        time.sleep(0.3)
    assert seen < len(body) / 2, "the server went on although the client did not read"
    assert zlib.crc32(answer["Body"].read()) == zlib.crc32(body)


def test_a_client_that_leaves_during_a_download_ends_it(bench: Bench) -> None:
    bench.objects.objects["b/left"] = b"x" * (64 << 20)
    bench.objects.download_ended.clear()
    bench.objects.download_sent = 0
    answer = bench.client("s3").get_object(Bucket="b", Key="left")
    answer["Body"].read(1000)
    answer["Body"].close()
    assert bench.objects.download_ended.wait(10)
    assert bench.objects.download_sent < 64 << 20


def test_a_client_that_leaves_during_an_upload_commits_nothing(bench: Bench) -> None:
    """A presigned PUT announces 1000 bytes, sends ten and leaves."""
    s3 = bench.client("s3", config={"proxies": {}, "signature_version": "s3v4", "s3": {"addressing_style": "path"}})
    url = s3.generate_presigned_url("put_object", {"Bucket": "b", "Key": "half"})
    target = url.removeprefix(bench.url)
    bench.objects.upload_started.clear()
    failed = len(bench.objects.failed_uploads)
    with bench.connect() as connection:
        connection.sendall(
            f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nContent-Length: 1000\r\n\r\n".encode()
            + b"x" * 10
        )
        assert bench.objects.upload_started.wait(10)
    eventually(lambda: len(bench.objects.failed_uploads) > failed)
    assert type(bench.objects.failed_uploads[-1]).__name__ == "ClientGone"
    assert "b/half" not in bench.objects.objects


def test_100_continue_is_answered_before_the_body_and_only_to_the_accepted(bench: Bench) -> None:
    s3 = bench.client("s3", config={"proxies": {}, "signature_version": "s3v4", "s3": {"addressing_style": "path"}})
    target = s3.generate_presigned_url("put_object", {"Bucket": "b", "Key": "expect"}).removeprefix(bench.url)
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with bench.connect() as connection:
        connection.sendall(f"PUT {target} {head}".encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    with bench.connect() as connection:
        connection.sendall(f"PUT {target.replace('expect', 'other')} {head}".encode())
        answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"connection: close" in answer.lower()


def test_many_clients_at_once(bench: Bench) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            client = bench.client("sagemaker")
            for turn in range(10):
                name = f"job-{number}-{turn}"
                assert client.describe_training_job(TrainingJobName=name)["TrainingJobName"] == name
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems


def proxied(bench: Bench, service: str, **options: Any) -> Any:
    eventually(bench.authority.bundle.exists)
    options.setdefault("endpoint_url", None)
    config = {"proxies": {"https": bench.url, "http": bench.url}, **options.pop("config", {})}
    return bench.client(service, verify=str(bench.authority.bundle), config=config, **options)


def test_sts_by_its_hard_coded_host_through_the_proxy(bench: Bench) -> None:
    sts = proxied(bench, "sts", endpoint_url="https://sts.us-east-1.amazonaws.com")
    assert sts.get_caller_identity()["Account"] == "000000000000"


def test_s3_by_its_own_hosts_through_the_proxy_with_trailing_checksums(bench: Bench) -> None:
    s3 = proxied(bench, "s3", region_name="eu-west-1")
    for size in (0, 5, 2_500_000):
        body = os.urandom(size)
        s3.put_object(Bucket="my-bucket", Key=f"tls {size}", Body=body, ContentEncoding="gzip")
        assert bench.objects.objects[f"my-bucket/tls {size}"] == body
        assert bench.objects.encodings[f"my-bucket/tls {size}"] == "gzip"
        assert bench.objects.trailers == {
            "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        }
        assert s3.get_object(Bucket="my-bucket", Key=f"tls {size}")["Body"].read() == body


def test_a_large_download_through_tls_is_whole(bench: Bench) -> None:
    body = os.urandom(1 << 20) * 8
    bench.objects.objects["b/large-tls"] = body
    assert proxied(bench, "s3").get_object(Bucket="b", Key="large-tls")["Body"].read() == body


def test_plain_http_to_an_aws_host_through_the_proxy(bench: Bench) -> None:
    sts = proxied(bench, "sts", endpoint_url="http://sts.us-east-1.amazonaws.com")
    for _ in range(2):
        assert sts.get_caller_identity()["Account"] == "000000000000"


def test_our_own_address_through_ourselves_as_plain_proxy(bench: Bench) -> None:
    for _ in range(2):
        assert proxied(bench, "sts", endpoint_url=bench.url).get_caller_identity()["Account"] == "000000000000"


def test_telemetry_of_old_sdks_is_answered(bench: Bench) -> None:
    eventually(bench.authority.bundle.exists)
    url = "https://sm-pysdk-t-us-east-1.s3.us-east-1.amazonaws.com/telemetry?x-accountId=1&2"
    answer = requests.get(url, proxies={"https": bench.url}, verify=str(bench.authority.bundle), timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")


def test_real_keys_of_aws_are_told_what_to_do(bench: Bench) -> None:
    foreign = replace(bench.credentials, access_key="AKIAIOSFODNN7EXAMPLE", session_token="")
    keys = {"aws_access_key_id": foreign.access_key, "aws_secret_access_key": "x"}
    import botocore.session

    client = botocore.session.Session().create_client(
        "sts", region_name="us-east-1", endpoint_url=bench.url, config=Config(proxies={}), **keys
    )
    with pytest.raises(ClientError, match="sagewright env"):
        client.get_caller_identity()


def test_a_port_scan_of_half_connections_stalls_nobody(bench: Bench) -> None:
    idle = [bench.connect() for _ in range(50)]
    half = [bench.connect() for _ in range(50)]
    for number, connection in enumerate(half):
        connection.sendall([b"G", b"CONN", b"GET http:", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Le"][number % 4])
    assert bench.client("sts").get_caller_identity()["Account"] == "000000000000"
    for connection in idle + half:
        connection.close()


def test_the_socket_is_closed_after_use(bench: Bench) -> None:
    with socket.create_connection(("127.0.0.1", bench.port), 5) as connection:
        connection.sendall(b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := connection.recv(1000):
            received += piece
    assert received.endswith(b"}")
