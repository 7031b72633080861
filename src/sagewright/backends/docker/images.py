"""Getting an image into the engine: the user's registry credentials, the pull, its progress, its failure in words."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.facts import Facts, Image, image_of
from sagewright.backends.docker.spec import is_legal_image
from sagewright.workloads.workload import ImageRef

HUB: Final = "docker.io"
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class OwnRegistry:
    """Our own image registry: `address` is where the engine reaches it, `password` makes one for its login."""

    address: str
    password: Callable[[], str]

    def auth(self) -> dict[str, str]:
        return {"username": "AWS", "password": self.password(), "serveraddress": self.address}


def engine_name(image: ImageRef, registry: OwnRegistry | None) -> str:
    """What to ask the engine for: REPOSITORY@DIGEST where it must be what the name once meant, wherever the tag has
    moved since."""
    if image.own and registry:
        return f"{registry.address}/{image.own}"
    name = image.stands_for or image.name
    if not image.digest:
        return name
    folder, slash, last = name.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{image.digest}"


class ImageProblem(Exception):
    """The image cannot be had, or cannot run here; the message is fit for a user."""


async def find_image(engine: Engine, name: str, digest: str = "") -> Image | None:
    """The image as the engine has it, under its name or else its digest; None when it must be pulled. Raises
    ImageProblem for a name that is none."""
    found = await _look(engine, name)
    return await _look(engine, digest) if found is None and digest else found


async def _look(engine: Engine, name: str) -> Image | None:
    if not is_legal_image(name):
        raise ImageProblem(
            f"{name!r} is not an image name: it must be REGISTRY/REPOSITORY:TAG or REPOSITORY@sha256:DIGEST."
        )
    try:
        found = await engine.image(name)
    except EngineRefused as refused:
        raise ImageProblem(f"The image {name} cannot be used: {refused.message}") from refused
    return image_of(found) if found else None


def _check_labels(image: Image, name: str, required: Mapping[str, str]) -> None:
    """Raises ImageProblem in AWS's words when a label is missing or says something else."""
    for label, value in required.items():
        if image.labels.get(label) != value:
            raise ImageProblem(
                f"Your Ecr Image {name} does not contain required {label}={value} Docker label(s). Add "
                f"`LABEL {label}={value}` to its Dockerfile once its server listens on the port that the environment "
                "variable SAGEMAKER_BIND_TO_PORT names, or deploy it as the only container of its model."
            )


def check_image(image: Image, name: str, facts: Facts, labels: Mapping[str, str]) -> None:
    """Raises ImageProblem when this engine cannot run it, or it lacks a label that it needs."""
    _check_labels(image, name, labels)
    if image.system != "linux":
        raise ImageProblem(f"The image {name} is for {image.system}; SageMaker images are for linux.")
    if not facts.runs(image.architecture):
        raise ImageProblem(
            f"The image {name} is for {image.architecture} processors, and this machine is {facts.architecture}. "
            f"Build it with `docker build --platform linux/{facts.architecture}`, or install an emulator: "
            f"`docker run --privileged --rm tonistiigi/binfmt --install {image.architecture}`."
        )


async def pull(
    engine: Engine, name: str, credentials: Path, report: Callable[[str], None], own: OwnRegistry | None = None
) -> None:
    """Raises ImageProblem, BackendUnavailable. `report` is told how far it is. `own` needs no login of the user's."""
    is_own = own is not None and registry_of(name) == own.address
    auth = own.auth() if own and is_own else credentials_for(credentials, registry_of(name))
    progress = Progress(name)
    try:
        async with aclosing(engine.pull(*_how_to_pull(name, is_podman=(await engine.facts()).podman), auth)) as steps:
            async for step in steps:
                report(progress.after(step))
    except EngineRefused as refused:
        raise ImageProblem(_failure(name, refused.message)) from refused


def _how_to_pull(name: str, *, is_podman: bool) -> tuple[str, dict[str, str]]:
    """The path and its parameters. A registry on loopback may be spoken to without TLS: Docker does so by itself,
    Podman when it is told through its own API."""
    full = _full_name(name)
    if is_podman and full.startswith(("127.", "localhost:")):
        return "libpod/images/pull", {"reference": full, "tlsVerify": "false"}
    last = full.rpartition("/")[2]  # without a tag the engine would pull every one there is
    return "images/create", {"fromImage": full} | ({} if ":" in last or "@" in last else {"tag": "latest"})


class Progress:
    """The sum over an image's layers of what the engine reports for each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._layers: dict[str, tuple[int, int]] = {}

    def after(self, step: Mapping[str, Any]) -> str:
        detail, layer = step.get("progressDetail") or {}, str(step.get("id", ""))
        if step.get("status") == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif step.get("status") in ("Download complete", "Pull complete") and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1], self._layers[layer][1])
        done = sum(current for current, _ in self._layers.values())
        total = sum(each for _, each in self._layers.values())
        return (
            f"pulling image {self._name}: {done // _MIB} of {total // _MIB} MiB"
            if total
            else f"pulling image {self._name}"
        )


def registry_of(name: str) -> str:
    """The host part of an image name, docker.io when it has none (as Docker decides it)."""
    host, slash, _ = name.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else HUB


def credentials_for(config: Path, registry: str) -> dict[str, str] | None:
    """What `docker login` kept for this registry in the user's own file; None when it kept nothing there."""
    try:
        auths = json.loads(config.read_bytes()).get("auths") or {}
    except (OSError, ValueError, AttributeError):
        return None
    keys = _HUB_KEYS if registry == HUB else (registry, f"https://{registry}", f"https://{registry}/v1/")
    for entry in (auths[key] for key in keys if auths.get(key)):
        if entry.get("identitytoken"):
            return {"identitytoken": entry["identitytoken"]}
        if entry.get("auth"):
            return _decoded(entry["auth"], registry)
    return None


def _decoded(auth: str, registry: str) -> dict[str, str] | None:
    try:
        username, _, password = base64.b64decode(auth).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": username, "password": password, "serveraddress": registry}


def _full_name(name: str) -> str:
    if registry_of(name) != HUB or name.startswith(f"{HUB}/"):
        return name
    return f"{HUB}/{name}" if "/" in name else f"{HUB}/library/{name}"


def _failure(name: str, words: str) -> str:
    registry = registry_of(name)
    text = f"The image {name} is not in the local engine, and pulling it from {registry} failed: {words.rstrip('.')}."
    return f"{text} {_hint(name, words.lower(), registry)}"


def _hint(name: str, words: str, registry: str) -> str:
    here = f"build or load it here: `docker build -t {name} .`"
    if ".dkr.ecr." in registry:  # whose images are looked for in the registry here first, and by their repository alone
        own = name.partition("/")[2].partition("@")[0]
        here = (
            f"build it and push it to the registry here: `docker build -t {own} .` and `sagewright push {own}`, or "
            "name an image of yours to use instead in DATA/images.json"
        )
    if "no such host" in words or "dial tcp" in words or "timeout" in words or "connection refused" in words:
        return f"The registry cannot be reached from here: {here}, or check the network."
    if "no matching manifest" in words:
        return f"If an emulator is installed, get it first: `docker pull --platform linux/amd64 {name}`."
    if any(mark in words for mark in ("unauthorized", "denied", "no basic auth", "authentication required")):
        return f"If it exists, log in first: `docker login {registry}`; else {here}."
    return f"Check the name and tag, or {here}."
