"""Where a training job's outputs go: artifacts, checkpoints, TensorBoard's files. Pure checks and look-ups.

Every bucket has to be there at creation: a job that cannot save what it made had better not begin.
"""

from __future__ import annotations

import posixpath
from typing import Final

from sagewright.core.context import Ctx
from sagewright.services import s3_uris
from sagewright.services.service import Request
from sagewright.store import object_rows
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation

_PUBLISHED: Final = (
    ("CheckpointConfig", "S3Uri"),
    ("TensorBoardOutputConfig", "S3OutputPath"),
    ("DebugHookConfig", "S3OutputPath"),
    ("ProfilerConfig", "S3OutputPath"),
)
_ML: Final = "/opt/ml"
_CLOSED: Final = ("/opt/ml/input", "/dev", "/proc", "/sys")  # a folder of the program's own cannot be there
_ADVICE: Final = "give a folder of its own, such as /opt/ml/checkpoints"


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    _check_bucket(ctx, tx, request["OutputDataConfig"]["S3OutputPath"], "OutputDataConfig.S3OutputPath")
    for name, member in _PUBLISHED:
        if (config := request.get(name)) and config.get(member):
            _check_bucket(ctx, tx, config[member], f"{name}.{member}")
            if "LocalPath" in config:
                _check_path(config["LocalPath"], f"{name}.LocalPath")


def _check_bucket(ctx: Ctx, tx: Tx, value: str, member: str) -> None:
    uri = s3_uris.parse(value, ".".join(f"{piece[0].lower()}{piece[1:]}" for piece in member.split(".")))
    if not object_rows.bucket_exists(tx, ctx.account, uri.bucket):
        raise validation(
            f"The bucket of {member} '{value}' does not exist. Create it first: aws s3 mb s3://{uri.bucket}"
        )


def _check_path(value: str, member: str) -> None:
    path = posixpath.normpath(value)
    if not value.startswith("/"):
        why = "is not absolute"
    elif path in {"/", "//", _ML}:
        why = "holds more than that"
    elif closed := next((each for each in _CLOSED if path == each or path.startswith(f"{each}/")), ""):
        why = f"lies in {closed}, which is not the program's own"
    else:
        return
    raise validation(f"{member} '{value}' {why}: {_ADVICE}.")
