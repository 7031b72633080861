"""Which of the specification's end points a path names.

Owns: paths, names, query parameters. Does not own: what is done there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

from sagewright.core.image_manifests import is_digest
from sagewright.registry.faults import RegistryFault, digest_invalid
from sagewright.wire.messages import HttpRequest

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_PLACES: Final = (
    ("upload", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<reference>[^/]+)")),
    ("uploads", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?(?P<reference>)")),
    ("blob", re.compile(r"/v2/(?P<name>.+)/blobs/(?P<reference>[^/]+)")),
    ("manifest", re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")),
    ("tags", re.compile(r"/v2/(?P<name>.+)/tags/list(?P<reference>)")),
    ("referrers", re.compile(r"/v2/(?P<name>.+)/referrers/(?P<reference>[^/]+)")),
    ("catalog", re.compile(r"/v2(?P<name>)/_catalog(?P<reference>)")),
    ("root", re.compile(r"/v2(?P<name>)/?(?P<reference>)")),
)


@dataclass(frozen=True, slots=True)
class Place:
    """`reference` is a tag, a digest or an upload's id, whichever the place has."""

    kind: str
    name: str
    reference: str


def place(request: HttpRequest) -> Place:
    """Raises RegistryFault: NAME_INVALID, DIGEST_INVALID, TAG_INVALID, UNSUPPORTED."""
    path = unquote(request.raw_path)
    for kind, pattern in _PLACES:
        if (found := pattern.fullmatch(path)) is not None:
            name, reference = found["name"], found["reference"]
            if name and (len(name) > 256 or not _NAME.fullmatch(name)):
                raise RegistryFault("NAME_INVALID", _NAME_RULE, detail={"name": name[:300]})
            _check_reference(kind, reference)
            return Place(kind, name, reference)
    raise RegistryFault("UNSUPPORTED", f"There is nothing at {path[:300]} in a registry.")


def query(request: HttpRequest) -> dict[str, str]:
    return dict(parse_qsl(request.raw_query, keep_blank_values=True))


_NAME_RULE: Final = (
    "A repository's name has at most 256 characters: lower case letters and digits, "
    "with single '.', '_', '/' or dashes between them."
)


def _check_reference(kind: str, reference: str) -> None:
    if kind in {"blob", "referrers"} or (kind == "manifest" and ":" in reference):
        if not is_digest(reference):
            raise digest_invalid(reference)
    elif kind == "manifest" and not _TAG.fullmatch(reference):
        rule = "A tag has at most 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'."
        raise RegistryFault("TAG_INVALID", rule, detail={"tag": reference[:200]})
