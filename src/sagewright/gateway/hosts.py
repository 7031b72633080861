"""Host names on the front: which are ours to answer, and how request targets name hosts.

Owns: the suffixes of AWS's API hosts, S3's host names, parsing `host:port` and absolute-form targets.
Does not own: the rewriting itself (`wire.rest_xml.path_style`).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from sagewright.wire.messages import HttpRequest
from sagewright.wire.rest_xml import path_style

_SUFFIXES: Final = (".amazonaws.com", ".amazonaws.com.cn")
_TELEMETRY: Final = ("sm-pysdk-t-", "dev-exp-t-")
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@\[\]]+))(?::([0-9]{1,5}))?\Z")
# The longest prefix is the bucket, so that buckets may have dots and be called like hosts.
_S3_HOST: Final = re.compile(
    r"(?:.+\.)?(s3(?:-[a-z0-9-]+)?(?:\.[a-z0-9-]+){0,2}\.amazonaws\.com(?:\.cn)?)(?::[0-9]+)?\Z"
)
_LOCAL_NAMES: Final = ("localhost", "host.docker.internal", "host.containers.internal")


def is_aws(host: str) -> bool:
    """Whether a host name is one of AWS's API hosts, for which we answer."""
    return host.endswith(_SUFFIXES)


def is_telemetry(host: str) -> bool:
    """Buckets to which the SageMaker SDKs report their use; old ones wait for an answer without any limit."""
    return host.startswith(_TELEMETRY) and ".s3." in host


def parse_authority(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port` with the host in lower case, brackets removed. Raises ValueError."""
    found = _AUTHORITY.match(text)
    port = int(found[3]) if found and found[3] else default_port
    if found is None or port is None or not 0 < port < 65536:
        raise ValueError(f"{text[:256]!r} is not HOST:PORT")
    return (found[1] or found[2]).lower().rstrip("."), port


def parse_absolute(target: str) -> tuple[str, int, str]:
    """Host, port and origin-form of an `http://…` target. Raises ValueError."""
    parts = urlsplit(target)
    host, port = parse_authority(parts.netloc.rpartition("@")[2], 80)
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def as_path_style(request: HttpRequest) -> HttpRequest:
    """An S3 request to `BUCKET.s3.REGION.amazonaws.com` or `BUCKET.localhost` as one to `/BUCKET`."""
    host = (request.headers.get("host") or "").lower()[:320]  # a name has 253 characters at most
    found = _S3_HOST.match(host)
    return path_style(request, (found[1],) if found else _LOCAL_NAMES)
