"""What the port answers without a signature: health, a page for browsers, and the SDKs' telemetry.

Owns: those three. Everything else goes the request's line (`gateway.application`).
"""

from __future__ import annotations

from typing import Final

import orjson

from sagewright import __version__
from sagewright.gateway.hosts import as_path_style, is_telemetry
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

HEALTH_PATH: Final = "/_sagewright/health"
_PAGE: Final = f"""\
Sagewright {__version__} is running here.

It speaks the AWS protocols of SageMaker, S3, STS and IAM. To use it from a shell:

    eval "$(sagewright env)"
    aws sagemaker list-training-jobs

`sagewright doctor` tells what works on this machine.
"""


def landing(request: HttpRequest) -> HttpResponse | None:
    """The answer; None when the request must go the signed way. Cheap: every request passes here."""
    path = request.raw_path
    if path.startswith("/_sagewright/"):
        return _health(request)
    if path == "/" and not request.raw_query and request.method in {"GET", "HEAD"}:
        if "authorization" not in request.headers and as_path_style(request) is request:
            return _text(200, _PAGE)
    elif path == "/telemetry" and is_telemetry(request.headers.get("host") or ""):
        return HttpResponse(200)
    return None


def _health(request: HttpRequest) -> HttpResponse:
    if request.raw_path != HEALTH_PATH or request.method not in {"GET", "HEAD"}:
        return _text(404, f"There is GET {HEALTH_PATH}, nothing else here.\n")
    body = orjson.dumps({"status": "ok", "version": __version__})
    return HttpResponse(200, Headers([("content-type", "application/json"), ("cache-control", "no-store")]), body)


def _text(status: int, text: str) -> HttpResponse:
    return HttpResponse(status, Headers([("content-type", "text/plain; charset=utf-8")]), text.encode())
