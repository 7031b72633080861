"""Model artifacts: what a container definition says its model is, and whether that is in its bucket.

Owns: reading ModelDataUrl and ModelDataSource (contract B.2), the look into the bucket. Does not own: fetching and
unpacking (`staging`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sagewright.core.context import Ctx
from sagewright.services import s3_uris
from sagewright.services.sagemaker.checks import later
from sagewright.store import object_rows
from sagewright.store.kinds import endpoint as endpoints
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation


class Artifact(NamedTuple):
    """`kind` is `endpoint.TAR`, `OBJECT` or `PREFIX`. `etag` is the content the client insists on, if it does."""

    uri: str
    kind: str
    etag: str | None = None


def of_container(container: Mapping[str, Any]) -> Artifact | None:
    """None when the container has no model of its own. Raises ValidationException."""
    url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
    if url and source is not None:
        raise validation("A container has both ModelDataUrl and ModelDataSource. Give one of them.")
    if url:
        return Artifact(url, endpoints.TAR)
    if source is None:
        return None
    if not source.get("S3DataSource"):
        raise validation("ModelDataSource is empty. Give ModelDataSource.S3DataSource, or leave ModelDataSource out.")
    return _of_source(source["S3DataSource"])


def check(ctx: Ctx, tx: Tx, artifact: Artifact) -> None:
    """Raises ValidationException when there is nothing at the artifact's address (any more)."""
    uri = s3_uris.parse(artifact.uri, "modelDataUrl" if artifact.kind == endpoints.TAR else "modelDataSource.s3Uri")
    if not object_rows.bucket_exists(tx, ctx.account, uri.bucket):
        raise validation(f"Could not find model data at {artifact.uri}. There is no bucket named '{uri.bucket}' here.")
    if artifact.kind == endpoints.PREFIX:
        if not object_rows.any_object(tx, uri.bucket, uri.key):
            raise validation(f"Could not find model data at {artifact.uri}. No object's key starts with '{uri.key}'.")
        return
    _, row = object_rows.find(tx, uri.bucket, uri.key)
    if row is None:
        raise validation(
            f"Could not find model data at {artifact.uri}. The bucket '{uri.bucket}' has no object with the key "
            f"'{uri.key}'; a training job's DescribeTrainingJob shows where it wrote, as ModelArtifacts."
        )
    if artifact.etag is not None and artifact.etag.strip('"') != row.etag:
        raise validation(f"The model data at {artifact.uri} has the ETag {row.etag} now, not {artifact.etag}.")


def _of_source(source: Mapping[str, Any]) -> Artifact:
    if source.get("HubAccessConfig"):
        raise later("ModelDataSource.S3DataSource.HubAccessConfig", "Copy the model to a bucket of yours")
    if source.get("ManifestS3Uri"):
        raise later("ModelDataSource.S3DataSource.ManifestS3Uri", "Give S3DataType S3Prefix and an S3Uri ending in /")
    gzip = source["CompressionType"] == "Gzip"
    if source["S3DataType"] == "S3Object":
        return Artifact(source["S3Uri"], endpoints.TAR if gzip else endpoints.OBJECT, source.get("ETag"))
    if gzip:
        raise validation(
            "ModelDataSource with S3DataType S3Prefix must have CompressionType None. For one tar.gz archive give "
            "S3DataType S3Object."
        )
    if not source["S3Uri"].endswith("/"):
        raise validation(
            f"ModelDataSource with S3DataType S3Prefix needs an S3Uri that ends in '/': write {source['S3Uri']}/. For "
            "one object give S3DataType S3Object."
        )
    return Artifact(source["S3Uri"], endpoints.PREFIX)
