"""What an object carries besides its bytes, as it is kept in a row and as it is shown.

    {"headers": {"ContentType": ..., ...}, "metadata": {...}, "tags": {...}, "storage_class": ...,
     "encryption": {...}, "checksums": {"CRC32": ...}, "checksum_type": ..., "parts": N}

Owns: this form, both directions; the rules for each member. Does not own: which operation shows what.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sagewright.core.clock import from_text, to_text
from sagewright.objects.checksums import ALGORITHMS, FULL_OBJECT
from sagewright.objects.faults import invalid_argument, invalid_request, not_supported
from sagewright.objects.tags import from_header
from sagewright.store.object_rows import ObjectRow
from sagewright.wire.faults import ApiFault

Attributes = Mapping[str, Any]

STANDARD: Final = "STANDARD"
DEFAULT_TYPE: Final = "binary/octet-stream"
MAX_METADATA: Final = 2048  # bytes of names and values together, as on AWS

_HEADERS: Final = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "WebsiteRedirectLocation",
)
_ENCRYPTION: Final = ("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled")
_STORAGE_CLASSES: Final = frozenset(
    {
        STANDARD,
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "GLACIER_IR",
    }
)
_OWNER_ONLY: Final = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})


def from_request(params: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that a PutObject, CreateMultipartUpload or CopyObject asks for. Raises ApiFault."""
    refuse_unsupported(params)
    kept: dict[str, Any] = {}
    if headers := _headers(params):
        kept["headers"] = headers
    if metadata := _metadata(params.get("Metadata") or {}):
        kept["metadata"] = metadata
    if tagging := params.get("Tagging"):
        kept["tags"] = from_header(tagging)
    return kept | placement(params)


def placement(params: Mapping[str, Any]) -> dict[str, Any]:
    """Storage class and encryption: they are the request's own even when a copy takes over the rest."""
    kept: dict[str, Any] = {}
    storage_class = params.get("StorageClass") or STANDARD
    if storage_class not in _STORAGE_CLASSES:
        raise ApiFault("InvalidStorageClass", "The storage class you specified is not valid.", 400)
    if storage_class != STANDARD:
        kept["storage_class"] = storage_class
    if encryption := {name: params[name] for name in _ENCRYPTION if params.get(name) is not None}:
        _check_encryption(encryption)
        kept["encryption"] = encryption
    return kept


def refuse_unsupported(params: Mapping[str, Any]) -> None:
    """Say so rather than store less than was asked for."""
    if any(name.startswith(("SSECustomer", "CopySourceSSECustomer")) for name in params):
        raise not_supported("encryption with keys of the customer (SSE-C)")
    if any(name.startswith("ObjectLock") for name in params):
        raise invalid_request("Bucket is missing Object Lock Configuration")
    if params.get("WriteOffsetBytes") is not None:
        raise not_supported("appending to an object (x-amz-write-offset-bytes)")
    acl = params.get("ACL")
    if any(name.startswith("Grant") for name in params) or (acl is not None and acl not in _OWNER_ONLY):
        raise ApiFault("AccessControlListNotSupported", "The bucket does not allow ACLs", 400)


def shown(row: ObjectRow, *, checksums: bool) -> dict[str, Any]:
    """The members of GetObject and HeadObject that describe the object."""
    kept = row.attributes
    result: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "LastModified": row.modified_at.replace(microsecond=0),
        "ETag": quoted(row.etag),
        "ContentType": DEFAULT_TYPE,
        "Metadata": kept.get("metadata", {}),
        **kept.get("headers", {}),
        **encryption_of(kept),
    }
    if expires := result.get("Expires"):
        result["Expires"] = _moment(expires)
    if storage_class := kept.get("storage_class"):
        result["StorageClass"] = storage_class
    if tags := kept.get("tags"):
        result["TagCount"] = len(tags)
    return result | (checksums_of(kept) if checksums else {})


def encryption_of(kept: Attributes) -> dict[str, Any]:
    """The members that say how the object is encrypted at rest: as they were sent. SSEKMSEncryptionContext stays."""
    found: Mapping[str, Any] = kept.get("encryption", {})
    return {name: value for name, value in found.items() if name != "SSEKMSEncryptionContext"}


def checksums_of(kept: Attributes) -> dict[str, Any]:
    """`ChecksumCRC32` ... and ChecksumType; nothing when none is kept."""
    found: Mapping[str, str] = kept.get("checksums", {})
    if not found:
        return {}
    return members(found) | {"ChecksumType": kept.get("checksum_type", FULL_OBJECT)}


def members(checksums: Mapping[str, str]) -> dict[str, Any]:
    return {ALGORITHMS[name].member: value for name, value in checksums.items()}


def quoted(etag: str) -> str:
    return f'"{etag}"'


def _headers(params: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name in _HEADERS:
        value = params.get(name)
        if isinstance(value, datetime):
            value = to_text(value)
        if name == "ContentEncoding" and value:
            value = _without_framing(value)
        if value:
            headers[name] = value
    return headers


def _without_framing(encoding: str) -> str:
    """`aws-chunked` says how the request was framed; the object knows nothing of it."""
    kept = [part.strip() for part in encoding.split(",") if part.strip().lower() not in ("aws-chunked", "")]
    return ", ".join(kept)


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Names are lower case, as on AWS."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > MAX_METADATA:
        members = {"Size": str(size), "MaxSizeAllowed": str(MAX_METADATA)}
        message = "Your metadata headers exceed the maximum allowed metadata size"
        raise ApiFault("MetadataTooLarge", message, 400, members=members)
    return {name.lower(): value for name, value in metadata.items()}


def _check_encryption(encryption: Mapping[str, Any]) -> None:
    method = encryption.get("ServerSideEncryption")
    if method is not None and method not in ("AES256", "aws:kms", "aws:kms:dsse"):
        message = "The encryption method specified is not supported. Use AES256, aws:kms or aws:kms:dsse."
        raise invalid_argument(message, "x-amz-server-side-encryption", method)
    if "SSEKMSKeyId" in encryption and method not in ("aws:kms", "aws:kms:dsse"):
        message = "Server Side Encryption with AWS KMS managed key requires x-amz-server-side-encryption : aws:kms"
        raise invalid_argument(message, "x-amz-server-side-encryption", method)


def _moment(text: str) -> datetime | str:
    """Expires as a moment; a text that is none goes back as it came."""
    try:
        return from_text(text)
    except ValueError:
        return text
