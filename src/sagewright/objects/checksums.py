"""Checksums of content: computing, claiming, combining.

Owns: the algorithms, what a client claims (header or trailer), composite and full-object values of uploads in parts.
Does not own: where values are kept (`objects.attributes`), when they are shown (`objects.reading`).

    COMPOSITE     H(part checksum ‖ part checksum ‖ ...) "-" N      any algorithm but CRC64NVME
    FULL_OBJECT   the checksum of all bytes, combined from parts     the CRCs only

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, Protocol

from sagewright.objects.faults import bad_digest, invalid_request
from sagewright.wire.faults import ApiFault

COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"


class Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A running CRC as a Hasher; `step` takes bytes and the value so far."""

    __slots__ = ("_size", "_step", "_value")

    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step, self._size, self._value = step, size, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _crc32c() -> Hasher:
    from awscrt.checksums import crc32c  # 20 ms to import, and rarely wanted

    return _Crc(crc32c, 4)


def _crc64nvme() -> Hasher:
    from awscrt.checksums import crc64nvme

    return _Crc(crc64nvme, 8)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """`polynomial` (reflected) of a CRC, which can be combined from parts; 0 for the others. `size` in bytes."""

    name: str
    size: int
    make: Callable[[], Hasher]
    polynomial: int = 0

    @property
    def member(self) -> str:
        return f"Checksum{self.name}"

    @property
    def header(self) -> str:
        return f"x-amz-checksum-{self.name.lower()}"


ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("CRC32", 4, lambda: _Crc(zlib.crc32, 4), 0xEDB88320),
        Algorithm("CRC32C", 4, _crc32c, 0x82F63B78),
        Algorithm("CRC64NVME", 8, _crc64nvme, 0x9A6C9329AC4BC9B5),
        Algorithm("SHA1", 20, partial(hashlib.sha1, usedforsecurity=False)),
        Algorithm("SHA256", 32, hashlib.sha256),
        Algorithm("SHA512", 64, hashlib.sha512),
        Algorithm("MD5", 16, partial(hashlib.md5, usedforsecurity=False)),
    )
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What the client says the content's checksum is."""

    algorithm: Algorithm
    value: str  # base64


def algorithm_named(name: str) -> Algorithm:
    """Raises InvalidRequest."""
    if found := ALGORITHMS.get(name.upper()):
        return found
    raise invalid_request(f"Checksum algorithm '{name}' is not supported. Use one of {', '.join(ALGORITHMS)}.")


def claimed(params: Mapping[str, Any], trailers: Mapping[str, str]) -> Claim | None:
    """The one checksum given in the request's headers or, after the body, in its trailer. Raises InvalidRequest."""
    given = {name.removeprefix("Checksum"): params[name] for name in params if _is_value_member(name)}
    prefix = "x-amz-checksum-"
    given |= {
        name.lower().removeprefix(prefix).upper(): value
        for name, value in trailers.items()
        if name.lower().startswith(prefix)
    }
    if not given:
        return None
    if len(given) > 1:
        raise invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    [(name, value)] = given.items()
    algorithm = algorithm_named(name)
    if len(_decoded(value)) != algorithm.size:
        raise invalid_request(f"Value for {algorithm.header} header is invalid.")
    return Claim(algorithm, value)


def verify(claim: Claim, actual: str) -> None:
    """Raises BadDigest."""
    if claim.value != actual:
        raise bad_digest(f"The {claim.algorithm.name} you specified did not match the calculated checksum.")


def decode_md5(header: str | None) -> bytes | None:
    """The value of Content-MD5. Raises InvalidDigest."""
    if header is None:
        return None
    value = _decoded(header.strip())
    if len(value) != 16:
        raise ApiFault("InvalidDigest", "The Content-MD5 you specified is not valid: not base64 of 16 bytes.", 400)
    return value


def encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def default_type(algorithm: Algorithm) -> str:
    return FULL_OBJECT if algorithm.name == "CRC64NVME" else COMPOSITE


def check_type(algorithm: Algorithm, wanted: str) -> str:
    """The checksum type itself. Raises InvalidRequest for a pair that cannot be."""
    possible = (FULL_OBJECT,) if algorithm.name == "CRC64NVME" else (COMPOSITE, FULL_OBJECT)
    if wanted not in (possible if algorithm.polynomial else (COMPOSITE,)):
        raise invalid_request(
            f"The {wanted} checksum type cannot be used with the {algorithm.name} checksum algorithm."
        )
    return wanted


def composite(algorithm: Algorithm, parts: Sequence[str]) -> str:
    """The checksum of checksums, with the number of parts."""
    hasher = algorithm.make()
    hasher.update(b"".join(base64.b64decode(part) for part in parts))
    return f"{encode(hasher.digest())}-{len(parts)}"


def combined(algorithm: Algorithm, parts: Sequence[tuple[str, int]]) -> str:
    """The checksum of the whole, from (checksum, size in bytes) of its parts, without reading a byte."""
    value, bits = 0, algorithm.size * 8
    for text, size in parts:
        part = int.from_bytes(base64.b64decode(text), "big")
        value = _multiply(_shift(size, algorithm.polynomial, bits), value, algorithm.polynomial, bits) ^ part
    return encode(value.to_bytes(algorithm.size, "big"))


def _multiply(left: int, right: int, polynomial: int, bits: int) -> int:
    """Product of two reflected polynomials over GF(2), modulo `polynomial`. The top bit is x⁰."""
    product, mask = 0, 1 << (bits - 1)
    while left:
        if left & mask:
            product ^= right
            left ^= mask
        mask >>= 1
        right = (right >> 1) ^ polynomial if right & 1 else right >> 1
    return product


@lru_cache(maxsize=256)
def _shift(size: int, polynomial: int, bits: int) -> int:
    """x to the power of 8 * `size`: what appending `size` bytes does to a CRC."""
    result, square, exponent = 1 << (bits - 1), 1 << (bits - 2), 8 * size
    while exponent:
        if exponent & 1:
            result = _multiply(square, result, polynomial, bits)
        square = _multiply(square, square, polynomial, bits)
        exponent >>= 1
    return result


def _is_value_member(name: str) -> bool:
    return name.startswith("Checksum") and name not in ("ChecksumAlgorithm", "ChecksumMode", "ChecksumType")


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
