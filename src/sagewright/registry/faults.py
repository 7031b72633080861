"""Errors as the specification has them: {"errors": [{"code", "message", "detail"}]}.

Owns: codes and their HTTP status. Does not own: when they are raised.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from sagewright.wire.messages import Headers, HttpResponse

VERSION: Final = ("docker-distribution-api-version", "registry/2.0")
_STATUS: Final = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 400,
    "TAG_INVALID": 400,
    "UNAUTHORIZED": 401,
    "UNAVAILABLE": 503,
    "UNKNOWN": 500,
    "UNSUPPORTED": 405,
}


class RegistryFault(Exception):
    """What a client gets instead of an answer."""

    def __init__(
        self, code: str, message: str, *, detail: Any = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = _STATUS[code]
        self.detail = detail
        self.headers = headers

    def response(self) -> HttpResponse:
        body = orjson.dumps({"errors": [{"code": self.code, "message": self.message, "detail": self.detail}]})
        headers = Headers([("content-type", "application/json"), VERSION, *self.headers])
        return HttpResponse(self.status, headers, body)


def name_unknown(name: str, account: str) -> RegistryFault:
    sentence = (
        f"The repository with name '{name}' does not exist in the registry with id '{account}'. "
        f"Create it first: aws ecr create-repository --repository-name {name}"
    )
    return RegistryFault("NAME_UNKNOWN", sentence, detail={"name": name})


def blob_unknown(digest: str) -> RegistryFault:
    return RegistryFault("BLOB_UNKNOWN", f"There is no blob {digest} in this repository.", detail={"digest": digest})


def still_needed(digest: str, holder: str) -> RegistryFault:
    sentence = f"{digest} is part of the manifest {holder} of this repository. Delete that first."
    return RegistryFault("DENIED", sentence, detail={"digest": digest, "manifest": holder})


def upload_unknown(upload: str) -> RegistryFault:
    sentence = "This upload is not under way: it was completed, cancelled, or given up. Begin a new one."
    return RegistryFault("BLOB_UPLOAD_UNKNOWN", sentence, detail={"uuid": upload})


def manifest_unknown(reference: str) -> RegistryFault:
    sentence = f"There is no manifest {reference} in this repository."
    return RegistryFault("MANIFEST_UNKNOWN", sentence, detail={"reference": reference})


def digest_invalid(digest: str, actual: str | None = None) -> RegistryFault:
    if actual is None:
        sentence = f"{digest[:200]!r} is not a digest: give sha256: and 64 hex digits, or sha512: and 128."
    else:
        sentence = f"The content's digest is {actual}, not {digest}: something was lost on the way. Send it again."
    return RegistryFault("DIGEST_INVALID", sentence, detail={"digest": digest[:200]})
