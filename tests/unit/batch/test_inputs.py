"""Which objects are read, and what each becomes: contract C.5, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sagewright.batch.inputs import items
from sagewright.core.errors import TransferError
from suites.plain_objects import PlainObjects


@pytest.fixture
def objects(tmp_path: Path) -> PlainObjects:
    made = PlainObjects(tmp_path / "objects")
    made.create_bucket("b")
    return made


def request(uri: str, output: str = "s3://o/out", kind: str = "S3Prefix") -> dict[str, Any]:
    source = {"DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}}}
    return {"TransformInput": source, "TransformOutput": {"S3OutputPath": output}}


def targets(objects: PlainObjects, *asked: str) -> dict[str, str]:
    return {item.key: item.target for item in items(request(*asked), objects)}


@pytest.mark.parametrize(
    ("uri", "key", "target"),
    [
        ("s3://b/in/", "in/dataset01/data.csv", "out/dataset01/data.csv.out"),
        ("s3://b/in", "in/dataset01/data.csv", "out/dataset01/data.csv.out"),
        ("s3://b/in/d", "in/dataset01/data.csv", "out/dataset01/data.csv.out"),
        ("s3://b/in/d", "in/data.csv", "out/data.csv.out"),
        ("s3://b/in/data.csv", "in/data.csv", "out/data.csv.out"),
        ("s3://b/deep/in/data.csv", "deep/in/data.csv", "out/data.csv.out"),
        ("s3://b/data.csv", "data.csv", "out/data.csv.out"),
        ("s3://b", "in/data.csv", "out/in/data.csv.out"),
        ("s3://b/", "in/data.csv", "out/in/data.csv.out"),
        ("s3://b/in/", "in/x.csv.gz", "out/x.csv.gz.out"),
        ("s3://b/in/", "in/with space/ä.csv", "out/with space/ä.csv.out"),
    ],
)
def test_keys_of_outputs(objects: PlainObjects, uri: str, key: str, target: str) -> None:
    objects.put("b", key, b"x")
    assert targets(objects, uri) == {key: target}


@pytest.mark.parametrize(
    ("output", "target"),
    [
        ("s3://o/out/", "out/data.csv.out"),
        ("s3://o", "data.csv.out"),
        ("s3://o/", "data.csv.out"),
        ("s3://o/deep/out", "deep/out/data.csv.out"),
    ],
)
def test_folders_of_outputs(objects: PlainObjects, output: str, target: str) -> None:
    objects.put("b", "in/data.csv", b"x")
    assert targets(objects, "s3://b/in/", output) == {"in/data.csv": target}


def test_folders_as_consoles_make_them_are_no_objects(objects: PlainObjects) -> None:
    for key, data in (("in/", b""), ("in/sub/", b""), ("in/empty", b""), ("in/odd/", b"x")):
        objects.put("b", key, data)
    assert list(targets(objects, "s3://b/in/")) == ["in/empty", "in/odd/"]


def test_a_manifest_names_the_objects(objects: PlainObjects) -> None:
    for key in ("p/a.csv", "p/sub/b.csv", "p/c.csv"):
        objects.put("b", key, b"xyz")
    objects.put("b", "manifest", b'[{"prefix": "s3://b/p/"}, "sub/b.csv", "a.csv", "a.csv"]')
    assert targets(objects, "s3://b/manifest", "s3://o/out", "ManifestFile") == {
        "p/a.csv": "out/a.csv.out",
        "p/sub/b.csv": "out/sub/b.csv.out",
    }


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"{", "is not JSON"),
        (b"[]", "does not begin with a prefix"),
        (b'[{"prefix": "p/"}, "a"]', "does not begin with a prefix"),
        (b'[{"prefix": "s3://b/p/"}, 1]', "the entry 1, which is no text"),
        (b'{"prefix": "s3://b/p/"}', "does not begin with a prefix"),
        (
            b'[{"prefix": "s3://b/p/"}, "a", "gone"]',
            "lists 1 objects that do not exist, the first of them s3://b/p/gone",
        ),
        (b'[{"prefix": "s3://nowhere/"}, "a"]', "bucket"),
        (b'[{"prefix": "s3://b/p/"}]', "lists no objects"),
    ],
)
def test_a_manifest_that_cannot_be_followed(objects: PlainObjects, manifest: bytes, why: str) -> None:
    objects.put("b", "p/a", b"x")
    objects.put("b", "manifest", manifest)
    with pytest.raises(TransferError, match=why) as caught:
        targets(objects, "s3://b/manifest", "s3://o/out", "ManifestFile")
    assert str(caught.value).startswith("ClientError: ")


def test_no_manifest(objects: PlainObjects) -> None:
    with pytest.raises(TransferError, match="does not exist"):
        targets(objects, "s3://b/manifest", "s3://o/out", "ManifestFile")


def test_nothing_there(objects: PlainObjects) -> None:
    with pytest.raises(TransferError, match="No S3 objects found under S3 URL s3://b/in"):
        targets(objects, "s3://b/in/")
