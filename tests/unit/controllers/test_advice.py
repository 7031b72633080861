"""What a failure's reason says to change, for the mistakes that people make often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.controllers import failure
from sagewright.controllers.advice import advice

RAISED = ("Traceback (most recent call last):", '  File "/opt/program/train.py", line 7, in <module>')


def reason(*lines: str, code: int = 1, channels: tuple[str, ...] = ("training", "validation")) -> str:
    text = failure.of_algorithm(code, "", lines, channels=channels)
    assert len(text) <= failure.LIMIT
    return text.removeprefix("AlgorithmError: ").partition(" Last log lines:")[0]


def missing(path: str) -> str:
    return f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'"


def test_a_channel_that_the_job_does_not_have() -> None:
    told = reason(*RAISED, missing("/opt/ml/input/data/train/a.csv"))
    assert told.startswith("FileNotFoundError: ")
    assert "The job has no channel train (it has training, validation): add it to InputDataConfig" in told
    assert "(it has none)" in reason(*RAISED, missing("/opt/ml/input/data/train"), channels=())


@pytest.mark.parametrize("path", ["training/a.csv", "training_0"])
def test_a_channel_that_the_job_has(path: str) -> None:
    told = reason(*RAISED, missing(f"/opt/ml/input/data/{path}"))
    assert "The job has a channel training: compare the path with the keys" in told


def test_the_cause_of_another_exception_is_enough_to_tell_what_to_change() -> None:
    first = (*RAISED, missing("/opt/ml/input/data/train/a.csv"))
    told = reason(*first, "", "The above exception was the direct cause of …", "", *RAISED, "RuntimeError: no data")
    assert told.startswith("RuntimeError: no data (train.py, line 7). The job has no channel train (")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ModuleNotFoundError: No module named 'xgboost.sklearn'", "Install the package that has xgboost.sklearn"),
        ("OSError: libgomp.so.1: cannot open shared object file: No such file or directory", "that has libgomp.so.1"),
        ("ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /x.so)", "(GLIBC_2.34)"),
        ("AssertionError: Torch not compiled with CUDA enabled", "let it use the CPU"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "let it use the CPU"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "use smaller batches"),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error.", "/dev/shm is full"),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.", "with more memory"),
        ("MemoryError", "with more memory"),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array", "with more memory"),
        ("OSError: [Errno 28] No space left on device", "`sagewright prune`"),
        ("OSError: [Errno 30] Read-only file system: '/opt/ml/input/data/x/y'", "may write to /opt/ml/model"),
        ("PermissionError: [Errno 13] Permission denied: '/opt/ml/model/x'", "/opt/ml/model/x belongs to root"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "EnableNetworkIsolation"),
        ("KeyError: 'SM_CHANNEL_TRAIN'", "SM_CHANNEL_TRAIN is set by the package sagemaker-training"),
        ("TypeError: '<' not supported between instances of 'int' and 'str'", "convert it with int()"),
        ("TypeError: unsupported operand type(s) for /: 'str' and 'int'", "convert it with int()"),
    ],
)
def test_an_exception_is_followed_by_what_to_change(line: str, words: str) -> None:
    told = reason(*RAISED, line)
    assert told.startswith(line.rstrip("."))
    assert words in told


def test_what_only_warned_before_the_exception_is_not_taken_for_its_cause() -> None:
    warned = "W tensorflow: Could not load dynamic library 'libcuda.so.1'; libcuda.so.1: cannot open shared object file"
    assert reason(warned, *RAISED, "ValueError: no rows") == "ValueError: no rows (train.py, line 7)."


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        (
            ("usage: t.py [-h]", "t.py: error: the following arguments are required: --epochs"),
            2,
            "t.py: error: the following arguments are required: --epochs.",
        ),
        (("usage: t.py [-h]", "t.py: error: unrecognized arguments: train"), 2, "accept the argument."),
        (("Usage: t.py", "Error: Got unexpected extra argument (train)"), 2, "accept the argument."),
        (
            ("./a: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file",),
            127,
            "Install the system package that has libz.so.1 in the image.",
        ),
        (("terminate called after throwing an instance of 'std::runtime_error'", "  what():  bad"), 134, "bad."),
        (("terminate called after throwing", "  what():  std::bad_alloc"), 134, "less data in memory at a time."),
        (("a: a.c:3: main: Assertion `x > 0' failed.",), 134, "a: a.c:3: main: Assertion `x > 0' failed."),
        (("free(): invalid pointer",), 139, "free(): invalid pointer."),
        (("tar: /x: write error: No space left on device",), 1, "(`sagewright prune` shows what can go)."),
    ],
)
def test_programs_that_raise_nothing_tell_too(lines: tuple[str, ...], code: int, told: str) -> None:
    assert reason(*lines, code=code).endswith(told)


def test_a_group_of_exceptions_is_read() -> None:
    lines = (
        "  + Exception Group Traceback (most recent call last):",
        '  |   File "/prog.py", line 57, in <module>',
        '  |     raise ExceptionGroup("many", [ValueError("a")])',
        "  | ExceptionGroup: many (1 sub-exception)",
        "  +-+---------------- 1 ----------------",
        "    | ValueError: a",
    )
    assert reason(*lines) == "ExceptionGroup: many (1 sub-exception) (prog.py, line 57)."


@given(st.lists(st.text(max_size=200), max_size=10), st.sets(st.text(max_size=10), max_size=3))
def test_any_line_is_read(lines: list[str], channels: set[str]) -> None:
    assert isinstance(advice(lines, channels), str)
