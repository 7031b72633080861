"""Runs of a transform job without a server: a data directory with a bucket, driver processes, containers in threads."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from sagewright.app.transform_process import told_of
from sagewright.batch.driver import Driver
from sagewright.batch.reports import Report
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.core.errors import TransferError
from sagewright.core.ids import Account, Region, TransferId
from sagewright.objects.local import LocalObjects
from sagewright.settings import DataDir
from sagewright.store import object_rows
from sagewright.store.db import Database
from sagewright.store.resources import Tx
from sagewright.workloads.transfer import RunTransform

BUCKET = "bucket"
STARTED = "2026-01-02T03:04:05.600000Z"
GROUP, STREAM = "/aws/sagemaker/TransformJobs", "job/i-0-1/data-log"

Answer = Callable[[bytes], tuple[int, bytes]]


def record_io(content: bytes, part: int = 0) -> bytes:
    return struct.pack("<II", 0xCED7230A, part << 29 | len(content)) + content + b"\0" * (-len(content) % 4)


def tf_record(content: bytes) -> bytes:
    return struct.pack("<QI", len(content), 7) + content + struct.pack("<I", 9)


class Runs:
    """`put` objects, run a driver on them, look at `outputs`, `lines` and `errors`."""

    def __init__(self, folder: Path) -> None:
        self.data = DataDir(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.store = Database.open(self.data.database)
        self.objects = LocalObjects(self.store, FileBlobs(self.data.blobs))
        self.streams = LogStreams(self.data.streams)
        self.create_bucket(BUCKET)

    def create_bucket(self, name: str) -> None:
        made = {"name": name, "account": "000000000000", "region": "us-east-1", "settings": {}}
        self.store.write(lambda tx: object_rows.insert_bucket(tx, now=datetime.now(UTC), **made))

    def put(self, objects: Mapping[str, bytes], bucket: str = BUCKET) -> None:
        for key, data in objects.items():
            with self.objects.put_stream(bucket, key) as writer:
                writer.write(data)
                writer.commit()

    def outputs(self, prefix: str = "out/", bucket: str = BUCKET) -> dict[str, bytes]:
        return {
            each.key.removeprefix(prefix): self.read(each.key, bucket) for each in self.objects.list(bucket, prefix)
        }

    def read(self, key: str, bucket: str = BUCKET) -> bytes:
        with self.objects.open(bucket, key) as file:
            return file.read()

    def delete(self, key: str, bucket: str = BUCKET) -> None:
        def gone(tx: Tx) -> None:
            found, row = object_rows.find(tx, bucket, key)
            if found is not None and row is not None:
                object_rows.remove(tx, found, [row])

        self.store.write(gone)

    def job(self, *addresses: str, instance: int = 0, instances: int = 1, **more: Any) -> RunTransform:
        source = {"ContentType": "text/csv", "SplitType": "Line", **more.pop("TransformInput", {})}
        where = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/", **source.pop("S3DataSource", {})}
        request = {
            "TransformJobName": "job",
            "TransformInput": {"DataSource": {"S3DataSource": where}, **source},
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out", **more.pop("TransformOutput", {})},
            **more,
        }
        return RunTransform(
            TransferId(f"run-{instance}"),
            Account("000000000000"),
            Region("us-east-1"),
            self.data.workloads / "job" / str(instance),
            request,
            addresses,
            instance,
            instances,
            (GROUP, STREAM.replace("i-0", f"i-{instance}")),
            STARTED,
        )

    def another(self, job: RunTransform) -> RunTransform:
        """The same as another job."""
        return replace(job, root=self.data.workloads / "another" / str(job.instance))

    @contextmanager
    def process(self, job: RunTransform) -> Iterator[subprocess.Popen[bytes]]:
        """A driver as the controller starts it; killed at the end of the block."""
        lifeline, held = os.pipe()
        command = [sys.executable, "-m", "sagewright.app.transform", "--data", str(self.data.root), "--lifeline"]
        started = subprocess.Popen(
            [*command, str(lifeline)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(lifeline,)
        )
        os.close(lifeline)
        assert started.stdin is not None
        started.stdin.write(told_of(job))
        started.stdin.close()
        try:
            yield started
        finally:
            started.kill()
            started.wait()
            assert started.stdout is not None
            started.stdout.close()
            os.close(held)

    def run(self, job: RunTransform) -> dict[str, Any]:
        """Until it ends: what it told last, its last progress, and (`rss`) the most memory it had, in MB."""
        began, most = time.monotonic(), 0
        told: list[dict[str, Any]] = []
        with self.process(job) as running:
            assert running.stdout is not None
            for line in running.stdout:
                told.append(orjson.loads(line))
                most = max(most, _peak(running.pid))
            running.wait()
        progress = [each["progress"] for each in told if "progress" in each]
        seconds = time.monotonic() - began
        return {**told[-1], "progress": progress[-1] if progress else {}, "rss": most / 1000, "seconds": seconds}

    async def drive(self, job: RunTransform) -> tuple[str, dict[str, Any]]:
        """The same in this process: what went wrong, and the last progress."""
        told: list[Mapping[str, Any]] = [{}]
        try:
            await Driver(job, self.objects, Report(self.streams, job.log_stream, told.append)).run()
        except TransferError as error:
            return str(error), dict(told[-1])
        return "", dict(told[-1])

    def lines(self, stream: str = STREAM) -> list[str]:
        return [each.message.decode() for each in self.streams.read(GROUP, stream).events]

    def errors(self, stream: str = STREAM) -> list[dict[str, Any]]:
        if f"{stream}.errors.jsonl" not in self.streams.names(GROUP):
            return []
        return [orjson.loads(line) for line in self.lines(f"{stream}.errors.jsonl")]


def _peak(pid: int) -> int:
    """Kilobytes; 0 when it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


@contextmanager
def container(
    answer: Answer, parameters: bytes | None = None, *, slow: float = 0.0, tell_accept: bool = False
) -> Iterator[str]:
    """HOST:PORT of one that answers POST with what `answer` says, and GET /execution-parameters with `parameters`,
    `slow` seconds later. `tell_accept`: the answer begins with the request's Accept."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(slow)
            known = parameters is not None and self.path == "/execution-parameters"
            self.reply(200 if known else 404, parameters or b"")

        def do_POST(self) -> None:
            status, told = answer(self.body())
            accept = self.headers.get("Accept", "-").encode() + b"|" if tell_accept else b""
            self.reply(status, accept + told)

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers["Content-Length"]))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", self.headers.get("Content-Type") or "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *values: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # drivers are killed here

    served = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{served.server_address[1]}"
    finally:
        served.shutdown()
        served.server_close()
        thread.join()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(serve: Serve) -> AsyncIterator[str]:
    """HOST:PORT of one that does just this on each connection, from behind the request's first line; GET is a 404."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (await reader.readline()).startswith(b"GET"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            else:
                await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
