"""awsJson: dispatch, bodies, faults, in the details that botocore alone does not exercise."""

from __future__ import annotations

import contextlib
import gzip
import json
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from sagewright.wire import bodies, models
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.validate import validate


def request(
    body: bytes | None, target: str | None = "SageMaker.CreateTrainingJob", *extra: tuple[str, str]
) -> HttpRequest:
    headers = [("X-Amz-Target", target), *extra] if target is not None else list(extra)
    return HttpRequest("POST", "/", "", Headers(headers), body)


def decode(value: object) -> dict[str, object]:
    return models.codec_for("sagemaker").decode(request(json.dumps(value).encode())).params


def fault_of(body: bytes | None, target: str | None = "SageMaker.CreateTrainingJob") -> ApiFault:
    with pytest.raises(ApiFault) as raised:
        models.codec_for("sagemaker").decode(request(body, target))
    return raised.value


@pytest.mark.parametrize(
    "target",
    ["SageMaker.Nonsense", "Logs_20140328.CreateTrainingJob", "CreateTrainingJob", "SageMaker.", "", "é", None],
)
def test_a_target_that_is_not_an_operation_is_refused_by_name(target: str | None) -> None:
    models.codec_for("sagemaker").decode(request(b""))  # so that CreateTrainingJob is known already
    fault = fault_of(b"{}", target)
    assert fault.code == "UnknownOperationException"
    assert (target or "") in fault.message


@pytest.mark.parametrize("body", [b"", None, b"{}", b"null", b" {} "])
def test_an_empty_body_is_an_empty_request(body: bytes | None) -> None:
    assert models.codec_for("sagemaker").decode(request(body)).params == {}


@pytest.mark.parametrize("body", [b"{", b"\xff", b"NaN", b"[]", b'"x"', b"1", b"[" * 5000, b'"\\ud800"'])
def test_a_body_that_is_not_a_json_object_is_a_serialization_exception(body: bytes) -> None:
    fault = fault_of(body)
    assert (fault.code, fault.status) == ("SerializationException", 400)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"TrainingJobName": 5}, "NUMBER_VALUE can not be converted to a String at 'trainingJobName'"),
        ({"TrainingJobName": True}, "TRUE_VALUE can not be converted to a String at 'trainingJobName'"),
        ({"TrainingJobName": 1.5}, "DECIMAL_VALUE can not be converted to a String at 'trainingJobName'"),
        ({"TrainingJobName": {}}, "Start of structure or map found where not expected at 'trainingJobName'"),
        ({"TrainingJobName": []}, "Start of list found where not expected at 'trainingJobName'"),
        (
            {"ResourceConfig": {"InstanceCount": "2"}},
            "STRING_VALUE can not be converted to an Integer at 'resourceConfig.instanceCount'",
        ),
        (
            {"InputDataConfig": [{}, {"ChannelName": False}]},
            "FALSE_VALUE can not be converted to a String at 'inputDataConfig.2.member.channelName'",
        ),
        (
            {"HyperParameters": {"epochs": 3}},
            "NUMBER_VALUE can not be converted to a String at 'hyperParameters.epochs.member'",
        ),
        ({"ResourceConfig": 1}, "NUMBER_VALUE can not be converted to a Structure at 'resourceConfig'"),
        ({"Tags": "x"}, "STRING_VALUE can not be converted to a List at 'tags'"),
        ({"HyperParameters": "x"}, "STRING_VALUE can not be converted to a Map at 'hyperParameters'"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_path(value: object, sentence: str) -> None:
    assert fault_of(json.dumps(value).encode()).message == sentence


@pytest.mark.parametrize("count", [2**31, -(2**31) - 1, 10**30])
def test_an_integer_outside_its_range_is_refused(count: int) -> None:
    assert (
        "resourceConfig.instanceCount"
        in fault_of(json.dumps({"ResourceConfig": {"InstanceCount": count}}).encode()).message
    )


def test_a_whole_number_with_a_point_is_an_integer() -> None:
    assert decode({"ResourceConfig": {"InstanceCount": 2.0}}) == {"ResourceConfig": {"InstanceCount": 2}}


def test_nulls_and_unknown_members_are_absent_but_a_null_element_stays_to_be_refused() -> None:
    assert decode({"TrainingJobName": None, "Nonsense": 1, "Tags": [None]}) == {"Tags": [None]}


@pytest.mark.parametrize("levels", [10, 100, 200, 230, 240, 250, 300, 400, 500, 1000])
def test_nesting_of_any_depth_ends_in_a_call_or_a_fault(levels: int) -> None:
    deep = b'{"SearchExpression":' + b'{"SubExpressions":[' * levels + b"]}" * levels + b"}"
    with contextlib.suppress(ApiFault):
        call = models.codec_for("sagemaker").decode(request(deep, "SageMaker.Search"))
        validate("sagemaker", "Search", call.params)


def test_a_compressed_body_is_expanded_and_a_bomb_is_not() -> None:
    codec = models.codec_for("sagemaker")
    gzipped = ("content-encoding", "gzip")
    good = gzip.compress(b'{"TrainingJobName":"a"}')
    assert codec.decode(request(good, "SageMaker.DescribeTrainingJob", gzipped)).params == {"TrainingJobName": "a"}
    bomb = gzip.compress(b" " * (bodies.MAX_EXPANDED + 1))
    for body, status in ((bomb, 413), (good[:-9], 400), (b"not gzip", 400)):
        with pytest.raises(ApiFault) as raised:
            codec.decode(request(body, "SageMaker.DescribeTrainingJob", gzipped))
        assert raised.value.status == status


def test_encode_writes_what_the_model_has_and_nothing_else() -> None:
    result = MappingProxyType(
        {
            "TrainingJobName": "a",
            "Tags": [{"Key": "not", "Value": "in Describe's output"}],
            "HyperParameters": MappingProxyType({"epochs": "3"}),
            "FailureReason": None,
            "InputDataConfig": ({"ChannelName": "train", "Nonsense": 1},),
            "CreationTime": datetime(2024, 2, 3, 4, 5, 6, 789_999, tzinfo=UTC),
            "LastModifiedTime": "2024-02-03T04:05:06.789999Z",
        }
    )
    response = models.codec_for("sagemaker").encode("DescribeTrainingJob", result, "id-1")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "TrainingJobName": "a",
        "HyperParameters": {"epochs": "3"},
        "InputDataConfig": [{"ChannelName": "train"}],
        "CreationTime": 1706933106.789,
        "LastModifiedTime": 1706933106.789,
    }
    assert response.headers.get("Content-Type") == "application/x-amz-json-1.1"
    assert response.headers.get("x-amzn-RequestId") == "id-1"


def test_an_operation_without_output_answers_with_an_empty_body() -> None:
    assert models.codec_for("sagemaker").encode("StopTrainingJob", {}, "id").body == b""


def test_a_naive_datetime_in_a_result_is_a_bug_and_says_so() -> None:
    with pytest.raises(TypeError):
        models.codec_for("sagemaker").encode("DescribeTrainingJob", {"CreationTime": datetime(2024, 1, 1)}, "id")  # noqa: DTZ001


def test_a_query_compatible_service_tells_the_old_code_in_a_header() -> None:
    response = models.codec_for("cloudwatch", "json").encode_fault(None, ApiFault("ResourceNotFound", "no", 404), "id")
    assert response.status == 404
    assert response.headers.get("x-amzn-query-error") == "ResourceNotFound;Sender"
    assert response.headers.get("content-type") == "application/x-amz-json-1.0"


def test_the_prefix_of_another_service_is_not_ours() -> None:
    assert models.codec_for("logs").decode(request(b"{}", "Logs_20140328.GetLogEvents")).operation == "GetLogEvents"
