"""`demo`: the whole flow on this machine, now: trains the example in `examples/digits` through the public API,
deploys it, asks it, and takes it down (`cli.demo_endpoint`), and runs it over a bucket (`cli.demo_batch`).

Uses a server that already runs on the data directory, or starts one and stops it again.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import sagewright
from sagewright.app import state
from sagewright.cli import output, server
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.demo_batch import batch_predict
from sagewright.cli.demo_endpoint import deploy_and_predict
from sagewright.cli.images import register
from sagewright.cli.logs import follow_log
from sagewright.core.errors import SettingsError
from sagewright.core.s3_uris import split_uri
from sagewright.settings import DataDir
from sagewright.store.kinds import role as roles

_IMAGE = "sagewright-demo-digits"
_EPOCHS = 10
_SAID = 6  # last lines of a failed `docker build`: what comes before is its steps
_METRICS = (
    {"Name": "train:loss", "Regex": r"train_loss=([0-9.]+)"},
    {"Name": "validation:accuracy", "Regex": r"validation_accuracy=([0-9.]+)"},
)


def demo(data: Path | None, docker: bool, base_image: str) -> None:
    console = output.console()
    folder = server.data_dir(data)
    with _running(folder, data) as ours:
        image = _docker_image(console, base_image) if docker else _folder_image(console, folder)
        with plain_errors():
            api = Api(folder)
            artifact = _train(console, api, image, _come_back(folder, ours))
            role = roles.role_arn(api.settings.account, "/", roles.DEFAULT_ROLE)
            sample = example_folder() / "sample.csv"
            deploy_and_predict(console, api, image=image, artifact=artifact, role=role, sample=sample)
            batch_predict(console, api, image=image, artifact=artifact, role=role, sample=sample)


@contextmanager
def _running(folder: DataDir, data: Path | None) -> Iterator[bool]:
    """A server for the time of the demo: one that runs already (False), or one of ours (True)."""
    if state.load_running(folder) is not None:
        yield False
        return
    try:
        server.up(data, None, None, 1, detach=True)
    except SettingsError as error:
        if "cannot listen" not in str(error):
            raise
        server.up(data, 0, None, 1, detach=True)  # the usual port is taken: a demo is content with any
    print()
    try:
        yield True
    finally:
        print()
        server.down(data)


def example_folder() -> Path:
    """`examples/digits`: beside the package when it was installed from a wheel, in the checkout otherwise."""
    package = Path(sagewright.__file__).parent
    for place in (package / "_examples" / "digits", package.parents[1] / "examples" / "digits"):
        if (place / "train.py").exists():
            return place
    raise SettingsError("the example is not installed; get it from the repository's folder examples/digits")


def _folder_image(console: Console, folder: DataDir) -> str:
    example = example_folder()
    image = register(folder, example, _IMAGE, "python program", example / "requirements.txt")
    console.print(f"[bold]1.[/] Folder image [cyan]{image.name}[/] from {example} ({image.digest[:19]})")
    return image.name


def _docker_image(console: Console, base_image: str) -> str:
    """Built by the user's own docker command, as the user would."""
    console.print(f"[bold]1.[/] docker build -t [cyan]{_IMAGE}[/] {example_folder()}")
    command = ["docker", "build", "-q", "--build-arg", f"BASE={base_image}", "-t", _IMAGE, str(example_folder())]
    try:
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SettingsError("there is no `docker` command. Install Docker, or run the demo without --docker.") from None
    if built.returncode:
        said = "\n".join(built.stderr.strip().splitlines()[-_SAID:])
        raise SettingsError(
            f"docker build failed:\n{said}\nIf {base_image} cannot be pulled here, name an image of yours that has "
            "Python and pip: --base-image NAME"
        )
    return _IMAGE


def _come_back(folder: DataDir, ours: bool) -> str:
    """How to see the rest of a job's log, NAME yet to be filled in, when the demo was left."""
    more = server.option(folder)
    start = f"sagewright up --detach{more} && " if ours else ""
    return f"{start}sagewright logs -f {{}}{more}"


def _train(console: Console, api: Api, image: str, come_back: str) -> str:
    """The URI of the model's archive."""
    sagemaker, s3 = api.client("sagemaker"), api.client("s3")
    name = f"digits-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S-%f}"[:-3]
    bucket = f"sagemaker-{api.settings.region}-{api.settings.account}"
    s3.create_bucket(Bucket=bucket)
    role = roles.role_arn(api.settings.account, "/", roles.DEFAULT_ROLE)
    begun = time.monotonic()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "MetricDefinitions": list(_METRICS),
        },
        RoleArn=role,
        HyperParameters={"epochs": str(_EPOCHS)},
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/demo"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        StoppingCondition={"MaxRuntimeInSeconds": 1800},
    )
    console.print(f"[bold]2.[/] CreateTrainingJob [cyan]{name}[/]")
    try:
        _follow(console, api, name)
    except KeyboardInterrupt:
        raise SettingsError(f"{name} goes on without us. Come back with: {come_back.format(name)}") from None
    return _report(console, api, sagemaker.describe_training_job(TrainingJobName=name), time.monotonic() - begun)


def _follow(console: Console, api: Api, name: str) -> None:
    """The job's log under a progress bar of its epochs."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("preparing (the first run installs scikit-learn)", total=_EPOCHS)
        for line in follow_log(api, name):
            progress.console.print(f"   [dim]{line}[/]", soft_wrap=True)
            if line.startswith("epoch="):
                progress.update(task, description="training", advance=1)


def _report(console: Console, api: Api, job: dict[str, Any], seconds: float) -> str:
    if job["TrainingJobStatus"] != "Completed":
        console.print(f"[red]{job['TrainingJobStatus']}[/]: {job.get('FailureReason', '')}", soft_wrap=True)
        sys.exit(1)
    uri = str(job["ModelArtifacts"]["S3ModelArtifacts"])
    bucket, key = split_uri(uri)
    archive = api.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = ", ".join(f"{member.name} ({member.size:,} bytes)" for member in tar if member.isfile())
    metrics = {metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", ())}
    console.print(f"[bold]3.[/] [green]Completed[/] in {seconds:.1f} s")
    for metric, value in metrics.items():
        console.print(f"     {metric}  {value:.4f}")
    console.print(f"[bold]4.[/] {uri}\n     holds {members}", soft_wrap=True)
    return uri
