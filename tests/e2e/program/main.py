"""A user's program for the end-to-end tests, for both of its jobs.

train: what it does is told by the hyperparameter behaviour:
    ok | fail | fail-file | count | sleep | signal | memory | big | s3 | pipe
serve: by the variable BEHAVIOUR: echo | slow | fail | picky | mortal | env | die-at-start | never-healthy | wrong-port
"""

import hashlib
import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BASE = Path("/opt/ml")


def main() -> int:
    if sys.argv[1:] == ["serve"]:
        return serve(os.environ.get("BEHAVIOUR", "echo"))
    if sys.argv[1:] != ["train"]:
        print(f"usage: main.py train | serve, got {sys.argv[1:]}", flush=True)
        return 2
    parameters = json.loads((BASE / "input/config/hyperparameters.json").read_text())
    behaviour = parameters.get("behaviour", "ok")
    print(f"behaviour {behaviour} pid {os.getpid()} job {os.environ['TRAINING_JOB_NAME']}", flush=True)
    return {
        "ok": ok,
        "fail": fail,
        "fail-file": fail_file,
        "count": count,
        "sleep": sleep,
        "signal": die,
        "memory": memory,
        "big": big,
        "s3": s3,
        "pipe": pipe,
    }[behaviour](parameters)


def ok(parameters: dict) -> int:
    channels = json.loads((BASE / "input/config/inputdataconfig.json").read_text())
    for channel in sorted(channels):
        for path in sorted((BASE / "input/data" / channel).rglob("*")):
            if path.is_file():
                print(f"{channel}: {path.name} {path.stat().st_size} bytes", flush=True)
                if os.access(path, os.W_OK):  # FastFile is read-only
                    path.write_text("a channel is the container's own")
    print("loss=0.5;", flush=True)
    print("loss=0.25;", flush=True)
    (BASE / "model/model.txt").write_text(json.dumps(parameters))
    (BASE / "output/data/report.txt").write_text("fine")
    return 0


def fail(parameters: dict) -> int:
    print("the last words of a failing program", flush=True)
    return int(parameters.get("code", "3"))


def fail_file(parameters: dict) -> int:
    (BASE / "output/failure").write_text("the learning rate must be positive")
    return 1


def count(parameters: dict) -> int:
    """Numbered lines over some time, for exactly-once checks."""
    total, pause = int(parameters["lines"]), float(parameters["pause"])
    for number in range(total):
        print(f"line {number}", flush=True)
        time.sleep(pause)
    (BASE / "model/model.txt").write_text(str(total))
    return 0


def sleep(parameters: dict) -> int:
    """Until SIGTERM; then saves what it has and leaves."""

    def leave(*_: object) -> None:
        print("told to stop", flush=True)
        (BASE / "model/model.txt").write_text("half trained")
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    print("ready", flush=True)
    for _ in range(int(parameters.get("seconds", "60")) * 10):
        time.sleep(0.1)
    return 0


def die(parameters: dict) -> int:
    """A child dies by SIGSEGV and its status is passed on the way a shell does it."""
    import subprocess

    child = subprocess.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"])
    return 128 - child.returncode


def memory(parameters: dict) -> int:
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024 * 1024))


def big(parameters: dict) -> int:
    """A model that does not compress."""
    with (BASE / "model/model.bin").open("wb") as file:
        for _ in range(int(parameters["megabytes"])):
            file.write(os.urandom(1024 * 1024))
    return 0


def s3(parameters: dict) -> int:
    """Uses AWS from the inside, with nothing but what the container was given."""
    import boto3

    print(boto3.client("sts").get_caller_identity()["Arn"], flush=True)
    boto3.client("s3").put_object(Bucket=parameters["bucket"], Key="from-inside", Body=b"hello")
    return 0


def pipe(parameters: dict) -> int:
    """Reads epochs of every Pipe channel to their ends, or `limit` bytes of each; `pause` seconds after each piece."""
    channels = json.loads((BASE / "input/config/inputdataconfig.json").read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    limit, pause = int(parameters.get("limit", str(1 << 60))), float(parameters.get("pause", "0"))
    told = {}
    for epoch in range(int(parameters.get("epochs", "1"))):
        for channel in sorted(name for name, each in channels.items() if each["TrainingInputMode"] == "Pipe"):
            path = BASE / f"input/data/{channel}_{epoch}"
            while not path.exists():
                time.sleep(0.01)
            digest, size = hashlib.sha256(), 0
            with path.open("rb", buffering=0) as stream:
                while size < limit and (piece := stream.read(min(1 << 16, limit - size))):
                    digest.update(piece)
                    size += len(piece)
                    if size == len(piece):
                        print(f"reading {channel}_{epoch}", flush=True)
                    time.sleep(pause)
            told[path.name] = [size, digest.hexdigest()]
            print(f"read {path.name}: {size} bytes", flush=True)
    host = json.loads((BASE / "input/config/resourceconfig.json").read_text())["current_host"]
    (BASE / f"model/read-{host}.json").write_text(json.dumps(told))
    return 0


def serve(behaviour: str) -> int:
    """A model server of the standard library. Its model is whatever /opt/ml/model/model.txt says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path = BASE / "model/model.txt"
    model = path.read_text() if path.exists() else "no model"
    print(f"serves {model!r} as {behaviour}, pid {os.getpid()}", flush=True)
    if behaviour == "die-at-start":
        print("cannot load the model: the file is from another version", flush=True)
        return 7
    handler = type("Handler", (Handler,), {"behaviour": behaviour, "model": model})
    Models(
        ("0.0.0.0", 9999 if behaviour == "wrong-port" else int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))),
        handler,
    ).serve_forever()
    return 0


class Models(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """GET /ping and POST /invocations. X-Amzn-SageMaker-Custom-Attributes says more: "status=418", "sleep=0.5",
    "stream=5" (that many pieces, a moment between them)."""

    protocol_version = "HTTP/1.1"
    behaviour = "echo"
    model = ""

    def do_GET(self) -> None:
        if self.path == "/execution-parameters" and self.behaviour == "parameters":
            self.answer(200, b'{"MaxConcurrentTransforms":3,"BatchStrategy":"SINGLE_RECORD","MaxPayloadInMB":1}')
        elif self.path != "/ping":
            self.answer(404, b"not found")
        elif self.behaviour == "never-healthy":
            self.answer(500, b"the weights are not loaded")
        else:
            self.answer(200, b"")

    def do_POST(self) -> None:
        body = self.body()
        asked = dict(
            pair.split("=", 1)
            for pair in self.headers.get("X-Amzn-SageMaker-Custom-Attributes", "").split(",")
            if "=" in pair
        )
        if self.behaviour == "env":
            body = json.dumps(dict(os.environ)).encode()
        if self.behaviour == "picky" and b"bad" in body:
            self.answer(400, b"cannot convert 'bad' to a number")
            return
        if self.behaviour == "mortal" and b"die" in body:
            print("the weights became NaN", flush=True)
            os._exit(3)
        if self.behaviour == "slow":
            time.sleep(0.2)
        time.sleep(float(asked.get("sleep", "0")))
        if "stream" in asked:
            self.stream(body, int(asked["stream"]))
        elif self.behaviour == "fail":
            print("the model could not answer", flush=True)
            self.answer(500, b"a tensor has the wrong shape")
        else:
            self.answer(int(asked.get("status", "200")), body)

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.headers.get("Content-Type") or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", f"{socket.gethostname()} {self.model}"[:200])
        self.end_headers()
        self.wfile.write(body)

    def stream(self, body: bytes, pieces: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(pieces):
            piece = b"%d:%s;" % (number, body)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, form: str, *values: object) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())
