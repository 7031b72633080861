"""Train a small neural network on images of digits, the way SageMaker runs a training container.

Reads  input/config/hyperparameters.json (all values are strings), input/data/training/*.csv if that channel is there.
Writes model/model.joblib, output/data/metrics.json, and output/failure when it fails.
On SIGTERM (StopTrainingJob) it saves what it has and ends well.
"""

import json
import signal
import sys
import time
import traceback

import joblib
import numpy as np
from digits import BASE, MODEL, PIXELS, read_rows, scaled
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

DEFAULTS = {"epochs": 20, "batch-size": 32, "learning-rate": 0.002, "hidden": 64, "seed": 0}


def main():
    try:
        train()
    except Exception as error:
        traceback.print_exc()
        failure = BASE / "output" / "failure"
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(f"{type(error).__name__}: {error}")
        sys.exit(1)


def train():
    wishes = hyperparameters()
    print("hyperparameters:", json.dumps(wishes))
    images, labels = data()
    seen, held_out, seen_labels, held_out_labels = train_test_split(
        images, labels, test_size=0.2, random_state=wishes["seed"], stratify=labels
    )
    print(f"training on {len(seen)} images, validating on {len(held_out)}")
    stop = watch_for_stop()
    network = MLPClassifier(
        (wishes["hidden"],), learning_rate_init=wishes["learning-rate"], random_state=wishes["seed"]
    )
    network.partial_fit(seen[:1], seen_labels[:1], classes=np.unique(labels))  # from here on it can be saved
    shuffle = np.random.default_rng(wishes["seed"])
    history = []
    for epoch in range(1, wishes["epochs"] + 1):
        began = time.monotonic()
        losses = []
        for batch in batches(shuffle.permutation(len(seen)), wishes["batch-size"]):
            network.partial_fit(seen[batch], seen_labels[batch])
            losses.append(network.loss_)
            if stop:
                break
        loss, accuracy = float(np.mean(losses)), network.score(held_out, held_out_labels)
        history.append({"epoch": epoch, "train_loss": loss, "validation_accuracy": accuracy})
        seconds = time.monotonic() - began
        print(f"epoch={epoch} train_loss={loss:.4f} validation_accuracy={accuracy:.4f} seconds={seconds:.2f}")
        if stop:
            print("asked to stop: saving what there is")
            break
    save(network, history)


def hyperparameters():
    """The defaults, overridden by strings from the request and turned back into numbers."""
    path = BASE / "input" / "config" / "hyperparameters.json"
    given = json.loads(path.read_text()) if path.exists() else {}
    wishes = dict(DEFAULTS)
    for name, default in DEFAULTS.items():
        try:
            wishes[name] = type(default)(given.get(name, default))
        except ValueError:
            raise ValueError(f"hyperparameter {name} must be a number like {default}, not {given[name]!r}") from None
        if wishes[name] <= 0 and name != "seed":
            raise ValueError(f"hyperparameter {name} must be more than 0, not {given[name]!r}")
    return wishes


def data():
    """(images, labels) from the `training` channel; without one, the 1797 digits that scikit-learn brings."""
    channel = BASE / "input" / "data" / "training"
    if not channel.is_dir():
        bundled = load_digits()
        return scaled(bundled.data), bundled.target
    files = sorted(channel.rglob("*.csv"))
    if not files:
        raise ValueError("the channel `training` holds no .csv file: upload one (see make_data.py)")
    tables = []
    for file in files:
        try:
            tables.append(read_rows(file.read_text().splitlines(), 1 + PIXELS))
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from None
    table = np.concatenate(tables)
    return scaled(table[:, 1:]), table[:, 0].astype(int)


def batches(order, size):
    for start in range(0, len(order), size):
        yield order[start : start + size]


def watch_for_stop():
    """A list that is empty until SIGTERM comes."""
    signals = []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    return signals


def save(network, history):
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(network, MODEL)
    metrics = BASE / "output" / "data" / "metrics.json"
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps({"final": history[-1], "epochs": history}, indent=2))
    print(f"saved {MODEL}: validation_accuracy={history[-1]['validation_accuracy']:.4f} after {len(history)} epochs")
