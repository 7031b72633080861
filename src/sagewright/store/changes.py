"""The change hint between processes: "these keys were woken", from whoever committed to the controller process.

    gateway: Database commit ──► ChangeSender ──(unix datagrams)──► ChangeReceiver ──► controller: look now

Owns: the socket and the datagrams. Does not own: the truth. A hint may be lost (nobody listens, the queue is full, the
burst is large) and may repeat; the controller's full pass over what is due makes that harmless.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName

_DATAGRAM: Final = 60_000
"""Bytes; keys of one commit are spread over as many datagrams as it takes. Below every platform's limit."""

_BACKLOG: Final = 100_000
"""Keys kept for a reader that is busy. Beyond it hints are dropped."""


class ChangeSender:
    """Give `send` to `Database.open` as its listener. Never blocks, never raises. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def send(self, keys: Collection[Key]) -> None:
        with suppress(OSError), UnixAddress(self._path) as address:
            for datagram in _datagrams(keys):
                self._socket.sendto(datagram, address)

    __call__ = send

    def close(self) -> None:
        self._socket.close()


class ChangeReceiver:
    """Owns the socket at `path`: one receiver at a time, the latest one wins. Made inside a running event loop.

    Iterate over it for keys; iteration ends after `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[Key, None] = {}  # a key that is already waiting is not queued again
        self._news = asyncio.Event()
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        with suppress(FileNotFoundError):
            path.unlink()  # left by a process that was killed
        with UnixAddress(path) as address:
            self._socket.bind(address)
        path.chmod(0o600)
        self._inode = path.stat().st_ino
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._take)

    def __aiter__(self) -> AsyncIterator[Key]:
        return self

    async def __anext__(self) -> Key:
        while not self._keys:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        key = next(iter(self._keys))
        del self._keys[key]
        return key

    def close(self) -> None:
        """Safe to call again."""
        if self._closed:
            return
        self._closed = True
        self._news.set()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while len(self._keys) < _BACKLOG:
                self._keys.update(dict.fromkeys(_keys(self._socket.recv(_DATAGRAM + 1))))
                self._news.set()
            self._socket.recv(_DATAGRAM + 1)  # full: drop, so that the loop is not called again at once


class UnixAddress:
    """An address for `path` that fits into the 107 bytes that a unix socket's address may have, however deep it lies:
    its folder is opened and named through /proc/self/fd."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: int | None = None

    def __enter__(self) -> str:
        plain = str(self._path)
        if len(os.fsencode(plain)) < 100:
            return plain
        self._folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *exc: object) -> None:
        if self._folder is not None:
            os.close(self._folder)


def _datagrams(keys: Iterable[Key]) -> Iterator[bytes]:
    """JSON lines of [kind, account, region, name], whole lines only."""
    lines: list[bytes] = []
    size = 0
    for key in keys:
        line = orjson.dumps([key.kind, key.account, key.region, key.name])
        if size + len(line) + 1 > _DATAGRAM and lines:
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield b"\n".join(lines)


def _keys(datagram: bytes) -> Iterator[Key]:
    """Nothing at all for a datagram that is not ours."""
    for line in datagram.splitlines():
        with suppress(ValueError, TypeError):
            kind, account, region, name = map(str, orjson.loads(line))
            yield Key(Kind(kind), Account(account), Region(region), ResourceName(name))
