"""`endpoints`, `invoke` and `token`."""

from __future__ import annotations

import json
import mimetypes
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from sagewright.cli import output
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.server import data_dir, option
from sagewright.core.credentials import Keyring
from sagewright.core.errors import SettingsError

_ANSWER_TIME = 600  # seconds: longer than any limit that the server may have been given


def endpoints(data: Path | None, as_json: bool, limit: int) -> None:
    with plain_errors():
        described = list(_described(Api(data_dir(data)), limit))
    if as_json:
        print(json.dumps(described, indent=2, default=str))
        return
    if not described:
        print(
            "No endpoints yet. `model.deploy(...)` of the SageMaker SDK makes one, or `aws sagemaker create-endpoint`."
        )
        return
    output.show(("ENDPOINT", "STATUS", "VARIANTS", "CREATED"), map(_row, described))
    more = option(data_dir(data))
    for endpoint in described:
        name = endpoint["EndpointName"]
        if reason := endpoint.get("FailureReason"):
            print(f"\n{name}: {reason}")
        for told in _under_way(endpoint):
            print(f"\n{name}: {told}\nIts log: sagewright logs {name}{more}")


def invoke(
    data: Path | None, name: str, file: Path, *, content_type: str | None, accept: str | None, variant: str | None
) -> None:
    """The answer's body goes to stdout as it is, byte for byte. Without a content type the file's name tells it."""
    runtime = Api(data_dir(data)).client("sagemaker-runtime", read_timeout=_ANSWER_TIME, attempts=1)
    asked = {
        "ContentType": content_type or mimetypes.guess_type(file.name)[0],
        "Accept": accept,
        "TargetVariant": variant,
    }
    try:
        with plain_errors():
            given = {member: value for member, value in asked.items() if value is not None}
            answer = runtime.invoke_endpoint(EndpointName=name, Body=_read(file), **given)
            for piece in answer["Body"].iter_chunks(64 * 1024):
                sys.stdout.buffer.write(piece)
    except SettingsError as error:
        raise SettingsError(_plain_refusal(name, error)) from error
    sys.stdout.buffer.flush()


def token(data: Path | None, name: str, days: int) -> None:
    """The token alone goes to stdout, for $(...); how to use it goes to a terminal only."""
    from sagewright.router import tokens

    folder = data_dir(data)
    api = Api(folder)
    with plain_errors():
        api.client("sagemaker").describe_endpoint(EndpointName=name)
    expires = datetime.now(UTC) + timedelta(days=days)
    print(tokens.make(Keyring.open(folder.keys), name, expires, api.settings.region))
    if sys.stdout.isatty():
        print(
            f"\nIt invokes {name}, and nothing else, until {expires:%Y-%m-%d %H:%M} UTC:\n"
            f'  curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: text/csv" --data-binary @x.csv '
            f"{api.url}/endpoints/{name}/invocations",
            file=sys.stderr,
        )


def _described(api: Api, limit: int) -> Iterator[dict[str, Any]]:
    """Newest first. One that is deleted meanwhile is left out."""
    sagemaker = api.client("sagemaker")
    for summary in sagemaker.list_endpoints(MaxResults=limit)["Endpoints"]:
        try:
            described = sagemaker.describe_endpoint(EndpointName=summary["EndpointName"])
        except ClientError as error:
            if "Could not find" not in error.response["Error"].get("Message", ""):
                raise
            continue
        described.pop("ResponseMetadata")
        yield described


def _row(endpoint: dict[str, Any]) -> tuple[output.Cell, ...]:
    return (
        endpoint["EndpointName"],
        output.status_word(endpoint["EndpointStatus"]),
        "\n".join(_variant(variant) for variant in endpoint.get("ProductionVariants", ())),
        output.ago(endpoint["CreationTime"]),
    )


def _under_way(endpoint: dict[str, Any]) -> Iterator[str]:
    """How far each variant of a deployment has come that has yet to come into service, and what keeps it back."""
    for variant in endpoint.get("PendingDeploymentSummary", {}).get("ProductionVariants", ()):
        for status in variant.get("VariantStatus", ()):
            yield f"{variant['VariantName']}: {status.get('StatusMessage') or status['Status']}"


def _variant(variant: dict[str, Any]) -> str:
    """`AllTraffic  weight 1  2/2 instances`"""
    counts = f"{variant['CurrentInstanceCount']}/{variant['DesiredInstanceCount']}"
    plural = "" if variant["DesiredInstanceCount"] == 1 else "s"
    return f"{variant['VariantName']}  weight {variant['CurrentWeight']:g}  {counts} instance{plural}"


def _read(file: Path) -> bytes:
    """`-` is stdin. Raises SettingsError."""
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error


def _plain_refusal(name: str, error: SettingsError) -> str:
    """What the server or the model said, without the console address that AWS's text carries, and where to look."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return str(error)
    answer = cause.response
    if answer["Error"].get("Code") != "ModelError":
        return str(error)
    status = answer.get("OriginalStatusCode")
    said = answer.get("OriginalMessage") or str(error)
    who = f"the model answered {status}" if status else "the model did not answer"
    return f"{who}: {said.strip()}\nIts log: sagewright logs {name}"
