"""`setup docker`: what must hold before anything is changed, and how it stands now (for `doctor`).

Owns: reading. Does not own: changing (`setup_docker`). Every obstacle is a sentence that says what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagewright.app import state
from sagewright.cli import port_443
from sagewright.cli.machine_files import HostsLine, Places, other_lines, our_lines, owner_of
from sagewright.registry import literal_names
from sagewright.registry.literal_names import LiteralNames
from sagewright.settings import DataDir
from sagewright.store.kinds.image import registry_host


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a set-up is there for one data directory."""

    record: LiteralNames
    line: HostsLine | None
    certificates: tuple[str, ...]  # names for which docker has our certificate

    @property
    def is_none(self) -> bool:
        return not self.record.names and self.line is None

    def lacks(self, places: Places) -> str:
        """What is missing of it; empty when it is whole."""
        names = self.record.names
        if not names:
            return f"the server does not know of it, but {places.hosts} does"
        if self.line is None or set(self.line.names) != set(names):
            return f"its line in {places.hosts} is missing or names something else"
        absent = [name for name in names if name not in self.certificates]
        return f"{places.certificate(absent[0])} is missing or not this server's" if absent else ""


def standing(folder: DataDir, places: Places) -> Standing:
    record = literal_names.load(folder)
    line = next((each for each in our_lines(_content(places.hosts)) if each.data == folder.root), None)
    names = {*record.names, *(line.names if line else ())}
    return Standing(record, line, tuple(sorted(name for name in names if _trusted(folder, places, name))))


def obstacles(folder: DataDir, places: Places, names: Sequence[str]) -> Iterator[str]:
    """What stands in the way on this machine, the engine left aside."""
    if sys.platform != "linux":
        yield "This works with Docker on Linux. Docker Desktop has a machine of its own; push to `repositoryUri`."
        return
    yield from _obstacles_in_hosts(folder, places, names)
    for name in names:
        path = places.certificate(name)
        if path.exists() and (owner := owner_of(path)) is None:
            yield f"{path} is there already and not ours. Move it away, and run this again."
        elif path.exists() and owner != folder.root and owner is not None and owner.exists():
            yield f"{path} belongs to the server of {owner}: `sagewright setup docker --undo --data {owner}` first."
    yield from _obstacles_at_port(folder, names)


def _obstacles_in_hosts(folder: DataDir, places: Places, names: Sequence[str]) -> Iterator[str]:
    content = _content(places.hosts)
    for line in other_lines(content, names):
        yield f"{places.hosts} already says where a name is: `{line.strip()}`. Remove that, and run this again."
    for theirs in our_lines(content):
        if theirs.data != folder.root and theirs.data.exists():
            yield (
                f"Docker is set up for the server of {theirs.data} already, and port 443 is there only once: "
                f"`sagewright setup docker --undo --data {theirs.data}` first."
            )


def _obstacles_at_port(folder: DataDir, names: Sequence[str]) -> Iterator[str]:
    running = state.load_running(folder)
    ours = any(port_443.answers_as_us(name, folder.keys / "ca.pem") for name in names)
    if not ours and not port_443.is_free():
        yield (
            f"Port {literal_names.PORT} is taken by {port_443.holder()}, and docker asks for no other. Stop it, or "
            f"have it leave {literal_names.ADDRESS} alone."
        )
    if running and not port_443.may_bind(running.pids.get("gateway-1", running.pids["supervisor"])):
        yield (
            f"The server's user may not listen on port {literal_names.PORT}. Allow it with `sudo sysctl "
            f"net.ipv4.ip_unprivileged_port_start={literal_names.PORT}` (and in /etc/sysctl.d, to keep it), or run "
            "the server as root."
        )


def describe(folder: DataDir, places: Places | None = None) -> tuple[bool | None, str, str]:
    """For `doctor`: whether it works (None: not set up, or nothing to say), what was found, what to do."""
    places = places or Places()
    try:
        found = standing(folder, places)
    except ValueError as error:
        return False, str(error), ""
    settings = state.load_settings(folder)
    if found.is_none:
        found_out = f"docker push {registry_host(settings.account, settings.region)}/NAME does not reach this server"
        return None, found_out, "if you want that: sagewright setup docker" if sys.platform == "linux" else ""
    if missing := found.lacks(places):
        return False, f"half set up: {missing}", "sagewright setup docker, or sagewright setup docker --undo"
    names = ", ".join(found.record.names)
    if state.load_running(folder) is None:
        return None, f"set up for {names}; the server is not running", "sagewright up --detach"
    if not all(port_443.answers_as_us(name, folder.keys / "ca.pem") for name in found.record.names):
        reasons = [*_obstacles_at_port(folder, found.record.names), f"Look into {folder.log}."]
        return False, f"set up for {names}, but port {literal_names.PORT} does not answer", reasons[0]
    return True, f"docker push {names}/NAME reaches this server", ""


def _trusted(folder: DataDir, places: Places, name: str) -> bool:
    """Whether docker has the certificate that our authority has now."""
    try:
        ours, there = (folder.keys / "ca.pem").read_text().strip(), places.certificate(name).read_text()
    except OSError:
        return False
    return owner_of(places.certificate(name)) == folder.root and there.endswith(f"{ours}\n")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
