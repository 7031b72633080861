"""Byte ranges of GET, HEAD and UploadPartCopy.

Source: RFC 9110 section 14; S3 serves one range per request and ignores what it cannot read as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sagewright.objects.faults import invalid_argument, invalid_range

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE | re.ASCII)
_COPY_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes from `start`, within an object of `size` bytes."""

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def whole(size: int) -> ByteRange:
    return ByteRange(0, size, size)


def requested(header: str | None, size: int) -> ByteRange | None:
    """The range that a Range header asks for; None means all of it. Raises InvalidRange."""
    match = _RANGE.fullmatch(header) if header else None
    if header is None or match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(first) > int(last):
        return None
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        raise invalid_range(header, size)
    return ByteRange(start, stop - start, size)


def copied(header: str | None, size: int) -> ByteRange:
    """The range of x-amz-copy-source-range. Unlike Range it must be exact. Raises InvalidArgument."""
    if header is None:
        return whole(size)
    match = _COPY_RANGE.fullmatch(header)
    if match is None or int(match[1]) > int(match[2]):
        message = (
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy"
        )
        raise invalid_argument(message, "x-amz-copy-source-range", header)
    first, last = int(match[1]), int(match[2])
    if last >= size:
        message = f"Range specified is not valid for source object of size: {size}"
        raise invalid_argument(message, "x-amz-copy-source-range", header)
    return ByteRange(first, last - first + 1, size)
