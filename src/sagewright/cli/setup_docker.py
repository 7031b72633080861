"""`setup docker`: AWS's own registry name leads this machine's docker to us. Opt-in, said beforehand, taken back whole.

    record in DATA ──▶ the server listens on 443 ──▶ certificate for docker ──▶ line in /etc/hosts ──▶ docker tries it

Each step is made at once and may be made again; what was interrupted is completed by another run, or taken back by
`--undo`, which goes the other way. The record comes first, so that whatever follows is known to it.

Owns: the order, and what is said. Does not own: what must hold (`setup_checks`), the edits (`machine_files`), the
listener (`gateway.literal_port`).
"""

from __future__ import annotations

import asyncio
import os
import pwd
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from sagewright.app import state
from sagewright.backends.docker import reaching
from sagewright.backends.docker.engine import Engine
from sagewright.backends.docker.images import OwnRegistry
from sagewright.cli import machine_files, port_443, setup_checks
from sagewright.cli.machine_files import Places
from sagewright.cli.server import data_dir
from sagewright.core import registry_tokens
from sagewright.core.credentials import Keyring
from sagewright.core.errors import SettingsError
from sagewright.gateway.authority import Authority
from sagewright.registry import literal_names
from sagewright.registry.literal_names import LiteralNames
from sagewright.services.image_table import parse_ecr
from sagewright.settings import DataDir, Settings, default_data_dir, read_environment
from sagewright.store.kinds.image import registry_host

_LISTEN_LIMIT: Final = 10.0  # seconds; the server looks once a second, and may have an authority to make
_NAME_LIMIT: Final = 8.0  # seconds; docker looks into /etc/hosts every five


@dataclass(frozen=True, slots=True)
class _Change:
    """`sentence` is what the user is told before `make` is called."""

    sentence: str
    make: Callable[[], None]


def setup(data: Path | None, names: Sequence[str], *, undo: bool, dry_run: bool, places: Places | None = None) -> None:
    """Raises SettingsError for what stands in the way; nothing is changed then."""
    work = _Setup(_folder(data), places or Places())
    work.undo(dry_run=dry_run) if undo else work.do(names, dry_run=dry_run)


class _Setup:
    def __init__(self, folder: DataDir, places: Places) -> None:
        self._folder = folder
        default = folder.root == data_dir(None).root
        self._command = "sagewright setup docker" + ("" if default else f" --data {folder.root}")
        self._places = places
        self._settings = read_environment(state.load_settings(folder), os.environ)

    def do(self, names: Sequence[str], *, dry_run: bool) -> None:
        if not self._folder.root.is_dir():
            raise SettingsError(
                f"there is no data directory {self._folder.root}. Start a server first: sagewright up --detach"
            )
        before = setup_checks.standing(self._folder, self._places)
        own = registry_host(self._settings.account, self._settings.region)
        wanted = tuple(dict.fromkeys((*before.record.names, own, *map(_checked, names))))
        changes = self._changes(before, wanted)
        self._introduce(wanted, changes)
        self._check(wanted, dry_run=dry_run)
        if dry_run:
            print("\nNothing was changed (--dry-run).")
            return
        try:
            for change in changes:
                change.make()
            self._try_it(wanted)
        except BaseException:
            if before.is_none:
                self._take_back()
                print("Everything was taken back.", file=sys.stderr)
            raise
        self._conclude(own)

    def undo(self, *, dry_run: bool) -> None:
        before = setup_checks.standing(self._folder, self._places)
        gone = [each.data for each in self._lines() if each.data != self._folder.root and not each.data.exists()]
        if before.is_none and not gone:
            print(f"Docker is not set up for the server of {self._folder.root}: there is nothing to undo.")
            return
        going = [line for line in self._lines() if line.data in (self._folder.root, *gone)]
        for each in going:
            print(f"  {self._places.hosts} loses the line of {each.data}")
        for name in dict.fromkeys((*before.record.names, *(name for line in going for name in line.names))):
            print(f"  {self._places.certificate(name)} is removed")
        print(f"  the server of {self._folder.root} leaves port {literal_names.PORT}")
        if dry_run:
            print("\nNothing was changed (--dry-run).")
            return
        self._must_be_root("--undo")
        for data in gone:
            names = [name for line in self._lines() if line.data == data for name in line.names]
            self._remove(data, names)
            for folder in (*(self._places.certificate(name).parent for name in names), self._places.certificates):
                machine_files.remove_empty(folder)  # who made it is not known any more
        self._take_back()
        print("Undone.")

    # -- before ------------------------------------------------------------------------------------------------------

    def _changes(self, before: setup_checks.Standing, wanted: tuple[str, ...]) -> list[_Change]:
        changes = []
        if before.record.names != wanted:
            sentence = f"the server of {self._folder.root} answers on {literal_names.ADDRESS} port {literal_names.PORT}"
            changes.append(_Change(f"{sentence} (TLS, for these names only)", lambda: self._record(wanted)))
        for name in wanted:
            if name not in before.certificates:
                sentence = f"{self._places.certificate(name)} is written: docker trusts this server for that name"
                changes.append(_Change(sentence, partial(self._trust, name)))
        if before.line is None or before.line.names != wanted:
            line = machine_files.hosts_line(self._folder.root, wanted)
            changes.append(_Change(f"{self._places.hosts} has the line\n       {line}", lambda: self._name(wanted)))
        return changes

    def _introduce(self, wanted: Sequence[str], changes: Sequence[_Change]) -> None:
        if not changes:
            print(f"Docker is set up for the server of {self._folder.root} already; nothing needs to be changed.")
            return
        print("docker push will reach this server under")
        for name in wanted:
            foreign = not name.startswith(f"{self._settings.account}.")
            note = "   (AWS's own registry of that name cannot be reached from this machine then)" if foreign else ""
            print(f"  {name}/NAME:TAG{note}")
        print("What changes on this machine:")
        for number, change in enumerate(changes, 1):
            print(f"  {number}. {change.sentence}")
        print(f"Jobs and other names are not affected. `{self._command} --undo` takes it back.", flush=True)

    def _check(self, wanted: Sequence[str], *, dry_run: bool) -> None:
        if not dry_run:
            self._must_be_root("")
        found = list(setup_checks.obstacles(self._folder, self._places, wanted))
        engine = asyncio.run(_ask(self._settings, lambda engine: reaching.obstacle(engine, wanted)))
        if problems := [*found, *filter(None, (engine,))]:
            raise SettingsError("this cannot be set up here; nothing was changed.\n" + "\n".join(problems))

    def _must_be_root(self, option: str) -> None:
        if os.access(self._places.hosts, os.W_OK) and os.geteuid() == self._places.hosts.stat().st_uid:
            return
        command = f"sudo {Path(sys.argv[0]).absolute()} setup docker {option}".rstrip()
        raise SettingsError(
            f"only root may change {self._places.hosts} and {self._places.certificates}; nothing was changed. Run\n"
            f"  {command} --data {self._folder.root}"
        )

    # -- steps -------------------------------------------------------------------------------------------------------

    def _record(self, wanted: tuple[str, ...]) -> None:
        """The server sees it within a second."""
        authority = self._authority()
        literal_names.save(self._folder, LiteralNames(wanted, literal_names.load(self._folder).made))
        if state.load_running(self._folder) is None:
            return
        deadline = time.monotonic() + _LISTEN_LIMIT
        while not all(port_443.answers_as_us(name, authority) for name in wanted):
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"the server does not answer on port {literal_names.PORT}. Its log says why: {self._folder.log}. "
                    "A server that was started before an upgrade must be started again: sagewright down, up."
                )
            time.sleep(0.1)

    def _trust(self, name: str) -> None:
        path, record = self._places.certificate(name), literal_names.load(self._folder)
        if missing := machine_files.missing_folders(path.parent):
            made = dict.fromkeys((*record.made, *map(str, missing)))
            literal_names.save(self._folder, LiteralNames(record.names, tuple(made)))  # before they are made
            path.parent.mkdir(parents=True, exist_ok=True)
        machine_files.write_new(path, machine_files.certificate(self._folder.root, self._authority().read_text()))

    def _name(self, wanted: Sequence[str]) -> None:
        machine_files.edit(
            self._places.hosts, lambda content: machine_files.with_line(content, self._folder.root, wanted)
        )

    def _try_it(self, wanted: Sequence[str]) -> None:
        """Docker itself logs in under each name: through its own resolver, trust and proxy."""
        if state.load_running(self._folder) is None:
            return
        keyring = Keyring.open(self._folder.keys)
        registry = OwnRegistry(wanted[0], lambda: registry_tokens.issue(keyring, datetime.now(UTC)))
        for name in wanted:
            log_in = partial(reaching.log_in, name=name, registry=registry)
            deadline = time.monotonic() + _NAME_LIMIT
            while (problem := asyncio.run(_ask(self._settings, log_in))) and time.monotonic() < deadline:
                time.sleep(0.5)
            if problem:
                raise SettingsError(
                    f"the engine does not reach this server as {name}: {problem.strip()}\nIf it runs in a container or "
                    "on another machine, it does not see this machine's /etc. Push to `repositoryUri` instead."
                )

    def _take_back(self) -> None:
        """The other way round: the name first, so that nothing is led to a port that does not answer."""
        record = literal_names.load(self._folder)
        lines = [each for each in self._lines() if each.data == self._folder.root]
        self._remove(self._folder.root, [*record.names, *(name for line in lines for name in line.names)])
        for made in reversed(record.made):
            machine_files.remove_empty(Path(made))
        literal_names.forget(self._folder)
        deadline = time.monotonic() + _LISTEN_LIMIT
        authority = self._folder.keys / "ca.pem"
        while any(port_443.answers_as_us(name, authority) for name in record.names) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _remove(self, data: Path, names: Sequence[str]) -> None:
        """What carries the mark of `data`."""
        machine_files.edit(self._places.hosts, lambda content: machine_files.without_line(content, data))
        for name in names:
            machine_files.remove_certificate(self._places.certificate(name), data)

    def _lines(self) -> list[machine_files.HostsLine]:
        return machine_files.our_lines(self._places.hosts.read_bytes())

    def _authority(self) -> Path:
        """Our authority's certificate; made when the server never made it. Raises SettingsError."""
        authority = Authority(self._folder.keys, self._settings.outer_bundle)
        if not authority.certificate.exists():
            if self._folder.root.stat().st_uid != os.geteuid():
                raise SettingsError(
                    "start the server once, so that its own user makes its keys: sagewright up --detach"
                )
            authority.prepare()
        try:
            ssl.PEM_cert_to_DER_cert(authority.certificate.read_text())
        except ValueError as error:
            raise SettingsError(f"{authority.certificate} is not a certificate: {error}") from error
        return authority.certificate

    def _conclude(self, name: str) -> None:
        if state.load_running(self._folder) is None:
            print("\nDone. It works once the server runs: sagewright up --detach")
        else:
            print("\nDone: docker has logged in under each name, as a test. Log in and push:")
        print(f"  aws ecr get-login-password | docker login --username AWS --password-stdin {name}")
        print(f"  docker push {name}/NAME:TAG")


async def _ask(settings: Settings, question: Callable[[Engine], Awaitable[str]]) -> str:
    engine = Engine(settings.docker_host)
    try:
        return await question(engine)
    finally:
        await engine.aclose()


def _folder(data: Path | None) -> DataDir:
    """Under sudo the data directory is that of the user who called it."""
    caller = os.environ.get("SUDO_USER")
    if data or not caller or os.geteuid() != 0 or "SAGEWRIGHT_DATA" in os.environ:
        return data_dir(data)
    return DataDir(default_data_dir({"HOME": pwd.getpwnam(caller).pw_dir}))


def _checked(name: str) -> str:
    host = name.strip().removeprefix("https://").rstrip("/").lower()
    if "/" in host or parse_ecr(f"{host}/x") is None:
        raise SettingsError(f"{name!r} is not a registry's name of ECR's form ACCOUNT.dkr.ecr.REGION.amazonaws.com")
    return host
