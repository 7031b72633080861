"""A user's training script, for the script modes of the SDKs: it tells what it was given, and leaves a model."""

import argparse
import json
import os
import sys
from pathlib import Path

import greeting

parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, required=True)
parser.add_argument("--name")
arguments = parser.parse_args()
print(greeting.text(arguments.name), flush=True)
channel = Path(os.environ["SM_CHANNEL_TRAINING"])
told = {
    "depth": arguments.depth,
    "name": arguments.name,
    "rows": sum(len(path.read_text().splitlines()) for path in sorted(channel.rglob("*.csv"))),
    "host": os.environ["SM_CURRENT_HOST"],
    "hosts": json.loads(os.environ["SM_HOSTS"]),
    "driver": os.environ.get("OWN_DRIVER", ""),
    "python": sys.version_info[:2],
}
print("told", json.dumps(told), flush=True)
Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps(told))
if arguments.name == "fails":
    raise ValueError("the data has no column of that name")
