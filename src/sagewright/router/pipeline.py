"""Models of several containers: which are called, in which order, and what passes from one to the next (contract B.6).

Owns: the order, and the request that the next container gets. Does not own: calling them (`router.exchange`).

    Serial   request ─▶ c1 ─ body, Content-Type ─▶ c2 ─▶ ... ─▶ answer
    Direct   request ─▶ the one that TargetContainerHostname names ─▶ answer
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sagewright.router import errors
from sagewright.router.answer import custom_attributes
from sagewright.router.pool import Headers
from sagewright.router.request import Request
from sagewright.router.table import Route, Variant

_ALL: Final = tuple(range(15))  # a model has at most 15 containers


class Input(NamedTuple):
    """What a container is sent: header lines, each with its line end, and the body."""

    lines: bytes
    body: bytes
    custom: bytes | None = None  # attributes that an earlier container has returned


def legs(route: Route, variant: Variant, request: Request) -> tuple[int, ...]:
    """The containers to call, by their place in the model. Raises ApiFault."""
    wanted = request.container if request.is_special else None
    if not variant.direct:
        if wanted is not None:
            raise errors.container_not_allowed(route)
        return _ALL[: len(variant.containers)]
    if wanted is None or wanted not in variant.containers:
        raise errors.container_missing(route, variant.containers)
    return (variant.containers.index(wanted),)


def first(request: Request, body: bytes, *, is_last: bool) -> Input:
    """The request as the client made it. Accept is for whoever makes the answer: the last container."""
    return Input(request.forwarded(accept=is_last), body)


def following(request: Request, before: Input, headers: Headers, body: bytes, *, is_last: bool) -> Input:
    """One container's answer as the next one's request. Custom attributes pass along, changed by who returns some."""
    returned = custom_attributes(headers)
    content_type = next((value for name, value in headers if name == b"content-type"), None)
    lines = request.forwarded(accept=is_last, content_type=content_type or b"", custom=returned or before.custom)
    return Input(lines, body, returned if returned is not None else before.custom)
