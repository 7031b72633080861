"""The only builder of blob paths, and the rule for what a blob path is.

    ROOT/
    ├── objects/3a/...3a           content of one object version or one part, by its content id
    ├── uploads/UPLOAD/PART        parts that are kept by upload
    └── .partial/...               being written (`blobs.files` alone; not a blob path)

A content id is opaque and never used twice: overwriting an object makes a new one, so a reader of the old bytes is
not disturbed. It is spread over 256 folders by its last two characters, which are random even in ids that begin with
the time. Owns: the tree, fresh ids. Does not own: which rows name which content (`objects`).
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from sagewright.blobs.base import BlobPath
from sagewright.core.errors import InvalidBlobPath

_SEGMENT: Final = r"[A-Za-z0-9_=+@:,~-][A-Za-z0-9_=+@:,~.-]{0,254}"
_PATH: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_LONGEST: Final = 1024  # characters; far below what any file system takes for a whole path


def new_content_id() -> str:
    """128 random bits, in hexadecimal."""
    return secrets.token_hex(16)


def object_content(content_id: str) -> BlobPath:
    return checked(f"objects/{content_id[-2:]}/{content_id}")


def upload(upload_id: str) -> BlobPath:
    """The folder of an upload's parts, for listing."""
    return checked(f"uploads/{upload_id}")


def upload_part(upload_id: str, part_id: str) -> BlobPath:
    return checked(f"uploads/{upload_id}/{part_id}")


def checked(path: str) -> BlobPath:
    """`path` as a BlobPath. Raises InvalidBlobPath: it could lead outside the store, or no file system takes it."""
    if len(path) > _LONGEST or _PATH.fullmatch(path) is None:
        raise InvalidBlobPath(
            f"{path[:200]!r} is not a blob path: it must be segments joined by '/', each of 1 to 255 letters, digits "
            f"or _=+@:,~.-, not beginning with a dot, {_LONGEST} characters in all"
        )
    return BlobPath(path)
