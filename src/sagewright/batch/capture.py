"""DataCaptureConfig (contract C.7): manifests of what was read and what was written, under the hour the job began.

    DEST/input/yyyy/mm/dd/hh/JOB-N.jsonl     [{"prefix": "s3://IN/"}, "a.csv", ...]
    DEST/output/yyyy/mm/dd/hh/JOB-N.jsonl    [{"prefix": "s3://OUT/"}, "a.csv.out", ...]

One pair per instance that has written something; of objects whose output was published, in the order of keys. Written
again after a crash, under the same names. Either can be the manifest of another job.
Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-batch.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import orjson

from sagewright.batch.inputs import Item, ObjectStore
from sagewright.core.s3_uris import split_uri

_SUFFIX: Final = ".out"


def write(
    objects: ObjectStore, request: Any, items: Callable[[], Iterable[Item]], began: datetime, instance: int
) -> None:
    """`items` gives those that have an output, each time it is called. Raises NotFound when the bucket has gone."""
    bucket, folder = split_uri(request["DataCaptureConfig"]["DestinationS3Uri"].rstrip("/"))
    out, out_folder = split_uri(request["TransformOutput"]["S3OutputPath"].rstrip("/"))
    out_prefix = f"s3://{out}/{out_folder}/" if out_folder else f"s3://{out}/"
    bases = {(item.bucket, _base(item, out_folder)) for item in items()}
    if not bases:
        return
    common = next(iter(bases)) if len(bases) == 1 else (next(iter(bases))[0], "")
    in_prefix = "s3://{}/{}".format(*common)
    name = f"{began:%Y/%m/%d/%H}/{request['TransformJobName']}-{instance + 1}.jsonl"
    for side, prefix, names in (
        ("input", in_prefix, (item.key.removeprefix(common[1]) for item in items())),
        ("output", out_prefix, (_relative(item, out_folder) + _SUFFIX for item in items())),
    ):
        key = "/".join(part for part in (folder, side, name) if part)
        writer = objects.put_stream(bucket, key, "application/json")
        try:
            for piece in _manifest(prefix, names):
                writer.write(piece)
            writer.commit()
        finally:
            writer.cancel()


def _manifest(prefix: str, names: Iterable[str]) -> Iterator[bytes]:
    yield b"[" + orjson.dumps({"prefix": prefix})
    for name in names:
        yield b",\n" + orjson.dumps(name)
    yield b"]\n"


def _relative(item: Item, folder: str) -> str:
    return item.target.removeprefix(f"{folder}/" if folder else "").removesuffix(_SUFFIX)


def _base(item: Item, folder: str) -> str:
    return item.key.removesuffix(_relative(item, folder))
