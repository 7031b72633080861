"""`build` and `push`: an image from a folder, and into our registry, with the engine's own progress."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from botocore.exceptions import ClientError

from sagewright.app import state
from sagewright.backends.docker import building
from sagewright.backends.docker.engine import Engine
from sagewright.backends.docker.images import ImageProblem, OwnRegistry
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.server import data_dir
from sagewright.core import registry_tokens
from sagewright.core.credentials import Keyring
from sagewright.core.errors import SettingsError
from sagewright.settings import read_environment
from sagewright.store.kinds.image import registry_host

T = TypeVar("T")


_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*")


def build(data: Path | None, folder: Path, name: str, dockerfile: str, arguments: list[str]) -> None:
    """`dockerfile` is looked for in the folder, then as docker does, from here."""
    settings = read_environment(state.load_settings(data_dir(data)), os.environ)
    pairs = dict(each.partition("=")[::2] if "=" in each else (each, os.environ.get(each, "")) for each in arguments)
    place = folder.expanduser()
    if not place.is_dir():
        raise SettingsError(f"{folder} is not a folder: give the folder with the Dockerfile")
    file = _inside(place, dockerfile)
    _run(
        settings.docker_host,
        lambda engine: building.build(engine, place, name, _say, dockerfile=file, arguments=pairs),
    )
    option = "" if data is None else f" --data {settings.data.root}"
    print(f"Built {name}. Jobs on this machine can use it as it is:")
    print(f'  Estimator("{name}", role, 1, "ml.m5.large", ...).fit(...)')
    print(f"To keep it in the registry here: sagewright push {name}{option}")


def push(data: Path | None, name: str) -> None:
    """Makes the repository when it is missing."""
    where = data_dir(data)
    api = Api(where)
    settings = read_environment(api.settings, os.environ)
    address = settings.server.address
    repository, tag = _target(name, address)
    _run(settings.docker_host, lambda engine: building.must_be_there(engine, name))
    with plain_errors():
        try:
            api.client("ecr").create_repository(repositoryName=repository)
            print(f"Made the repository {repository}.")
        except ClientError as error:
            if error.response["Error"]["Code"] != "RepositoryAlreadyExistsException":
                raise
    keyring = Keyring.open(where.keys)
    own = OwnRegistry(address, lambda: registry_tokens.issue(keyring, datetime.now(UTC)))
    digest = _run(settings.docker_host, lambda engine: building.push(engine, name, f"{repository}:{tag}", own, _say))
    print(f"Pushed {address}/{repository}:{tag}{f' ({digest})' if digest else ''}. Jobs can also name it")
    print(f"  {registry_host(settings.account, settings.region)}/{repository}:{tag}")


def _target(name: str, address: str) -> tuple[str, str]:
    """Repository and tag in our registry: the name without the host of any registry."""
    if "@" in name:
        raise SettingsError(f"{name} names a digest. Give the image by its tag: NAME:TAG")
    host, slash, rest = name.partition("/")
    path = rest if slash and ("." in host or ":" in host or host == "localhost") else name
    repository, _, tag = path.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise SettingsError(
            f"{name!r} is not an image name: it must be NAME:TAG or {address}/NAME:TAG, and NAME has small letters, "
            "digits, and . _ - / between them"
        )
    return repository, tag or "latest"


def _inside(folder: Path, dockerfile: str) -> str:
    """Relative to the folder, which is all that the engine gets."""
    path = Path(dockerfile).absolute()
    if not (folder / dockerfile).is_file() and path.is_file() and path.is_relative_to(folder.absolute()):
        return str(path.relative_to(folder.absolute()))
    return dockerfile


def _say(line: str) -> None:
    """At once, also into a pipe."""
    print(line, flush=True)


def _run(host: str | None, work: Callable[[Engine], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = Engine(host)
        try:
            return await work(engine)
        except ImageProblem as problem:
            raise SettingsError(str(problem)) from problem
        finally:
            await engine.aclose()

    return asyncio.run(run())
