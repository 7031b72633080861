"""Batch transform jobs of a real server: a model, objects, a job, its output."""

from __future__ import annotations

import json
from typing import Any

from support.deployments import ROLE, archive
from support.server import Server, wait_for

BUCKET = "transforms"
ENDED = {"Completed", "Failed", "Stopped"}
GROUP = "/aws/sagemaker/TransformJobs"


class Transforms:
    """Jobs with one prefix; the names are keys' prefixes too."""

    def __init__(self, server: Server, image: str, prefix: str) -> None:
        self.server, self.image, self.prefix = server, image, prefix
        self.sagemaker, self.s3, self.logs = server.client("sagemaker"), server.client("s3"), server.client("logs")
        self.s3.create_bucket(Bucket=BUCKET)

    def model(self, *behaviours: str, name: str = "") -> str:
        """One container per behaviour."""
        name = f"{self.prefix}-{name or '-'.join(behaviours)}"
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=archive("one"))
        containers = [
            {
                "Image": self.image,
                "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz",
                "Environment": {"BEHAVIOUR": behaviour},
            }
            for behaviour in behaviours
        ]
        asked = {"PrimaryContainer": containers[0]} if len(containers) == 1 else {"Containers": containers}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, **asked)
        return name

    def put(self, name: str, objects: dict[str, bytes]) -> None:
        for key, data in objects.items():
            self.s3.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}/in/{key}", Body=data)

    def create(self, name: str, model: str, *, source: dict[str, Any] | None = None, **more: Any) -> str:
        full = f"{self.prefix}-{name}"
        output = more.pop("TransformOutput", {})
        uri = f"s3://{BUCKET}/{self.prefix}/{name}"
        where = {"S3DataType": "S3Prefix", "S3Uri": f"{uri}/in/", **(source or {}).pop("S3DataSource", {})}
        self.sagemaker.create_transform_job(
            TransformJobName=full,
            ModelName=model,
            TransformInput={
                "DataSource": {"S3DataSource": where},
                "ContentType": "text/csv",
                "SplitType": "Line",
                **(source or {}),
            },
            TransformOutput={"S3OutputPath": f"{uri}/out", **output},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": more.pop("count", 1)},
            **more,
        )
        return full

    def wait(self, full: str, seconds: float = 90) -> Any:
        def look() -> Any:
            found = self.sagemaker.describe_transform_job(TransformJobName=full)
            return found if found["TransformJobStatus"] in ENDED else None

        return wait_for(look, f"{full} has ended", seconds, 0.1)

    def outputs(self, name: str) -> dict[str, bytes]:
        prefix = f"{self.prefix}/{name}/out/"
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
        return {
            each["Key"].removeprefix(prefix): self.s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
            for each in listed
        }

    def lines(self, full: str, ending: str) -> list[str]:
        """What is in the job's streams whose names end in `ending`."""
        streams = self.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{full}/")["logStreams"]
        return [
            event["message"]
            for stream in streams
            if stream["logStreamName"].endswith(ending)
            for event in self.logs.get_log_events(
                logGroupName=GROUP, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]

    def errors(self, full: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(full, "data-log.errors.jsonl")]
