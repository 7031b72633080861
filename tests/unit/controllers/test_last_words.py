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
# What torchrun 2.2 and SDK v3's driver leave of a job in which rank 1 failed, cut in the middle.
TORCHRUN = """\
Traceback (most recent call last):
File "/opt/ml/input/data/code/train.py", line 4, in <module>
if rank==1: raise RuntimeError("bad batch 17: nan in column 3")
^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
RuntimeError: bad batch 17: nan in column 3
Traceback (most recent call last):
File "/opt/ml/input/data/code/train.py", line 6, in <module>
dist.all_reduce(x)
File "/usr/local/lib/python3.11/dist-packages/torch/distributed/distributed_c10d.py", line 1997, in all_reduce
work.wait()
RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [172.20.0.2]:949
[2026-11-28 04:00:19,962] torch.distributed.elastic.multiprocessing.api: [ERROR] failed (exitcode: 1) local_rank: 1
Traceback (most recent call last):
File "/usr/local/bin/torchrun", line 8, in <module>
sys.exit(main())
File "/usr/local/lib/python3.11/dist-packages/torch/distributed/launcher/api.py", line 268, in launch_agent
raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
REPORT
============================================================
Command failed with exit code 1. Traceback: Traceback (most recent call last):
  File "/opt/ml/input/data/sm_drivers/common/utils.py", line 193, in execute_commands
    raise subprocess.CalledProcessError(exitcode, commands)
subprocess.CalledProcessError: Command '['torchrun', '--nnodes=2', 'train.py']' returned non-zero exit status 1.

+++ handle_error
+++ exit 1
""".replace("REPORT", "exitcode  : 1 (pid: 20)\n" * 60)
OTHER_RANK = TORCHRUN[TORCHRUN.index("nan in column 3\nTraceback") + len("nan in column 3\n") :]
MPIRUN = """\
[1,mpirank:0,algo-1]<stdout>:epoch 1
[1,mpirank:1,algo-2]<stderr>:Traceback (most recent call last):
[1,mpirank:1,algo-2]<stderr>:  File "/opt/ml/code/train.py", line 8, in <module>
[1,mpirank:1,algo-2]<stderr>:ZeroDivisionError: division by zero
--------------------------------------------------------------------------
mpirun detected that one or more processes exited with non-zero status, thus causing the job to be terminated.
"""
CAUGHT = (
    """\
Traceback (most recent call last):
  File "/opt/program/train.py", line 3, in load
ConnectionError: the feature store is busy, trying again
"""
    + "epoch\n" * 30
)
DESTRUCTOR = """\
Traceback (most recent call last):
  File "/opt/program/train.py", line 3, in main
ValueError: negative depth
Exception ignored in: <function Pool.__del__ at 0x7f>
Traceback (most recent call last):
  File "/opt/program/train.py", line 30, in __del__
AttributeError: no workers
"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (TORCHRUN, "RuntimeError: bad batch 17: nan in column 3 (train.py, line 4)"),
        (
            OTHER_RANK,
            "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
            "[172.20.0.2]:949 (train.py, line 6)",
        ),
        (MPIRUN, "ZeroDivisionError: division by zero (train.py, line 8)"),
        (CAUGHT, ""),
        (CAUGHT + CHAINED, "table.errors.BadTable: no column x (train.py, line 9)"),
        (DESTRUCTOR, "ValueError: negative depth (train.py, line 3)"),
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
