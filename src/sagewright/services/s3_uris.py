"""S3 URIs as the SageMaker API takes them. Owns: splitting one and saying what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple

from sagewright.wire.faults import validation


class S3Uri(NamedTuple):
    bucket: str
    key: str


def parse(uri: str, member: str) -> S3Uri:
    """`s3://bucket/key` apart. Raises ValidationException that names `member`."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise validation(f"Value '{uri}' at '{member}' is not an S3 URI. Write it as s3://BUCKET/KEY-PREFIX.")
    return S3Uri(bucket, key)
