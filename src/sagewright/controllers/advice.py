"""What to change, told by a program's last log lines: one sentence for each mistake that people make often. Pure.

Source: contract A.2 and A.4 for the paths and files; public threads about failed jobs for the mistakes.
Owns: recognising, and the sentences. Does not own: the cause itself (`last_words`), the reason as a whole (`failure`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from sagewright.controllers.last_words import plain

Channels = Collection[str]
_Rule = tuple[re.Pattern[str], Callable[[re.Match[str], Channels], str]]

_MISSING: Final = r"No such file or directory|does not exist|not found|FileNotFound|cannot find|[Cc]an't open|Errno 2\b"
_NO_TRAIN: Final = (
    "SageMaker starts the image with one argument, `train`, and hands hyperparameters over in "
    "/opt/ml/input/config/hyperparameters.json: accept the argument."
)


def _always(sentence: str) -> Callable[[re.Match[str], Channels], str]:
    return lambda _found, _channels: sentence


def _named(sentence: str) -> Callable[[re.Match[str], Channels], str]:
    """With what the first group has found."""
    return lambda found, _channels: sentence.format(found[1])


def _channel(found: re.Match[str], channels: Channels) -> str:
    name = found[1].rstrip(".")
    piped = name.rpartition("_")[0]  # NAME_EPOCH
    if name in channels or piped in channels:
        given = name if name in channels else piped
        return f"The job has a channel {given}: compare the path with the keys of the objects under its S3Uri."
    has = f"it has {', '.join(sorted(channels))}" if channels else "it has none"
    return f"The job has no channel {name} ({has}): add it to InputDataConfig, or read one that is there."


_RULES: Final[tuple[_Rule, ...]] = (
    (re.compile(rf"(?:{_MISSING}).*?/opt/ml/input/data/([\w.-]+)"), _channel),
    (re.compile(rf"/opt/ml/input/data/([\w.-]+).*(?:{_MISSING})"), _channel),
    (
        re.compile(r"KeyError: '(SM_[A-Z_]+)'"),
        _named(
            "The variable {} is set by the package sagemaker-training, not by the platform: install it in the image, "
            "or read /opt/ml/input."
        ),
    ),
    (re.compile(r"error: unrecognized arguments: train\b|No such command 'train'"), _always(_NO_TRAIN)),
    (re.compile(r"unexpected extra argument \(?'?train\b|invalid choice: 'train'"), _always(_NO_TRAIN)),
    (
        re.compile(r"No module named '([\w.]+)'"),
        _named(
            "Install the package that has {} where the program runs: in the Dockerfile, or in the requirements file of "
            "the source folder or folder image."
        ),
    ),
    (
        re.compile(r"([\w.+-]+\.so[\w.]*): cannot open shared object file"),
        _named("Install the system package that has {} in the image."),
    ),
    (
        re.compile(r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found"),
        _named(
            "A part was built on a newer system than the image's ({}): build it in the image, or take a newer base."
        ),
    ),
    (
        re.compile(r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"),
        _always("The GPU's memory is full: use smaller batches, or an instance type with a larger GPU."),
    ),
    (
        re.compile(
            r"Found no NVIDIA driver|not compiled with CUDA|No CUDA GPUs are available|no CUDA-capable device|"
            r"CUDA driver version is insufficient|libcuda\.so|NVIDIA-SMI has failed"
        ),
        _always(
            "The program wants a GPU, and the container has none or its image no CUDA: let it use the CPU, or run it "
            "on a machine with a GPU and ask for an instance type that has one."
        ),
    ),
    (
        re.compile(r"DataLoader worker .*Bus error|unable to (?:open|write to) .*shared memory"),
        _always("/dev/shm is full: use fewer workers to load data, or an instance type with more memory."),
    ),
    (
        re.compile(
            r"^MemoryError|\bMemoryError:|std::bad_alloc|Cannot allocate memory|Unable to allocate|"
            r"DataLoader worker .*(?:Killed|SIGKILL)"
        ),
        _always("Use an instance type with more memory, or hold less data in memory at a time."),
    ),
    (
        re.compile(r"No space left on device"),
        _always(
            "The disk of the container, or its /dev/shm, was full: write less, or free space on this machine "
            "(`sagewright prune` shows what can go)."
        ),
    ),
    (
        re.compile(r"Read-only file system"),
        _always(
            "A program may write to /opt/ml/model, /opt/ml/output, /opt/ml/checkpoints and /tmp; FastFile channels and "
            "the model behind an endpoint are read-only."
        ),
    ),
    (
        re.compile(r"Permission denied: ['\"]?(/opt/ml[\w./-]*)"),
        _named(
            "{} belongs to root, as on SageMaker: leave USER out of the Dockerfile, or change the owner at the start."
        ),
    ),
    (
        re.compile(r"Temporary failure in name resolution|Could not resolve host|Network is unreachable"),
        _always("The container reached no network: EnableNetworkIsolation takes it away, or this machine has none."),
    ),
    (
        re.compile(
            r"TypeError: (?:'.+' not supported between instances of .*'str'|unsupported operand type\(s\) for .*'str'|"
            r"can't multiply sequence by non-int|'str' object cannot be interpreted as an integer)"
        ),
        _always(
            "If it is a hyperparameter: all of them are strings in hyperparameters.json; convert it with int() or "
            "float()."
        ),
    ),
)


def advice(lines: Sequence[str], channels: Channels = ()) -> str:
    """What to change, by the last line that any rule knows; empty when none does. `channels` are the job's."""
    for line in reversed(lines):
        text = plain(line)
        for pattern, told in _RULES:
            if found := pattern.search(text):
                return told(found, channels)
    return ""
