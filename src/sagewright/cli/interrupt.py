"""`interrupt`: a simulated spot interruption. AWS has no call for it, so it is written into the job's row here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sagewright.app import state
from sagewright.app.compose import open_store
from sagewright.cli.server import data_dir, option
from sagewright.core.errors import SettingsError
from sagewright.store.changes import ChangeSender
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Tx


def interrupt(data: Path | None, name: str) -> None:
    """Raises SettingsError when the job cannot be interrupted."""
    folder = data_dir(data)
    if state.load_running(folder) is None:
        raise SettingsError(f"no server runs on {folder.root}. Start one: sagewright up --detach{option(folder)}")
    settings = state.load_settings(folder)
    sender = ChangeSender(folder.changes)
    store = open_store(settings, sender)

    def wish(tx: Tx) -> None:
        row = tx.find(kind.key(settings.account, settings.region, name))
        if row is None:
            raise SettingsError(f"there is no training job named {name}. `sagewright jobs` shows those there are.")
        if row.state != kind.IN_PROGRESS:
            raise SettingsError(f"{name} is {row.state}: only a job that is InProgress can be interrupted.")
        if not row.spec["request"].get("EnableManagedSpotTraining"):
            raise SettingsError(f"{name} does not run on spot instances: create it with EnableManagedSpotTraining.")
        interrupts = kind.TrainingSpec.from_row(row.spec).interrupts + 1
        tx.update_spec(row, {**row.spec, "interrupts": interrupts}, now=datetime.now(UTC))

    try:
        store.write(wish)
    finally:
        store.close()
        sender.close()
    print(f"{name} is interrupted: its program gets SIGTERM, and 2 minutes; then it begins anew from its checkpoints.")
