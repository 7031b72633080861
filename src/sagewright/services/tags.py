"""Tag rules that every tagged resource shares (50 per resource, keys of 128 and values of 256 characters)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sagewright.store.resources import Tx
from sagewright.wire.faults import validation

LIMIT = 50


def from_wire(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """`[{"Key", "Value"}]` as a mapping. Raises ValidationException for duplicates and reserved keys."""
    result: dict[str, str] = {}
    for tag in tags:
        key = tag["Key"]
        if key.lower().startswith("aws:"):
            raise validation(f"Tag key '{key}' is reserved: keys must not start with 'aws:'. Choose another key.")
        if key in result:
            raise validation(f"Duplicate tag key '{key}': give each tag key once.")
        result[key] = tag["Value"]
    return result


def to_wire(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def add(tx: Tx, arn: str, tags: Mapping[str, str]) -> None:
    """Adds or overwrites. Raises ValidationException when the resource would carry more than 50."""
    if not tags:
        return
    merged = {**tx.tags(arn), **tags}
    if len(merged) > LIMIT:
        raise validation(f"{arn} would have {len(merged)} tags; at most {LIMIT} are allowed. Remove some first.")
    tx.set_tags(arn, tags)
