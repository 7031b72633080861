"""The second part of `demo`: the trained model as an endpoint, one prediction, and everything taken down again.

Owns: the calls of deploying and what is shown meanwhile. Does not own: the training and the server (`cli.demo`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from sagewright.cli.client import Api
from sagewright.core.errors import SettingsError

_LOOK: Final = 0.05  # seconds between looks at an endpoint that is being made
_SHADES: Final = " ░▒▓█"
_SIDE: Final = 8  # pixels
_BLACK: Final = 16


def deploy_and_predict(console: Console, api: Api, *, image: str, artifact: str, role: str, sample: Path) -> None:
    """Raises SettingsError with the endpoint's FailureReason. Nothing of it is left afterwards."""
    sagemaker = api.client("sagemaker")
    name = artifact.split("/")[-3]  # s3://BUCKET/demo/JOB/output/model.tar.gz
    begun = time.monotonic()
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=role, PrimaryContainer={"Image": image, "ModelDataUrl": artifact}
    )
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    console.print(f"[bold]5.[/] CreateEndpoint [cyan]{name}[/]")
    try:
        _in_service(console, sagemaker, name)
        console.print(f"     [green]InService[/] in {time.monotonic() - begun:.1f} s, /ping answers")
        _predict(console, api, name, sample)
    finally:
        sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.delete_endpoint_config(EndpointConfigName=name)
        sagemaker.delete_model(ModelName=name)
    _gone(console, sagemaker, name)


def _in_service(console: Console, sagemaker: Any, name: str) -> None:
    with console.status("starting the model's container"):
        while (found := sagemaker.describe_endpoint(EndpointName=name))["EndpointStatus"] == "Creating":
            time.sleep(_LOOK)
    if found["EndpointStatus"] != "InService":
        raise SettingsError(f"the endpoint is {found['EndpointStatus']}: {found.get('FailureReason', '')}")


def _predict(console: Console, api: Api, name: str, sample: Path) -> None:
    rows = sample.read_text().split()
    runtime = api.client("sagemaker-runtime", attempts=1)
    begun = time.monotonic()
    answer = runtime.invoke_endpoint(EndpointName=name, ContentType="text/csv", Body="\n".join(rows).encode())
    digits = answer["Body"].read().decode().split()
    console.print(f"[bold]6.[/] InvokeEndpoint with {len(rows)} rows: {(time.monotonic() - begun) * 1000:.0f} ms")
    drawn = [_drawn(row) for row in rows]
    for line in zip(*drawn, strict=True):
        console.print("     " + "  ".join(line), highlight=False)
    console.print("     " + "  ".join(f"[bold green]{digit:^{2 * _SIDE}}[/]" for digit in digits))


def _drawn(row: str) -> list[str]:
    """A row of 64 pixels as eight lines, two characters a pixel."""
    pixels = [2 * _SHADES[int(pixel) * (len(_SHADES) - 1) // _BLACK] for pixel in row.split(",")]
    return ["".join(pixels[start : start + _SIDE]) for start in range(0, len(pixels), _SIDE)]


def _gone(console: Console, sagemaker: Any, name: str) -> None:
    with console.status("taking it down"):
        while sagemaker.list_endpoints(NameContains=name)["Endpoints"]:
            time.sleep(_LOOK)
    console.print("[bold]7.[/] DeleteEndpoint: its container is gone, the artifact stays")
