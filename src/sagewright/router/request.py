"""An invocation's head: which requests are ours, and what they ask. Pure.

Owns: the three paths of the runtime API, the headers of contract B.4 in both directions. Does not own: who may ask
(`router.access`), what becomes of it (`router.exchange`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple
from urllib.parse import unquote

from sagewright.router import errors
from sagewright.wire.faults import ApiFault

RawHeaders = Sequence[tuple[bytes, bytes]]

_PREFIX: Final = b"/endpoints/"
_AMZ: Final = b"x-amzn-sagemaker-"
CUSTOM_ATTRIBUTES: Final = _AMZ + b"custom-attributes"
SESSION_ID: Final = _AMZ + b"session-id"
NEW_SESSION_ID: Final = _AMZ + b"new-session-id"
CLOSED_SESSION_ID: Final = _AMZ + b"closed-session-id"
_ACCEPT: Final = _AMZ + b"accept"
_TARGET_MODEL: Final = _AMZ + b"target-model"
_TARGET_VARIANT: Final = _AMZ + b"target-variant"
_TARGET_CONTAINER: Final = _AMZ + b"target-container-hostname"
_INFERENCE_ID: Final = _AMZ + b"inference-id"
_COMPONENT: Final = _AMZ + b"inference-component"

# Header, the member that it carries, and the most characters it may have.
_LIMITS: Final = {
    b"content-type": ("contentType", 1024),
    b"accept": ("accept", 1024),
    _ACCEPT: ("accept", 1024),
    CUSTOM_ATTRIBUTES: ("customAttributes", 1024),
    _TARGET_MODEL: ("targetModel", 1024),
    _TARGET_VARIANT: ("targetVariant", 63),
    _TARGET_CONTAINER: ("targetContainerHostname", 63),
    _INFERENCE_ID: ("inferenceId", 64),
    SESSION_ID: ("sessionId", 256),
    _AMZ + b"enable-explanations": ("enableExplanations", 64),
    _AMZ + b"prefix-aware-id": ("prefixAwareId", 64),
}
# Headers of a request that asks for nothing but a prediction; `accept-encoding` and the like are never passed on.
_USUAL: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"x-amz-date",
        b"x-amz-security-token",
        b"content-length",
        b"content-type",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"amz-sdk-invocation-id",
        b"amz-sdk-request",
        b"connection",
    }
)
_FORWARDED: Final = (
    (CUSTOM_ATTRIBUTES, b"X-Amzn-SageMaker-Custom-Attributes: "),
    (_INFERENCE_ID, b"X-Amzn-SageMaker-Inference-Id: "),
    (SESSION_ID, b"X-Amzn-SageMaker-Session-Id: "),
)
_USUALLY_LIMITED: Final = (b"content-type", b"accept")
_PLAIN_NAME: Final = re.compile(rb"[A-Za-z0-9-]+\Z")
_MOST_TARGETS: Final = 4096


class Kind(Enum):
    INVOKE = auto()
    STREAM = auto()
    ASYNC = auto()


_KINDS: Final = {
    b"invocations": Kind.INVOKE,
    b"invocations-response-stream": Kind.STREAM,
    b"async-invocations": Kind.ASYNC,
}


class Target(NamedTuple):
    """What a request's target names. `is_plain`: its canonical form is itself (wire.canonical)."""

    kind: Kind
    name: str
    raw: bytes
    query: bytes
    is_plain: bool


class Request:
    """`headers` has the first value of each name; `raw` all of them as they came, None when no name came twice."""

    __slots__ = ("headers", "is_special", "kind", "name", "raw", "target")

    def __init__(self, target: Target, headers: dict[bytes, bytes], raw: RawHeaders | None = None) -> None:
        self.target = target
        self.kind = target.kind
        self.name = target.name
        self.headers = headers
        self.raw = raw
        self.is_special = not _USUAL.issuperset(headers)  # asks for more than its body's prediction

    @property
    def is_short(self) -> bool:
        """A prediction and nothing else, within all limits: what `router.swift` is for."""
        if self.is_special or self.kind is not Kind.INVOKE:
            return False
        return not any(_exceeds(self.headers.get(name), name) for name in _USUALLY_LIMITED)

    @property
    def announced(self) -> int | None:
        """Content-Length; None when it is not told."""
        sent = self.headers.get(b"content-length", b"")
        return int(sent) if sent.isdigit() else None

    @property
    def variant(self) -> str | None:
        return _text(self.headers.get(_TARGET_VARIANT))

    @property
    def container(self) -> str | None:
        return _text(self.headers.get(_TARGET_CONTAINER))

    @property
    def session(self) -> str | None:
        return _text(self.headers.get(SESSION_ID))

    @property
    def has_model(self) -> bool:
        return _TARGET_MODEL in self.headers

    @property
    def has_component(self) -> bool:
        return _COMPONENT in self.headers

    def check(self) -> None:
        """The limits of the API's model, which its clients do not look at. Raises ApiFault."""
        headers = self.headers
        for name in _LIMITS if self.is_special else _USUALLY_LIMITED:
            value = headers.get(name)
            if value is not None and _exceeds(value, name):
                raise _refusal(value, *_LIMITS[name])

    def forwarded(
        self, *, accept: bool = True, content_type: bytes | None = None, custom: bytes | None = None
    ) -> bytes:
        """The header lines that a container gets: those of the API, and no others.

        Inside a pipeline the content type (empty: none) and the custom attributes may be those of the container before.
        """
        headers = self.headers
        lines = []
        of_body = headers.get(b"content-type") if content_type is None else content_type
        if of_body:
            lines.append(b"Content-Type: " + of_body)
        wanted = headers.get(b"accept" if self.kind is Kind.INVOKE else _ACCEPT)
        if wanted and accept:
            lines.append(b"Accept: " + wanted)
        for name, start in _FORWARDED if self.is_special or custom is not None else ():
            value = custom if custom is not None and name == CUSTOM_ATTRIBUTES else headers.get(name)
            if value is not None:
                lines.append(start + value)
        return b"\r\n".join([*lines, b""]) if lines else b""


def parse_target(target: bytes) -> Target | None:
    """None: not one of the runtime API's."""
    path, _, query = target.partition(b"?")
    if not path.startswith(_PREFIX):
        return None
    name, _, last = path[len(_PREFIX) :].partition(b"/")
    kind = _KINDS.get(last)
    if kind is None or not name:
        return None
    text = name.decode("latin-1")
    is_plain = path == target and _PLAIN_NAME.match(name) is not None
    return Target(kind, unquote(text) if "%" in text else text, target, query, is_plain)


class Recogniser:
    """Remembers targets that it has parsed: they are as few as the endpoints."""

    def __init__(self) -> None:
        self._targets: dict[bytes, Target] = {}

    def recognise(self, method: bytes, target: bytes, raw: RawHeaders) -> Request | None:
        """The invocation that a head begins; None when it is something else: S3 has buckets called `endpoints`, too."""
        found = parse_target(target) if method == b"POST" else None
        if found is None:
            return None
        headers = dict(reversed(raw))
        if not _is_for_sagemaker(headers.get(b"authorization"), found.query):
            return None
        return Request(found, headers, raw if len(headers) != len(raw) else None)

    def recognise_plain(self, first: bytes, headers: dict[bytes, bytes]) -> Request | None:
        """The same for the first line and headers of a `router.heads.Message`."""
        found = self._targets.get(first) or self._learn(first)
        if found is None or not _is_for_sagemaker(headers.get(b"authorization"), found.query):
            return None
        return Request(found, headers)

    def _learn(self, first: bytes) -> Target | None:
        method, _, rest = first.partition(b" ")
        target, _, version = rest.partition(b" ")
        found = parse_target(target) if method == b"POST" and version == b"HTTP/1.1" else None
        if found is not None:
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            self._targets[first] = found
        return found


def _is_for_sagemaker(authorization: bytes | None, query: bytes) -> bool:
    """By the signature's scope; what is not signed at all can only be a client that forgot to."""
    if authorization is not None:
        return b"/sagemaker/" in authorization or authorization.startswith(b"Bearer ")
    return not query or b"%2Fsagemaker%2F" in query or b"/sagemaker/" in query


def _exceeds(value: bytes | None, name: bytes) -> bool:
    return value is not None and (len(value) > _LIMITS[name][1] or not value.isascii())


def _refusal(value: bytes, member: str, limit: int) -> ApiFault:
    return errors.too_long(member, len(value), limit) if len(value) > limit else errors.bad_characters(member)


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
