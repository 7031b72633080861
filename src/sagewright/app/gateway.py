"""One gateway process: `python -m sagewright.app.gateway`, started by the supervisor with the listening socket."""

from __future__ import annotations

import gc
import socket

from sagewright.app import child, compose
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.core.clock import SystemClock
from sagewright.core.credentials import Keyring
from sagewright.gateway.application import Gateway
from sagewright.gateway.asgi import Application
from sagewright.gateway.authority import Authority
from sagewright.gateway.server import run
from sagewright.objects.api import ObjectApi
from sagewright.settings import Settings
from sagewright.store.changes import ChangeSender


def main() -> None:
    started = child.start("gateway")
    assert started.listen is not None, "the supervisor passes the socket"
    settings = started.settings
    authority = Authority(settings.data.keys, settings.outer_bundle)
    application = build(settings)
    gc.collect()
    gc.freeze()  # what is loaded now lives as long as the process: no need to look at it again and again
    run(application, socket.socket(fileno=started.listen), settings, authority)


def build(settings: Settings) -> Application:
    """The straight line with its parts."""
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
    return Gateway(
        keyring=keyring,
        services=compose.services(keyring, LogStreams(data.streams)),
        objects=objects,
        store=store,
        clock=clock,
        settings=settings,
        store_is_local=local,
    )


if __name__ == "__main__":
    main()
