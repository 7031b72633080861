"""Tags of objects and buckets: the header form, the XML form, the rules.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from sagewright.objects.faults import invalid_argument
from sagewright.wire.faults import ApiFault

MAX_OBJECT_TAGS: Final = 10
MAX_BUCKET_TAGS: Final = 50


def from_header(header: str) -> dict[str, str]:
    """x-amz-tagging: `key=value&key2=value2`, URL-encoded. Raises InvalidArgument, InvalidTag, BadRequest."""
    try:
        pairs = parse_qsl(header, keep_blank_values=True, strict_parsing=True, errors="strict")
    except (ValueError, UnicodeDecodeError):
        message = (
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded "
            "URL query parameters without tag name duplicates."
        )
        raise invalid_argument(message, "x-amz-tagging", header) from None
    return _checked(pairs, MAX_OBJECT_TAGS, "Object")


def from_object(tagging: Mapping[str, Any]) -> dict[str, str]:
    return _checked(_pairs(tagging.get("TagSet") or ()), MAX_OBJECT_TAGS, "Object")


def from_bucket(tag_set: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return _checked(_pairs(tag_set), MAX_BUCKET_TAGS, "Bucket")


def tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _pairs(tag_set: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(tag.get("Key", ""), tag.get("Value", "")) for tag in tag_set]


def _checked(pairs: Sequence[tuple[str, str]], most: int, what: str) -> dict[str, str]:
    if len(pairs) > most:
        raise ApiFault("BadRequest", f"{what} tags cannot be greater than {most}", 400)
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 1 <= len(key) <= 128 or key.lower().startswith("aws:"):
            raise _invalid(f"The TagKey you have provided is invalid: '{key}'", key)
        if len(value) > 256:
            raise _invalid(f"The TagValue you have provided is invalid: at most 256 characters, for '{key}'", key)
        if key in tags:
            raise _invalid("Cannot provide multiple Tags with the same key", key)
        tags[key] = value
    return tags


def _invalid(message: str, key: str) -> ApiFault:
    return ApiFault("InvalidTag", message, 400, members={"TagKey": key})
