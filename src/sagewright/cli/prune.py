"""`prune`: show what nobody needs any more, and remove it once that was agreed to."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sagewright.app import state
from sagewright.app.compose import open_store
from sagewright.app.leftovers import Leftover, Leftovers
from sagewright.cli import output
from sagewright.cli.server import data_dir
from sagewright.core.errors import SettingsError

_NAMED = 5  # of each kind, in the table


def prune(data: Path | None, *, dry_run: bool, yes: bool, logs_days: float, as_json: bool) -> None:
    """Removes nothing without `yes` or an answer from the terminal."""
    folder = data_dir(data)
    if not folder.database.exists() and not folder.root.exists():
        raise SettingsError(f"there is no data directory {folder.root}. Say which one with --data.")
    settings = state.load_settings(folder)
    store = open_store(settings)
    try:
        leftovers = Leftovers(settings, store)
        found = leftovers.find(datetime.now(UTC) - timedelta(days=logs_days))
        if as_json:
            print(json.dumps([asdict(each) for each in found], indent=2))
        else:
            _show(found)
        if found and not dry_run and (yes or _agreed(as_json)):
            freed = leftovers.remove(found)
            print(f"Removed. {output.size(freed)} are free again.", file=sys.stderr if as_json else sys.stdout)
        for problem in leftovers.problems:
            print(f"sagewright: {problem}", file=sys.stderr)
    finally:
        store.close()
    if leftovers.problems:
        sys.exit(1)


def _show(found: list[Leftover]) -> None:
    if not found:
        print("Nothing to remove.")
        return
    rows = []
    for what in dict.fromkeys(each.what for each in found):
        some = [each for each in found if each.what == what]
        names = ", ".join(each.name for each in some[:_NAMED]) + (", …" if len(some) > _NAMED else "")
        rows.append((what, str(len(some)), output.size(sum(each.bytes for each in some)), names))
    output.show(("WHAT", "HOW MANY", "BYTES", "WHICH"), rows, elastic=("WHICH",))
    print(f"\n{output.size(sum(each.bytes for each in found))} in {len(found)} things.")


def _agreed(as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        print("Nothing was removed: say --yes to remove it.", file=sys.stderr)
        return False
    return input("Remove all of it? [y/N] ").strip().lower() in {"y", "yes"}
