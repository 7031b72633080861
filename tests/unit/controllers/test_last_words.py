"""What is read out of the end of a log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.controllers.last_words import has_windows_line_ends, plain, raised

# As IPython 9 prints it through nbconvert 7, at the end of nbconvert's own traceback.
NOTEBOOK = """\
  File "/usr/local/lib/python3.11/dist-packages/nbclient/client.py", line 918, in _check_raise_for_error
    raise CellExecutionError.from_cell_and_msg(cell, exec_reply_content)
nbclient.exceptions.CellExecutionError: An error occurred while executing the following cell:
------------------
epochs = int(given.get("epochs", 12))
------------------


\x1b[31m---------------------------------------------------------------------------\x1b[39m
\x1b[31mValueError\x1b[39m                                Traceback (most recent call last)
\x1b[36mCell\x1b[39m\x1b[36m \x1b[39m\x1b[32mIn[2]\x1b[39m\x1b[32m, line 3\x1b[39m
\x1b[32m      1\x1b[39m file = Path(\x1b[33m"/opt/ml/input/config/hyperparameters.json"\x1b[39m)
\x1b[32m----> \x1b[39m\x1b[32m3\x1b[39m epochs = int(given.get(\x1b[33m"epochs"\x1b[39m, \x1b[32m12\x1b[39m))

\x1b[31mValueError\x1b[39m: invalid literal for int() with base 10: 'many'
"""
OLD_NOTEBOOK = """\
---------------------------------------------------------------------------
FileNotFoundError                         Traceback (most recent call last)
Input In [4], in <cell line: 2>()
      1 import pandas
----> 2 pandas.read_csv("nothing.csv")

File /usr/lib/python3/dist-packages/pandas/io/parsers/readers.py:586, in read_csv(path)
    584 if chunksize:
--> 586 return _read(path)

FileNotFoundError: [Errno 2] No such file or directory: 'nothing.csv'
"""
CHAINED = """\
Traceback (most recent call last):
  File "/opt/program/train.py", line 3, in load
    return rows["x"]
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/program/train.py", line 9, in main
    load()
  File "/usr/local/lib/python3.11/site-packages/table.py", line 77, in load
    raise BadTable("no column x")
table.errors.BadTable: no column x.
2026-01-01 the launcher ends with code 1
"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (NOTEBOOK, "ValueError: invalid literal for int() with base 10: 'many' (notebook cell [2], line 3)"),
        (
            OLD_NOTEBOOK,
            "FileNotFoundError: [Errno 2] No such file or directory: 'nothing.csv' (notebook cell [4], line 2)",
        ),
        (CHAINED, "table.errors.BadTable: no column x (train.py, line 9)"),
        ('  File "/x/lib/python3.11/site-packages/a.py", line 2, in f\n    g()\nqueue.Empty\n', "queue.Empty"),
        ("epoch 1\nValueError: this is only a line\n", ""),
        ('  File "train.py", line 2, in f\n', ""),
        ("", ""),
    ],
)
def test_the_last_exception_and_the_last_place_that_is_the_user_s(log: str, told: str) -> None:
    assert raised(log.splitlines()) == told


def test_a_traceback_of_this_python(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import json\n\njson.loads('{')\n")
    done = subprocess.run([sys.executable, str(tmp_path / "train.py")], capture_output=True, text=True)
    assert raised(done.stderr.splitlines()).startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert raised(done.stderr.splitlines()).endswith("(train.py, line 3)")


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("script", ["set -e\necho hi\n", "\n./train x\n", "python3 -c 1\n./missing.sh\n"])
def test_a_shell_that_stumbles_over_carriage_returns(tmp_path: Path, shell: str, script: str) -> None:
    (tmp_path / "windows.sh").write_bytes(script.replace("\n", "\r\n").encode())
    (tmp_path / "unix.sh").write_text(script)
    windows, unix = (
        subprocess.run([shell, name], capture_output=True, cwd=tmp_path).stderr.decode().split("\n")
        for name in ("windows.sh", "unix.sh")
    )
    assert has_windows_line_ends(windows)
    assert not has_windows_line_ends(unix)


@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_log_can_be_read(lines: list[str]) -> None:
    raised(lines)
    has_windows_line_ends(lines)
    assert "\x1b[" not in plain("\x1b[31m" + "".join(lines).replace("\x1b", ""))
