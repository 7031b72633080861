"""A registry of one image, on loopback: enough of the OCI distribution API for an engine to pull from.

It can hold back the layers until `gate` is set, and ask for a user name and password.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.images import BUSYBOX, engine

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class SmallRegistry:
    """The image is `NAME`: the engine's busybox, with one more layer so that the engine has not all of it."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()  # a layer was asked for
        self._login = login
        self._blobs: dict[str, bytes] = {}
        self.manifest = self._make_image()
        self.digest = _digest(self.manifest)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.name = f"{self.host}/team/image:1"

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        engine("DELETE", f"/images/{self.name}?force=1")

    def _make_image(self) -> bytes:
        _, saved = engine("GET", f"/images/{BUSYBOX}/get")
        with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
            listed = json.loads(_member(tar, "manifest.json"))[0]
            config = json.loads(_member(tar, listed["Config"]))
            layers = [_member(tar, path) for path in listed["Layers"]]
        layers.append(_own_layer(self))
        config["rootfs"]["diff_ids"] = [_digest(layer) for layer in layers]
        config["history"] = []
        described = [self._add(gzip.compress(layer, mtime=0), _LAYER) for layer in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._add(json.dumps(config).encode(), _CONFIG),
            "layers": described,
        }
        return json.dumps(manifest).encode()

    def _add(self, blob: bytes, kind: str) -> dict[str, Any]:
        self._blobs[_digest(blob)] = blob
        return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        if self._login and authorization != "Basic " + base64.b64encode(":".join(self._login).encode()).decode():
            return 401, {"WWW-Authenticate": 'Basic realm="test"'}, b'{"errors": [{"code": "UNAUTHORIZED"}]}'
        if path == "/v2/":
            return 200, {}, b"{}"
        if path.startswith("/v2/team/image/manifests/") and path.endswith(("/1", self.digest)):
            return 200, {"Content-Type": _MANIFEST, "Docker-Content-Digest": self.digest}, self.manifest
        blob = self._blobs.get(path.rpartition("/")[2])
        if blob is None:
            return 404, {}, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
        self.asked.set()
        self.gate.wait(60)
        return 200, {"Content-Type": "application/octet-stream"}, blob

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, headers, body = registry.answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                for name, value in ({"Docker-Distribution-Api-Version": "registry/2.0"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the engine gave up: its pull was cancelled
                    self.close_connection = True

        return Handler


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    found = tar.extractfile(name)
    assert found
    return found.read()


def _own_layer(owner: object) -> bytes:
    """A layer that no engine has seen."""
    archive = io.BytesIO()
    content = f"{id(owner)} {threading.get_ident()}".encode() + hashlib.sha256(repr(owner).encode()).digest()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("unique")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
