"""What a bucket and a key may be called, and who owns a bucket.

Owns: bucket name rules, key rules, canonical owner ids. Does not own: whether the thing exists.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from sagewright.wire.faults import ApiFault

MAX_KEY: Final = 1024  # bytes, UTF-8

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> None:
    """Raises InvalidBucketName."""
    legal = (
        _BUCKET.fullmatch(name)
        and ".." not in name
        and not _ADDRESS.fullmatch(name)
        and not name.startswith(_PREFIXES)
        and not name.endswith(_SUFFIXES)
    )
    if not legal:
        message = (
            "The specified bucket is not valid. Use 3 to 63 lower-case letters, digits, dots and hyphens; begin and "
            "end with a letter or digit; no two dots in a row, no IP address, none of AWS's reserved affixes."
        )
        raise ApiFault("InvalidBucketName", message, 400, members={"BucketName": name})


def check_key(key: str) -> str:
    """The key itself. Raises KeyTooLongError, InvalidURI. Every character is legal; none has a meaning here."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ApiFault("InvalidURI", "Couldn't parse the specified URI: the key is not UTF-8.", 400) from None
    if size > MAX_KEY:
        members = {"Size": str(size), "MaxSizeAllowed": str(MAX_KEY)}
        raise ApiFault("KeyTooLongError", f"Your key is too long: at most {MAX_KEY} bytes.", 400, members=members)
    return key


def owner(account: str) -> Mapping[str, Any]:
    """AWS's Owner shape. The canonical id is 64 hexadecimal digits, here a hash of the account."""
    return {"ID": hashlib.sha256(f"canonical-user/{account}".encode()).hexdigest(), "DisplayName": account}


def full_control(account: str) -> Mapping[str, Any]:
    """The one ACL there is: the owner may do everything (AWS: BucketOwnerEnforced)."""
    holder = owner(account)
    return {"Owner": holder, "Grants": [{"Grantee": {"Type": "CanonicalUser", **holder}, "Permission": "FULL_CONTROL"}]}
