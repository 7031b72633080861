"""What a client is told when an invocation fails (contract B.5), and how it looks on the wire.

Owns: codes, statuses and sentences of the runtime API. Does not own: denials of signatures (`wire.denials`).
Source: API Reference of sagemaker-runtime; the texts marked [OBS] in the contract.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import orjson

from sagewright.core.ids import arn
from sagewright.router.table import Route
from sagewright.wire.faults import ApiFault

LONGEST_MESSAGE: Final = 2048  # characters of OriginalMessage
_TOO_LARGE: Final = "413"  # on AWS this answer has no code, and botocore makes one of the status


def not_found(name: str, account: str) -> ApiFault:
    return _invalid(f"Endpoint {name} of account {account} not found.")


def not_in_service(route: Route) -> ApiFault:
    cures = {"Failed": "Delete it and create it again.", "Deleting": "Create it again when it is gone."}
    cure = cures.get(route.state, "Wait until DescribeEndpoint says InService.")
    return _invalid(f"Endpoint {route.name} of account {route.account} cannot be invoked: it is {route.state}. {cure}")


def unknown_variant(route: Route, wanted: str) -> ApiFault:
    names = ", ".join(variant.name for variant in route.variants)
    return _invalid(f"Variant {wanted} of endpoint {route.name} not found. TargetVariant may be: {names}.")


def no_weight(route: Route) -> ApiFault:
    return _invalid(f"Every variant of endpoint {route.name} has the weight 0: name one with TargetVariant.")


def container_missing(route: Route, names: tuple[str, ...]) -> ApiFault:
    return _invalid(
        f"Endpoint {route.name} invokes its containers directly: TargetContainerHostname must be one of "
        f"{', '.join(names)}."
    )


def container_not_allowed(route: Route) -> ApiFault:
    return _invalid(
        f"Endpoint {route.name} has no containers to choose from: leave TargetContainerHostname out. "
        "It is for models with InferenceExecutionConfig.Mode Direct."
    )


def model_not_allowed(route: Route) -> ApiFault:
    return _invalid(f"Endpoint {route.name} is not a multi-model endpoint: leave TargetModel out.")


def component_not_allowed(route: Route) -> ApiFault:
    return _invalid(f"Endpoint {route.name} has no inference components: leave InferenceComponentName out.")


def not_asynchronous(route: Route) -> ApiFault:
    return _invalid(
        f"Endpoint {route.name} of account {route.account} is not an asynchronous endpoint: call InvokeEndpoint."
    )


def too_long(member: str, length: int, limit: int) -> ApiFault:
    return _invalid(
        f"1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have length less "
        f"than or equal to {limit} (it has {length})"
    )


def bad_characters(member: str) -> ApiFault:
    return _invalid(
        f"1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have ASCII "
        "characters only"
    )


def too_large(size: int | None, limit: int) -> ApiFault:
    """`size` is None when the client did not tell and we stopped counting."""
    had = f"has {size} bytes" if size is not None else f"has more than {limit} bytes"
    return ApiFault(
        _TOO_LARGE, f"The request's body {had}; the most that an invocation may have is {limit} bytes.", 413
    )


def no_instance(route: Route, reason: str) -> ApiFault:
    return ApiFault("ServiceUnavailable", f"Endpoint {route.name} has no instance to answer now: {reason}.", 503)


def queue_full(route: Route, variant: str, working: int, waiting: int) -> ApiFault:
    return ApiFault(
        "ThrottlingException",
        f"Variant {variant} of endpoint {route.name} is overloaded: {working} requests are being answered and "
        f"{waiting} are waiting, the most that may. Send slower, or give the variant more instances.",
        429,
        headers={"retry-after": "1"},
    )


def waited(route: Route, variant: str, seconds: float) -> ApiFault:
    return ApiFault(
        "ServiceUnavailable",
        f"Variant {variant} of endpoint {route.name} is overloaded: no instance was free within {seconds:g} seconds. "
        "Send slower, or give the variant more instances.",
        503,
        headers={"retry-after": "1"},
    )


def wrong_token(name: str) -> ApiFault:
    return ApiFault(
        "AccessDeniedException",
        f"The bearer token is not valid for endpoint {name}. Make one with `sagewright token {name}`.",
        403,
    )


def expired_token(name: str) -> ApiFault:
    return ApiFault(
        "ExpiredTokenException", f"The bearer token has expired. Make a new one with `sagewright token {name}`.", 403
    )


def model_answered(route: Route, container: str, stream: str, status: int, body: bytes) -> ApiFault:
    """The container's answer was not 2xx."""
    return _model_error(route, container, stream, status, body.decode("utf-8", "replace"))


def model_silent(route: Route, container: str, stream: str) -> ApiFault:
    """The container did not answer in time."""
    said = (
        f"Your invocation timed out while waiting for a response from container {container}. Review the latency "
        "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    return _model_error(route, container, stream, 0, said)


def model_broken(route: Route, container: str, stream: str, reason: str) -> ApiFault:
    """The container took the request and gave no answer that could be understood."""
    said = f"Container {container} did not answer the invocation: {reason}. Its log may say why."
    return _model_error(route, container, stream, 0, said)


def log_stream_arn(route: Route, stream: str) -> str:
    return arn(
        "logs", route.region, route.account, f"log-group:/aws/sagemaker/Endpoints/{route.name}:log-stream:{stream}"
    )


def encode(fault: ApiFault, request_id: str) -> tuple[bytes, bytes]:
    """Status line and headers as lines, and the body."""
    body = {"message": fault.message, "Message": fault.message} | fault.members
    headers = dict(fault.headers)
    if fault.code != _TOO_LARGE:
        body["__type"] = fault.code
        headers["x-amzn-errortype"] = fault.code
    content = orjson.dumps(body)
    lines = [
        f"HTTP/1.1 {fault.status} {_phrase(fault.status)}",
        f"x-amzn-requestid: {request_id}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace"), content


def _invalid(message: str) -> ApiFault:
    return ApiFault("ValidationError", message, 400)


def _model_error(route: Route, container: str, stream: str, status: int, said: str) -> ApiFault:
    said = said[:LONGEST_MESSAGE]
    side = "client" if 400 <= status < 500 else "server"
    console = (
        f"https://{route.region}.console.aws.amazon.com/cloudwatch/home?region={route.region}"
        f"#logEventViewer:group=/aws/sagemaker/Endpoints/{route.name}"
    )
    return ApiFault(
        "ModelError",
        f'Received {side} error ({status}) from {container} with message "{said}". See {console} in account '
        f"{route.account} for more information.",
        424,
        members={
            "OriginalStatusCode": status,
            "OriginalMessage": said,
            "LogStreamArn": log_stream_arn(route, stream),
        },
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
