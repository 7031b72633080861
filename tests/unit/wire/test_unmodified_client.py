"""A whole botocore client, event handlers and exception classes included, with our codecs in place of the network."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError

from sagewright.wire import models, validate
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest

Answer = Callable[[Call], Mapping[str, Any]]
MOMENT = datetime(2024, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)


class _Raw(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


@contextmanager
def client(service: str, answer: Answer, protocol: str | None = None) -> Iterator[Any]:
    codec = models.codec_for(service, protocol)

    def respond(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        url = urlsplit(request.url)
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        raw = body.encode() if isinstance(body, str) else bytes(body)
        headers = [(k, v.decode() if isinstance(v, bytes) else str(v)) for k, v in request.headers.items()]
        call = None
        try:
            call = codec.decode(HttpRequest(request.method, url.path, url.query, Headers(headers), raw))
            validate.validate(service, call.operation, call.params)
            response = codec.encode(call.operation, answer(call), "id-1")
        except ApiFault as fault:
            response = codec.encode_fault(call.operation if call else None, fault, "id-1")
        assert isinstance(response.body, bytes)
        return AWSResponse(request.url, response.status, dict(response.headers.items()), _Raw(response.body))

    made = botocore.session.Session().create_client(
        service,
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="a",
        aws_secret_access_key="s",
    )
    made.meta.events.register("before-send", respond)
    try:
        yield made
    finally:
        made.close()


def refuse(fault: ApiFault) -> Answer:
    def answer(_: Call) -> Mapping[str, Any]:
        raise fault

    return answer


def test_describe_training_job() -> None:
    def answer(call: Call) -> Mapping[str, Any]:
        return {**call.params, "TrainingJobStatus": "InProgress", "CreationTime": MOMENT}

    with client("sagemaker", answer) as sagemaker:
        described = sagemaker.describe_training_job(TrainingJobName="job")
    assert described["TrainingJobName"] == "job"
    assert described["CreationTime"] == MOMENT
    assert described["ResponseMetadata"]["RequestId"] == "id-1"


def test_faults_are_the_clients_own_exceptions() -> None:
    with client("sagemaker", refuse(ApiFault("ResourceNotFound", "Requested resource not found."))) as sagemaker:
        with pytest.raises(sagemaker.exceptions.ResourceNotFound, match=r"Requested resource not found\."):
            sagemaker.describe_training_job(TrainingJobName="job")
        with pytest.raises(
            ClientError, match="1 validation error detected: Value 'a_b' at 'trainingJobName'"
        ) as raised:
            sagemaker.describe_training_job(TrainingJobName="a_b")
    assert raised.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize("key", ["a b+c%2B/é//日本/../", "/", "<&>", "a\nb"])
def test_an_object_goes_in_and_comes_out(key: str) -> None:
    kept: dict[str, Any] = {}

    def answer(call: Call) -> Mapping[str, Any]:
        if call.operation == "PutObject":
            kept.update(call.params)
            return {"ETag": '"e"'}
        assert call.params["Key"] == kept["Key"]
        return {name: kept[name] for name in ("Body", "Metadata")} | {"ContentLength": len(kept["Body"])}

    with client("s3", answer) as s3:
        assert s3.put_object(Bucket="bucket", Key=key, Body=b"data", Metadata={"Owner": "me"})["ETag"] == '"e"'
        got = s3.get_object(Bucket="bucket", Key=key)
        assert got["Body"].read() == b"data"
    assert kept["Key"] == key
    assert got["Metadata"] == {"owner": "me"}


def test_s3s_special_cases_reach_the_caller() -> None:
    def answer(call: Call) -> Mapping[str, Any]:
        if call.operation == "GetBucketLocation":
            return {"LocationConstraint": "eu-west-1"}
        if call.operation == "HeadObject":
            raise ApiFault("NoSuchKey", "no", 404)
        if call.operation == "DeleteObjects":
            return {"Deleted": call.params["Delete"]["Objects"]}
        assert call.params["EncodingType"] == "url"
        return {"EncodingType": "url", "Contents": [{"Key": "a%20%01", "LastModified": MOMENT}], "IsTruncated": False}

    with client("s3", answer) as s3:
        assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] == "eu-west-1"
        assert s3.list_objects_v2(Bucket="bucket")["Contents"] == [{"Key": "a \x01", "LastModified": MOMENT}]
        deleted = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": " <k> "}]})
        assert deleted["Deleted"] == [{"Key": " <k> "}]
        with pytest.raises(ClientError) as raised:
            s3.head_object(Bucket="bucket", Key="k")
    assert raised.value.response["Error"] == {"Code": "404", "Message": "Not Found"}


def test_iam_and_cloudwatch() -> None:
    with client("iam", refuse(ApiFault("NoSuchEntity", "The role with name x cannot be found."))) as iam:
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            iam.get_role(RoleName="x")
        with pytest.raises(ClientError) as raised:
            iam.get_role(RoleName="x y")
        assert raised.value.response["Error"]["Code"] == "ValidationError"
    with client("cloudwatch", lambda call: {"Metrics": [{"MetricName": call.params["MetricName"]}]}) as cloudwatch:
        assert cloudwatch.list_metrics(MetricName="m")["Metrics"] == [{"MetricName": "m"}]


def test_a_large_compressed_metric_request_is_read() -> None:
    seen: list[int] = []

    def answer(call: Call) -> Mapping[str, Any]:
        seen.append(len(call.params["MetricData"]))
        return {}

    data = [{"MetricName": f"metric-{number}", "Value": 1.5, "Timestamp": MOMENT} for number in range(500)]
    with client("cloudwatch", answer) as cloudwatch:
        cloudwatch.put_metric_data(Namespace="n", MetricData=data)
    assert seen == [500]
