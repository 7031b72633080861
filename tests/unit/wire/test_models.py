"""Models come from botocore's files, and from nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sagewright.wire import models


@pytest.mark.parametrize("service", ["nonsense", "", "../../etc", "s3/2006-03-01", "S3", "."])
def test_a_service_that_is_none_is_unknown(service: str) -> None:
    with pytest.raises(models.UnknownService):
        models.codec_for(service)


def test_codecs_are_made_once_and_by_protocol() -> None:
    assert models.codec_for("sagemaker") is models.codec_for("sagemaker", "json")
    assert models.codec_for("cloudwatch", "query") is not models.codec_for("cloudwatch", "json")
    assert models.protocols("cloudwatch") == ("json", "query")


@pytest.mark.parametrize(
    ("service", "protocol"), [("s3", "json"), ("sagemaker", "query"), ("cloudwatch", "smithy-rpc-v2-cbor")]
)
def test_a_protocol_that_a_service_does_not_speak_is_unknown(service: str, protocol: str) -> None:
    with pytest.raises(models.UnknownService):
        models.codec_for(service, protocol)


def test_botocores_view_has_the_same_operations_and_no_prose() -> None:
    model = models.load_model("sagemaker")
    assert model.operation_model("CreateTrainingJob").input_shape.required_members[0] == "TrainingJobName"
    assert model.operation_names == models.model("sagemaker").operation_names
    assert model.shape_for("TrainingJob").members["TrainingJobName"].documentation == ""


def test_codecs_need_neither_botocores_model_nor_an_http_client() -> None:
    """Start-up time and memory: `botocore.model` brings urllib3 and the signers with it."""
    code = (
        "import sys; from sagewright.wire import models, validate;"
        "[models.codec_for(s) for s in ('sagemaker', 's3', 'sts', 'sagemaker-runtime')];"
        "sys.exit(any(m in sys.modules for m in ('botocore.model', 'urllib3', 'awscrt')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
