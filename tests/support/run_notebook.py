"""Execute a notebook cell by cell, as a person does, and show each cell and what it prints while it runs.

    run_notebook.py NOTEBOOK RESULT PYTHON

Run by an interpreter that has nbclient and ipykernel (`scripts/sdk-venvs notebook`). The notebook itself runs in
PYTHON, which has the SDK: it takes ipykernel from here, behind everything of its own. RESULT is the notebook with its
outputs, also when a cell fails; then the exit status is 1.
"""

import json
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

KERNEL = "import sys; sys.path.append({site!r}); from ipykernel.kernelapp import main; main()"
DIM, BOLD, PLAIN = ("\x1b[2m", "\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


def main(source: str, result: str, python: str) -> int:
    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        name = kernel(Path(folder), python)
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name=name,
            resources={"metadata": {"path": str(Path(source).resolve().parent)}},
            on_cell_start=show,
        )
        try:
            client.execute()
        except CellExecutionError as error:
            print(error, flush=True)
            return 1
        finally:
            nbformat.write(notebook, result)
    return 0


def kernel(folder: Path, python: str) -> str:
    """A kernel that runs in `python` and echoes what it prints to the terminal."""
    spec = folder / "kernels" / "sdk"
    spec.mkdir(parents=True)
    code = KERNEL.format(site=sysconfig.get_path("platlib"))
    options = ["-f", "{connection_file}", "--IPKernelApp.quiet=False", "--IPKernelApp.log_level=ERROR"]
    described = {"display_name": "SDK", "language": "python", "argv": [python, "-c", code, *options]}
    (spec / "kernel.json").write_text(json.dumps(described))
    os.environ["JUPYTER_PATH"] = str(folder)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    return "sdk"


def show(cell: nbformat.NotebookNode, cell_index: int) -> None:
    """Prose in bold, code dim and behind a line, on a terminal."""
    if cell.cell_type == "markdown":
        print(f"\n{BOLD}{cell.source}{PLAIN}", flush=True)
    else:
        print("\n" + "\n".join(f"{DIM}| {line}{PLAIN}" for line in cell.source.splitlines()), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
