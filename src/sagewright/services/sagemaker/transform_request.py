"""What a CreateTransformJob request must satisfy beyond its shape. Changes nothing.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTransformJob.html, contract C.1 and C.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.core.json_paths import JsonPath, PathError, parse
from sagewright.services import s3_uris
from sagewright.services.service import Request
from sagewright.store import object_rows
from sagewright.store.kinds.transform_job import FAIL, ON_ERROR, SKIP
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation

_CSV: Final = "text/csv"
_JOINABLE: Final = frozenset({_CSV, "application/json", "application/jsonlines"})
_PAYLOAD: Final = 6  # MiB, when nothing is said
_PAYLOADS: Final = 100  # MiB: MaxConcurrentTransforms times MaxPayloadInMB


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    _check_limits(request)
    _check_input(ctx, tx, request["TransformInput"])
    _check_output(ctx, tx, request["TransformOutput"])
    _check_environment(request.get("Environment") or {})
    if processing := request.get("DataProcessing"):
        _check_processing(request, processing)
    if capture := request.get("DataCaptureConfig"):
        _check_capture(ctx, tx, request, capture)


def _check_limits(request: Request) -> None:
    product = request.get("MaxPayloadInMB", _PAYLOAD) * (request.get("MaxConcurrentTransforms") or 1)
    if product > _PAYLOADS:
        raise validation(
            f"MaxConcurrentTransforms times MaxPayloadInMB is {product} MB; at most {_PAYLOADS} MB are allowed. "
            "Lower one of the two."
        )
    for member in ("InstanceType", "InstanceCount"):
        if not request["TransformResources"].get(member):
            raise validation(f"Give TransformResources.{member}.")


def _check_input(ctx: Ctx, tx: Tx, source: Mapping[str, Any]) -> None:
    found = source["DataSource"].get("S3DataSource")
    if not found:
        raise validation("Give TransformInput.DataSource.S3DataSource with S3DataType and S3Uri.")
    if found["S3DataType"] not in {"S3Prefix", "ManifestFile"}:
        raise validation(f"S3DataType {found['S3DataType']} cannot be transformed. Use S3Prefix or ManifestFile.")
    uri = s3_uris.parse(found["S3Uri"], "transformInput.dataSource.s3DataSource.s3Uri")
    if not object_rows.bucket_exists(tx, ctx.account, uri.bucket):
        raise validation(f"The bucket of TransformInput '{found['S3Uri']}' does not exist. Correct the URI.")
    if not object_rows.any_object(tx, uri.bucket, uri.key):
        raise validation(
            f'No S3 objects found under S3 URL "{found["S3Uri"]}" given in input data source. Please ensure that the '
            f"bucket exists in the selected region ({ctx.region}) and that objects exist under that S3 prefix."
        )


def _check_output(ctx: Ctx, tx: Tx, output: Mapping[str, Any]) -> None:
    _check_bucket(ctx, tx, output["S3OutputPath"], "TransformOutput.S3OutputPath", "transformOutput.s3OutputPath")


def _check_bucket(ctx: Ctx, tx: Tx, text: str, member: str, path: str) -> None:
    """What is written to must exist."""
    uri = s3_uris.parse(text, path)
    if not object_rows.bucket_exists(tx, ctx.account, uri.bucket):
        raise validation(
            f"The bucket of {member} '{text}' does not exist. Create it first: aws s3 mb s3://{uri.bucket}"
        )


def _check_capture(ctx: Ctx, tx: Tx, request: Request, capture: Mapping[str, Any]) -> None:
    member = "DataCaptureConfig.DestinationS3Uri"
    _check_bucket(ctx, tx, capture["DestinationS3Uri"], member, "dataCaptureConfig.destinationS3Uri")
    if not capture.get("GenerateInferenceId"):
        return
    kind = request["TransformOutput"].get("Accept") or request["TransformInput"].get("ContentType", "")
    if _media_type(kind) not in _JOINABLE:
        raise validation(
            f"GenerateInferenceId works on output of {', '.join(sorted(_JOINABLE))}, and TransformOutput.Accept (or "
            f"else TransformInput.ContentType) is '{kind}'. Set Accept, or leave GenerateInferenceId out."
        )


def _check_environment(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if "\0" in name or "\0" in value or "=" in name or not name:
            raise validation(f"Environment has the name {name!r}, which no process can be given. Rename it.")
    if environment.get(ON_ERROR, FAIL) not in {FAIL, SKIP}:
        raise validation(f"{ON_ERROR} is '{environment[ON_ERROR]}'. Set it to {SKIP} or {FAIL}, or leave it out.")


def _check_processing(request: Request, processing: Mapping[str, Any]) -> None:
    source, output = request["TransformInput"], request["TransformOutput"]
    paths = [_path(name, processing.get(name, "$")) for name in ("InputFilter", "OutputFilter")]
    if all(path.is_all for path in paths) and processing.get("JoinSource", "None") == "None":
        return
    kind = _media_type(source.get("ContentType", ""))
    if kind not in _JOINABLE:
        raise validation(
            f"DataProcessing works on {', '.join(sorted(_JOINABLE))}, and TransformInput.ContentType is "
            f"'{source.get('ContentType', '')}'. Correct ContentType, or leave DataProcessing out."
        )
    if source.get("SplitType", "None") not in {"None", "Line"}:
        raise validation("DataProcessing needs SplitType Line or None.")
    if source.get("SplitType", "None") != output.get("AssembleWith", "None"):
        raise validation(
            f"With DataProcessing, AssembleWith must be the same as SplitType ({source.get('SplitType', 'None')})."
        )
    if output.get("Accept", source["ContentType"]) != source["ContentType"]:
        raise validation("With DataProcessing, TransformOutput.Accept must be the same as TransformInput.ContentType.")
    if kind == _CSV and not all(path.indexes_only for path in paths):
        raise validation("Columns of CSV have no names: give InputFilter and OutputFilter by index, such as $[0,2:].")


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _path(name: str, text: str) -> JsonPath:
    try:
        return parse(text)
    except PathError as error:
        raise validation(f"DataProcessing.{name}: {error}. Write it like $, $.features, $[1:] or $['a','b'].") from None
