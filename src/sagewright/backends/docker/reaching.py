"""Whether a registry name that this machine's /etc/hosts sends to loopback leads the engine to us.

Owns: what kinds of engines look elsewhere, and how to tell. Does not own: the changes to the machine
(`cli.setup_docker`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sagewright.backends.docker import place
from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.facts import is_virtual
from sagewright.backends.docker.images import OwnRegistry
from sagewright.core.errors import BackendUnavailable


async def obstacle(engine: Engine, names: Sequence[str]) -> str:
    """Why this engine would not come to us, in words that say what to do instead; empty when it would."""
    try:
        info = await engine.info()
    except BackendUnavailable as error:
        return place.problem(engine.host, str(error))
    if engine.host and not place.is_local(engine.host, engine.host):
        return (
            f"The engine at {engine.host} is on another machine, and looks names up there. Push to `repositoryUri`, "
            "or use an engine on this machine (unset DOCKER_HOST)."
        )
    return obstacle_of(info, names)


def obstacle_of(info: Mapping[str, Any], names: Sequence[str]) -> str:
    """The same, from what the engine says of itself. Pure."""
    if is_virtual(info):
        return (
            f"{info.get('OperatingSystem') or 'This engine'} runs in a virtual machine of its own: this machine's "
            "/etc/hosts and /etc/docker are not the engine's. Push to `repositoryUri`, which needs no set-up."
        )
    if any("name=rootless" in option for option in info.get("SecurityOptions") or ()):
        return (
            "This Docker is rootless: its loopback is not this machine's, and it reads certificates elsewhere. "
            "Push to `repositoryUri`, which needs no set-up, or use the machine's own Docker."
        )
    proxy, direct = info.get("HttpsProxy") or "", str(info.get("NoProxy") or "")
    through = [name for name in names if proxy and not _is_direct(name, direct)]
    if through:
        return (
            f"The engine goes through the proxy {proxy} for {', '.join(through)}. Add the name to its NO_PROXY "
            "(https://docs.docker.com/engine/daemon/proxy/), restart it, and run this again."
        )
    return ""


async def log_in(engine: Engine, name: str, registry: OwnRegistry) -> str:
    """What goes wrong when the engine itself logs in to us under `name`; empty when it gets here."""
    try:
        await engine.log_in({**registry.auth(), "serveraddress": name})
    except EngineRefused as refused:
        return refused.message
    return ""


def _is_direct(name: str, entries: str) -> bool:
    """Go's rule: a domain means itself and everything below it."""
    found = (entry.strip().lower().lstrip("*").lstrip(".") for entry in entries.split(","))
    return any(entry and (name == entry or name.endswith(f".{entry}")) for entry in found) or entries.strip() == "*"
