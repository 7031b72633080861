"""The one error that an operation raises towards a client, and its constructors.

Owns: AWS error codes with their HTTP status, as one table per family.
Does not own: how a fault looks on the wire (each codec's `encode_fault`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiFault(Exception):
    """An error a client sees: AWS's code, a sentence that says what to change, and the HTTP status.

    `members` are further modelled members of the error shape (S3's BucketName, ModelError's
    OriginalStatusCode ...). `headers` go out with the response (S3's 416 Content-Range and the like).
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 400,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    @property
    def is_server_fault(self) -> bool:
        return self.status >= 500


def validation(message: str) -> ApiFault:
    """ValidationException: the request can never succeed as it is."""
    return ApiFault("ValidationException", message, 400)


def resource_not_found(message: str = "Requested resource not found.") -> ApiFault:
    return ApiFault("ResourceNotFound", message, 400)


def resource_in_use(message: str) -> ApiFault:
    return ApiFault("ResourceInUse", message, 400)


def internal_failure(request_id: str) -> ApiFault:
    return ApiFault(
        "InternalFailure",
        f"Sagewright met an internal error (request {request_id}). The server log has the traceback.",
        500,
    )


def not_implemented(service: str, operation: str) -> ApiFault:
    """An operation that AWS has and Sagewright does not: says so, by name."""
    return ApiFault(
        "NotImplemented",
        f"Sagewright does not implement {service}:{operation}. `sagewright doctor` lists the operations that it has.",
        501,
    )
