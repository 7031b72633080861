"""Image manifests as their formats define them: Docker's schema 2 and OCI's, images and indexes.

Owns: reading one, its digest, what it refers to. Does not own: where it is kept, what must
exist (`store.registry_push`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
IMAGES: Final = frozenset({DOCKER_IMAGE, OCI_IMAGE})
INDEXES: Final = frozenset({DOCKER_INDEX, OCI_INDEX})

LARGEST: Final = 4 * 1024 * 1024  # bytes of a manifest, the limit that the specification names
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
SHA256: Final = "sha256"
"""The algorithm of every client's own digests; sha512 is the other that the specification registers."""


class ManifestUnreadable(Exception):
    """The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """`blobs` must be in the repository (config first), so must `manifests`; `subject` need not."""

    media_type: str
    artifact_type: str | None
    subject: str | None
    blobs: tuple[str, ...]
    manifests: tuple[str, ...]
    image_size: int  # bytes, as the manifest says
    annotations: Mapping[str, str]


def is_digest(text: str) -> bool:
    """Whether this is a digest that we can check."""
    return _DIGEST.fullmatch(text) is not None


def algorithm_of(digest: str) -> str:
    """For `hashlib.new`. The digest is one that can be checked (`is_digest`)."""
    return digest.partition(":")[0]


def digest_of(content: bytes, algorithm: str = SHA256) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def parse(content: bytes, media_type: str | None) -> ParsedManifest:
    """Raises ManifestUnreadable. `media_type` is what the client said; the content may say it, too."""
    try:
        document = orjson.loads(content)
    except ValueError:
        raise ManifestUnreadable("The manifest is not JSON.") from None
    if not isinstance(document, dict):
        raise ManifestUnreadable("The manifest is not a JSON object.")
    found = _media_type(document, (media_type or "").partition(";")[0].strip())
    if document.get("schemaVersion") != 2:
        raise ManifestUnreadable("The manifest's schemaVersion must be 2.")
    subject = document.get("subject")
    about = _descriptor(subject, "subject")[0] if subject is not None else None
    if found in INDEXES:
        listed = [_descriptor(each, "manifests") for each in _list(document, "manifests")]
        artifact = document.get("artifactType")
        return ParsedManifest(
            media_type=found,
            subject=about,
            annotations=_annotations(document),
            artifact_type=_text(artifact, "artifactType"),
            blobs=(),
            manifests=tuple(digest for digest, _ in listed),
            image_size=0,
        )
    config = document.get("config")
    if not isinstance(config, dict):
        raise ManifestUnreadable("The manifest has no config.")
    # Layers with `urls` lie elsewhere (Docker's foreign layers) and need not be pushed.
    layers = [each for each in _list(document, "layers") if not (isinstance(each, dict) and each.get("urls"))]
    parts = [_descriptor(config, "config"), *(_descriptor(each, "layers") for each in layers)]
    return ParsedManifest(
        media_type=found,
        subject=about,
        annotations=_annotations(document),
        artifact_type=_text(document.get("artifactType") or config.get("mediaType"), "artifactType"),
        blobs=tuple(digest for digest, _ in parts),
        manifests=(),
        image_size=sum(size for _, size in parts),
    )


def _media_type(document: Mapping[str, Any], said: str) -> str:
    inside = document.get("mediaType")
    if inside and said and inside != said:
        raise ManifestUnreadable(f"Content-Type says {said}, the manifest's own mediaType {inside}.")
    found = str(inside or said)
    if not found:
        found = OCI_INDEX if "manifests" in document else OCI_IMAGE
    if found not in IMAGES | INDEXES:
        raise ManifestUnreadable(
            f"The media type {found} is not supported: push a Docker schema 2 or an OCI manifest or index."
        )
    return found


def _descriptor(value: object, where: str) -> tuple[str, int]:
    """Digest and size."""
    if not isinstance(value, dict) or not is_digest(str(value.get("digest"))):
        raise ManifestUnreadable(f"A descriptor under {where} has no sha256 or sha512 digest.")
    size = value.get("size")
    if not isinstance(size, int) or size < 0:
        raise ManifestUnreadable(f"The descriptor of {value['digest']} under {where} has no size.")
    return value["digest"], size


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise ManifestUnreadable(f"The manifest has no list of {name}.")
    return value


def _text(value: object, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise ManifestUnreadable(f"The manifest's {name} must be text.")


def _annotations(document: Mapping[str, Any]) -> Mapping[str, str]:
    value = document.get("annotations") or {}
    if not isinstance(value, dict):
        raise ManifestUnreadable("The manifest's annotations must be an object.")
    return value
