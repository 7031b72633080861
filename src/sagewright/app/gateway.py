"""One gateway process: `python -m sagewright.app.gateway`, started by the supervisor with the listening socket."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from sagewright.app import child, compose
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.core.clock import SystemClock
from sagewright.core.credentials import Keyring
from sagewright.gateway.application import Gateway
from sagewright.gateway.asgi import Application
from sagewright.gateway.authority import Authority
from sagewright.gateway.literal_port import LiteralPort
from sagewright.gateway.metrics import Flush
from sagewright.gateway.server import run
from sagewright.objects.api import ObjectApi
from sagewright.registry.api import Registry
from sagewright.registry.files import Files
from sagewright.registry.work import Shelf
from sagewright.router.hot import Router
from sagewright.settings import Settings
from sagewright.store.changes import ChangeSender


def main() -> None:
    started = child.start("gateway")
    settings, listen, ready = started.settings, started.listen, started.ready
    assert listen is not None, "the supervisor passes the socket"
    assert ready is not None, "the supervisor waits for word"
    authority = Authority(settings.data.keys, settings.outer_bundle)
    literal = LiteralPort(settings.data, authority)
    line = build(settings, literal)
    child.settled()
    listener = socket.socket(fileno=listen)

    def announce() -> None:
        line.flush.start()
        os.write(ready, b"1")

    run(line.application, listener, settings, authority, hot_path=line.router, literal=literal, ready=announce)
    line.flush.finish()


@dataclass(frozen=True, slots=True)
class Line:
    """What stands behind the port: the straight line for everything, and the short one for invocations."""

    application: Application
    router: Router
    flush: Flush


def build(settings: Settings, literal: LiteralPort) -> Line:
    """Both lines with their parts, over one store."""
    data = settings.data
    keyring = Keyring.open(data.keys)
    store = compose.open_store(settings, ChangeSender(data.changes))
    clock = SystemClock()
    local = settings.database_url is None
    objects = ObjectApi(
        store,
        FileBlobs(data.blobs),
        account=settings.account,
        region=settings.region,
        clock=clock,
        reads_inline=local,
    )
    gateway = Gateway(
        keyring=keyring,
        services=compose.services(keyring, LogStreams(data.streams)),
        objects=objects,
        store=store,
        clock=clock,
        settings=settings,
        store_is_local=local,
        registry=Registry(keyring, Shelf(store, Files(data.registry), clock, settings.account, reads_inline=local)),
        literal=literal,
    )
    router = Router(store=store, keyring=keyring, clock=clock, settings=settings, store_is_local=local)
    return Line(gateway, router, compose.metrics_flush(router.counters, store, clock))


if __name__ == "__main__":
    main()
