"""`s3://BUCKET/KEY`, once the API has checked its form (`services.s3_uris`)."""

from __future__ import annotations


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` → (bucket, key); the key may be empty."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
