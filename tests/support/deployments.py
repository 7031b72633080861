"""Endpoints of a real server: made, waited for, invoked by several clients at once, and taken down."""

from __future__ import annotations

import io
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from support.server import Server, wait_for

ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
BUCKET = "hosting-tests"
CLIENTS = 4


def archive(text: str) -> bytes:
    """A model.tar.gz with `text` as its model.txt."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        info = tarfile.TarInfo("model.txt")
        info.size = len(text.encode())
        tar.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


class Deployments:
    """Deploys one image under names with one prefix."""

    def __init__(self, server: Server, image: str, prefix: str) -> None:
        self.server, self.image, self.prefix = server, image, prefix
        self.sagemaker, self.s3 = server.client("sagemaker"), server.client("s3")
        self.runtime = server.client("sagemaker-runtime", max_pool_connections=2 * CLIENTS)
        self.s3.create_bucket(Bucket=BUCKET)
        self._configs = 0
        self._endpoints: list[str] = []

    def model(self, text: str = "one", behaviour: str = "echo", **more: Any) -> str:
        name = f"{self.prefix}-model-{text}-{behaviour}"
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=archive(text))
        container = {
            "Image": self.image,
            "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz",
            "Environment": {"BEHAVIOUR": behaviour},
            **more,
        }
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        return name

    def config(self, model: str, count: int = 1, **more: Any) -> str:
        self._configs += 1
        name = f"{self.prefix}-config-{self._configs}"
        variant = {
            "VariantName": "v",
            "ModelName": model,
            "InitialInstanceCount": count,
            "InstanceType": "ml.t2.medium",
            **more,
        }
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        return name

    def create(self, config: str, name: str = "endpoint") -> str:
        full = f"{self.prefix}-{name}"
        self.sagemaker.create_endpoint(EndpointName=full, EndpointConfigName=config)
        self._endpoints.append(full)
        return full

    def deploy(self, text: str = "one", behaviour: str = "echo", count: int = 1) -> str:
        """An endpoint that is in service."""
        name = self.create(self.config(self.model(text, behaviour), count))
        self.in_service(name)
        return name

    def describe(self, name: str) -> Any:
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def settled(self, name: str, seconds: float = 120) -> Any:
        """Its description once nothing is being changed."""
        under_way = {"Creating", "Updating", "RollingBack", "SystemUpdating"}
        return wait_for(
            lambda: (found := self.describe(name))["EndpointStatus"] not in under_way and found, name, seconds, 0.1
        )

    def in_service(self, name: str, seconds: float = 120) -> Any:
        found = self.settled(name, seconds)
        assert found["EndpointStatus"] == "InService", found.get("FailureReason")
        return found

    def delete(self, name: str) -> None:
        self.sagemaker.delete_endpoint(EndpointName=name)
        self._endpoints.remove(name)
        wait_for(lambda: not self._exists(name), f"{name} is gone")

    def invoke(self, name: str, body: bytes = b"1,2,3", **more: Any) -> Mapping[str, Any]:
        """The answer, with its body read."""
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="text/csv", **more)
        return {**answer, "Body": answer["Body"].read()}

    def close(self) -> None:
        for name in self._endpoints[:]:
            self.delete(name)

    def _exists(self, name: str) -> bool:
        try:
            self.describe(name)
        except ClientError as error:
            if "Could not find endpoint" not in error.response["Error"]["Message"]:
                raise
            return False
        return True


class Load:
    """What clients without retries got: `models` counts answers by the model that gave them."""

    def __init__(self) -> None:
        self.good = 0
        self.failures: list[str] = []
        self.models: Counter[str] = Counter()
        self.hosts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, answer: Mapping[str, Any], body: bytes) -> None:
        host, _, model = answer["CustomAttributes"].partition(" ")
        with self._lock:
            if answer["Body"] != body:
                self.failures.append(f"{answer['Body']!r} instead of {body!r}")
            self.good += 1
            self.models[model] += 1
            self.hosts[host] += 1

    def note_failure(self, error: Exception) -> None:
        with self._lock:
            self.failures.append(str(error))

    def goes_on(self, more: int = 40) -> None:
        """Wait for `more` good answers from now on."""
        wanted = self.good + more
        wait_for(lambda: self.good >= wanted or self.failures, f"{more} more answers")


@contextmanager
def load(made: Deployments, name: str, **more: Any) -> Iterator[Load]:
    """CLIENTS threads that invoke `name` one request after the other, each with a body of its own."""
    found, stop = Load(), threading.Event()

    def run(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            body = b"%d,%d" % (number, count)
            try:
                found.note(made.invoke(name, body, **more), body)
            except (ClientError, BotoCoreError) as error:
                found.note_failure(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        found.goes_on()
        yield found
        found.goes_on()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
