"""What the router's measurements share: nginx as upstream and as peer, a gateway process, pre-signed requests.

The gateway is a process of its own with the router and nothing else: no controller, endpoint rows written here.
Needs nginx and wrk (Debian packages of these names).
"""

from __future__ import annotations

import gc
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import botocore.awsrequest
from botocore.auth import SigV4Auth
from botocore.credentials import Credentials

from sagewright.gateway.server import run
from support.router_bench import Bench, Fleeted

BODY = 1024  # bytes of a request and of its answer

_UPSTREAM = """
daemon off; worker_processes 1; pid {folder}/up.pid; error_log {folder}/up.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;
  server {{ listen 127.0.0.1:{port}; default_type text/csv; location / {{ return 200 '{answer}'; }} }} }}
"""
_PROXY = """
daemon off; worker_processes 1; pid {folder}/proxy.pid; error_log {folder}/proxy.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;
  upstream models {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-router-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs until the block ends; ready when the port answers."""
    started = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if started.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield started
    finally:
        started.terminate()
        started.wait(20)


@contextmanager
def nginx(folder: Path, name: str, template: str, **values: object) -> Iterator[int]:
    port = free_port()
    config = folder / f"{name}.conf"
    config.write_text(template.format(folder=folder, port=port, **values))
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    with process(binary, "-p", str(folder), "-c", str(config), port=port):
        yield port


@contextmanager
def field(folder: Path) -> Iterator[tuple[int, int, int, subprocess.Popen[bytes]]]:
    """Ports of the upstream, of nginx in front of it, and of the router in front of it; and the router's process."""
    with ExitStack() as stack:
        upstream = stack.enter_context(nginx(folder, "up", _UPSTREAM, answer="x" * BODY))
        proxy = stack.enter_context(nginx(folder, "proxy", _PROXY, upstream=upstream))
        port, router = stack.enter_context(gateway(folder, f"127.0.0.1:{upstream}"))
        yield upstream, proxy, port, router


@contextmanager
def gateway(folder: Path, *addresses: str, **router: object) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A gateway process whose endpoint `bench` has an instance at each address."""
    port = free_port()
    work = json.dumps({"folder": str(folder), "port": port, "addresses": addresses, "router": router})
    with process(sys.executable, __file__, work, port=port) as started:
        yield port, started


def signed(port: int, body: bytes, credentials: tuple[str, str, str], path: str = "invocations") -> bytes:
    """A whole request as botocore would send it."""
    url = f"http://127.0.0.1:{port}/endpoints/bench/{path}"
    request = botocore.awsrequest.AWSRequest("POST", url, data=body, headers={"Content-Type": "text/csv"})
    SigV4Auth(Credentials(*credentials), "sagemaker", "us-east-1").add_auth(request)
    lines = [f"POST /endpoints/bench/{path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def credentials(folder: Path) -> tuple[str, str, str]:
    kept = json.loads((folder / "credentials.json").read_text())
    return kept["access"], kept["secret"], kept["token"]


def _serve(work: dict[str, object]) -> None:
    place = Path(str(work["folder"]))
    bench = Bench(place / f"gateway-{work['port']}", **work["router"])
    keys = bench.credentials
    (place / "credentials.json").write_text(
        json.dumps({"access": keys.access_key, "secret": keys.secret_key, "token": keys.session_token})
    )
    instances = {f"i{number}": {"primary": address} for number, address in enumerate(work["addresses"])}
    bench.put("bench", Fleeted(instances=instances))
    gc.collect()
    gc.freeze()  # as app.gateway does
    listener = socket.create_server(("127.0.0.1", int(str(work["port"]))))
    run(bench.gateway, listener, bench.settings, bench.authority, hot_path=bench.router)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
