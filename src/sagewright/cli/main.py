"""The command table. Each command imports what it needs when it runs, so that `sagewright` starts quickly."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from sagewright import __version__
from sagewright.core.errors import SagewrightError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Data directory. Default: $SAGEWRIGHT_DATA or ~/.local/share/sagewright."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

app = typer.Typer(
    name="sagewright",
    help="Run SageMaker code and SageMaker containers, unchanged, on this machine.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
image = typer.Typer(help="Folder images: jobs without a container engine.")
app.add_typer(image, name="image", no_args_is_help=True)

setup = typer.Typer(help="Optional changes to this machine. Each has --dry-run and --undo.")
app.add_typer(setup, name="setup", no_args_is_help=True)


def main() -> None:
    """Entry point. An error that we raise on purpose is one line; anything else is a bug and shows itself."""
    try:
        app()
    except SagewrightError as error:
        print(f"sagewright: {error}", file=sys.stderr)
        sys.exit(1)
    except PermissionError as error:
        print(f"sagewright: {error.filename} is another user's: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sagewright {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """`--version` is handled by its own callback."""


@app.command()
def up(  # noqa: PLR0917 - typer's way to say options
    data: Data = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="0 takes a free one. Default: as last time, or 8470.", min=0, max=65535),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    gateways: Annotated[
        int, typer.Option(metavar="N", help="Gateway processes that share the port.", min=1, max=64)
    ] = 1,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it answers.")] = False,
    jobs_at_once: Annotated[
        int | None,
        typer.Option(metavar="N", help="Training jobs that run at once. Default: as many as fit in memory.", min=1),
    ] = None,
) -> None:
    """Start Sagewright."""
    from sagewright.cli import server

    server.up(data, port, host, gateways, detach, jobs_at_once=jobs_at_once)


@app.command()
def down(data: Data = None) -> None:
    """Stop Sagewright. Jobs that run go on, and are taken up again by the next `up`."""
    from sagewright.cli import server

    server.down(data)


@app.command()
def status(data: Data = None, as_json: AsJson = False) -> None:
    """Is it running, where, and what can it run?"""
    from sagewright.cli import server

    server.status(data, as_json)


@app.command()
def env(
    data: Data = None,
    no_proxy: Annotated[bool, typer.Option("--no-proxy", help="Leave HTTPS_PROXY out.")] = False,
) -> None:
    """Print the settings for AWS clients: eval "$(sagewright env)"."""
    from sagewright.cli import environment

    environment.env(data, no_proxy)


@app.command()
def jobs(
    name: Annotated[
        str | None, typer.Argument(metavar="JOB", help="One job: all there is to say of it, each bad record too.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", help="How many, newest first.", min=1, max=100)
    ] = 20,
) -> None:
    """List training and batch transform jobs, or explain one."""
    from sagewright.cli import jobs as commands

    if name is not None:
        commands.job(data, name, as_json)
    else:
        commands.jobs(data, as_json, limit)


@app.command()
def interrupt(
    name: Annotated[str, typer.Argument(metavar="JOB", help="Name of a spot training job.")], data: Data = None
) -> None:
    """Interrupt a spot training job, as AWS may at any time. It begins anew from its checkpoints."""
    from sagewright.cli import interrupt as command

    command.interrupt(data, name)


@app.command()
def endpoints(
    data: Data = None,
    as_json: AsJson = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", help="How many, newest first.", min=1, max=100)
    ] = 20,
) -> None:
    """List endpoints, newest first."""
    from sagewright.cli import endpoints as commands

    commands.endpoints(data, as_json, limit)


@app.command()
def invoke(
    name: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name.")],
    file: Annotated[
        Path, typer.Option("--file", "-i", metavar="FILE", help="The request's body; - reads standard input.")
    ],
    *,
    content_type: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="What the body is, e.g. text/csv; from the file's name if not given."),
    ] = None,
    accept: Annotated[
        str | None, typer.Option(metavar="TYPE", help="What the answer should be, e.g. application/json.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this production variant, whatever its weight.")
    ] = None,
    data: Data = None,
) -> None:
    """Send a file to an endpoint and print its answer."""
    from sagewright.cli import endpoints as commands

    commands.invoke(data, name, file, content_type=content_type, accept=accept, variant=variant)


@app.command()
def token(
    name: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name.")],
    days: Annotated[int, typer.Option(metavar="N", help="Days until it expires.", min=1, max=36500)] = 30,
    data: Data = None,
) -> None:
    """Make a bearer token for one endpoint. It is for curl and programs that cannot sign."""
    from sagewright.cli import endpoints as commands

    commands.token(data, name, days)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a job or an endpoint.")],
    data: Data = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    job: Annotated[bool, typer.Option("--job", help="The job, when an endpoint has that name too.")] = False,
    endpoint: Annotated[bool, typer.Option("--endpoint", help="The endpoint, also when it was deleted.")] = False,
) -> None:
    """Print the log of a job or an endpoint."""
    from sagewright.cli import logs as commands

    if job and endpoint:
        raise typer.BadParameter("give --job or --endpoint, not both")
    commands.logs(data, name, follow, "job" if job else "endpoint" if endpoint else None)


@app.command()
def build(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the Dockerfile.")] = Path(),
    tag: Annotated[str, typer.Option("--tag", "-t", metavar="NAME", help="The image's name: NAME or NAME:TAG.")],
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="The Dockerfile, relative to the folder.")
    ] = "Dockerfile",
    build_arg: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="For an ARG of the Dockerfile.")
    ] = None,
    data: Data = None,
) -> None:
    """Build a Docker image from a folder."""
    from sagewright.cli import building

    building.build(data, folder, tag, file, build_arg or [])


@app.command()
def push(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An image of the local engine: NAME or NAME:TAG.")],
    data: Data = None,
) -> None:
    """Push an image to the registry here. Its repository is made when it is missing."""
    from sagewright.cli import building

    building.push(data, name)


@app.command()
def prune(
    data: Data = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    logs_days: Annotated[
        float, typer.Option(metavar="DAYS", help="Logs of ended jobs older than so many days.", min=0)
    ] = 30,
    as_json: AsJson = False,
) -> None:
    """Remove what nobody needs any more. Old logs, orphaned containers, folders and content."""
    from sagewright.cli import prune as command

    command.prune(data, dry_run=dry_run, yes=yes, logs_days=logs_days, as_json=as_json)


@app.command()
def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """What works on this machine, and how to mend what does not."""
    from sagewright.cli import doctor as command

    command.doctor(data, as_json)


@app.command()
def demo(
    data: Data = None,
    docker: Annotated[bool, typer.Option("--docker", help="Build and run the example as a Docker image.")] = False,
    base_image: Annotated[
        str, typer.Option(metavar="IMAGE", help="With --docker: a base image that has Python.")
    ] = "python:3.11-slim",
) -> None:
    """Train, deploy and ask a real image classifier, here and now."""
    from sagewright.cli import demo as command

    command.demo(data, docker, base_image)


@image.command("add")
def image_add(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that is the image.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="The name that jobs use as their image.")],
    entrypoint: Annotated[
        str, typer.Option(metavar="COMMAND", help="The program and its first arguments; `train` is added.")
    ],
    requirements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A pip requirements file to install.")
    ] = None,
    data: Data = None,
) -> None:
    """Register a folder as an image."""
    from sagewright.cli import images

    images.add(data, folder, name, entrypoint, requirements)


@image.command("list")
def image_list(data: Data = None, as_json: AsJson = False) -> None:
    """List folder images."""
    from sagewright.cli import images

    images.show(data, as_json)


@image.command("remove")
def image_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The image's name.")], data: Data = None
) -> None:
    """Forget a folder image. Jobs made from it are not touched."""
    from sagewright.cli import images

    images.remove(data, name)


@setup.command("docker")
def setup_docker(
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="REGISTRY", help="A further registry name: ACCOUNT.dkr.ecr.REGION.amazonaws.com."),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back all of it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    data: Data = None,
) -> None:
    """Let docker push by AWS's registry name. `docker push ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME` comes here."""
    from sagewright.cli import setup_docker as command

    if undo and name:
        raise typer.BadParameter("--undo takes everything back; leave --name out")
    command.setup(data, name or [], undo=undo, dry_run=dry_run)
