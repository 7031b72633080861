"""A user's training program for the end-to-end tests: what it does is told by hyperparameters (all of them strings).

behaviour: ok | fail | fail-file | count | sleep | signal | memory
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

BASE = Path("/opt/ml")


def main() -> int:
    if sys.argv[1:] != ["train"]:
        print(f"usage: main.py train, got {sys.argv[1:]}", flush=True)
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
    }[behaviour](parameters)


def ok(parameters: dict) -> int:
    channels = json.loads((BASE / "input/config/inputdataconfig.json").read_text())
    for channel in sorted(channels):
        for path in sorted((BASE / "input/data" / channel).rglob("*")):
            if path.is_file():
                print(f"{channel}: {path.name} {path.stat().st_size} bytes", flush=True)
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


if __name__ == "__main__":
    sys.exit(main())
