"""The last part of `demo`: the trained model run over objects in a bucket, as a batch transform job.

Owns: the calls of the job and what is shown meanwhile. Does not own: the training and the server (`cli.demo`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from sagewright.cli import transforms
from sagewright.cli.client import Api
from sagewright.core.errors import SettingsError
from sagewright.store.kinds.transform_job import TERMINAL

_OBJECTS: Final = 4
_ROWS: Final = 2000  # in each object
_LOOK: Final = 0.1  # seconds between looks at the job


def batch_predict(console: Console, api: Api, *, image: str, artifact: str, role: str, sample: Path) -> None:
    """Raises SettingsError with the job's FailureReason. Leaves the job and its output, not the model."""
    sagemaker, s3 = api.client("sagemaker"), api.client("s3")
    name = artifact.split("/")[-3]  # s3://BUCKET/demo/JOB/output/model.tar.gz
    bucket = artifact.split("/")[2]
    rows = sample.read_text().split()
    many = "".join(f"{rows[number % len(rows)]}\n" for number in range(_ROWS)).encode()
    for number in range(_OBJECTS):
        s3.put_object(Bucket=bucket, Key=f"demo/{name}/batch/in/{number}.csv", Body=many)
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=role, PrimaryContainer={"Image": image, "ModelDataUrl": artifact}
    )
    try:
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/demo/{name}/batch/in/"}}
        out = f"s3://{bucket}/demo/{name}/batch/out"
        sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=name,
            BatchStrategy="MultiRecord",
            TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},
            TransformOutput={"S3OutputPath": out, "AssembleWith": "Line", "Accept": "text/csv"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )
        console.print(
            f"[bold]8.[/] CreateTransformJob [cyan]{name}[/]: {_OBJECTS * _ROWS:,} rows in {_OBJECTS} objects"
        )
        _wait(console, api, sagemaker, name)
    finally:
        sagemaker.delete_model(ModelName=name)
    body = s3.get_object(Bucket=bucket, Key=f"demo/{name}/batch/out/0.csv.out")["Body"].read()
    console.print(f"     {out}/0.csv.out holds {len(body.split()):,} digits, one for each row", soft_wrap=True)


def _wait(console: Console, api: Api, sagemaker: Any, name: str) -> None:
    begun = time.monotonic()
    with console.status("starting the model's container") as status:
        while (job := sagemaker.describe_transform_job(TransformJobName=name))["TransformJobStatus"] not in TERMINAL:
            status.update(transforms.steps(api, [job])[name] or "starting the model's container")
            time.sleep(_LOOK)
    if job["TransformJobStatus"] != "Completed":
        raise SettingsError(f"the job is {job['TransformJobStatus']}: {job.get('FailureReason', '')}")
    console.print(f"     [green]Completed[/] in {time.monotonic() - begun:.1f} s, its container is gone")
