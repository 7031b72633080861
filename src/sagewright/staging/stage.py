"""Staging inputs: build /opt/ml of one workload beside its place, then move it there in one step.

    ROOT.partial/   built here; a cut-off one is thrown away by the next attempt
    ROOT            exists only when all of it is there
    inputs, changes beside ROOT, when channels are layered: links to stored objects, and a place for what a container
                    changes in them (`workloads.layers`); complete before ROOT is

Owns: the folder tree, config files and channels on disk. Does not own: what the config files say
(`workloads.container`), which objects a channel has (`channels`), which one becomes which file (`plan`), when it is
done (`transfers`).

Modes: the contract's own folders are open to every user of the container, because images may run as any uid and must
be able to write there (contract 0.2, 0.6); what lies above ROOT keeps other users of this machine out. Data is
0755 and 0644.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Final

from sagewright.core.errors import NotFound, TransferError
from sagewright.staging import disk
from sagewright.staging.channels import plan_input, plan_restore
from sagewright.staging.meter import Meter
from sagewright.staging.mirror import RECORD as MIRRORS
from sagewright.staging.mirror import record_restored
from sagewright.staging.pipes import RECORD as PIPES
from sagewright.staging.pipes import record_pipes
from sagewright.staging.plan import ChannelPlan
from sagewright.staging.source import ObjectStore, StoredObject
from sagewright.workloads import layers
from sagewright.workloads.transfer import StageInputs

OPEN: Final = 0o777
CLOSED: Final = 0o711  # may be passed through by who knows the name, as a container's own users must
_COPIERS: Final = 4
_BATCH: Final = 64  # objects a copier takes at a time


def stage(transfer: StageInputs, objects: ObjectStore, meter: Meter, trash: Path) -> None:
    """Raises TransferError, Cancelled, OSError, StoreError. Afterwards `transfer.root` is complete."""
    root = transfer.root
    partial = root.with_name(f"{root.name}.partial")
    disk.make_folder(root.parent, CLOSED)
    for leftover in (partial, root, root.with_name(PIPES), root.with_name(MIRRORS), *layers.folders(root)):
        disk.set_aside(leftover, trash)
    plans = [(each.channel, plan_input(each, transfer, objects)) for each in transfer.channels if not each.pipe]
    restored = [(each.folder, plan_restore(each, objects)) for each in transfer.mirrors if each.restore]
    meter.total = sum(plan.size for _, plan in (*plans, *restored))
    _build_tree(transfer, partial)
    for channel, plan in plans:
        folder = _make_layers(root, channel) if transfer.layered else partial / "input" / "data" / channel
        _fill_channel(plan, folder, objects, meter, link=transfer.layered)
    record_pipes(transfer, objects, partial / "input" / "data", meter)
    for name, plan in restored:
        _fill_channel(plan, partial / name, objects, meter, link=False)
        _open_all(plan, partial / name)
    record_restored(partial, transfer.mirrors, root)
    for folder in transfer.beside:
        disk.make_folder(folder.parent, CLOSED)
        disk.make_folder(folder, OPEN)
        disk.keep_access(folder)
    meter.check()
    partial.rename(root)


def _build_tree(transfer: StageInputs, partial: Path) -> None:
    """The folders of the contract, each open, and the config files in them."""
    above_files = (name.rpartition("/")[0] for name in transfer.files)
    channels = (f"input/data/{each.channel}" for each in transfer.channels if not each.pipe)
    wanted = {level: None for name in (*transfer.folders, *channels, *above_files) for level in _levels(name)}
    for name in ("", *wanted):
        disk.make_folder(partial / name, OPEN)
        disk.keep_access(partial / name)
    for name, content in transfer.files.items():
        disk.write_file(partial / name, content)


def _make_layers(root: Path, channel: str) -> Path:
    """The folder for the channel's links. What is merged of two folders has the upper one's mode."""
    links, changes = layers.links(root, channel), layers.changes(root, channel)
    for folder in (links, changes / "upper", changes / "work"):
        disk.make_folder(folder, OPEN)
        disk.keep_access(folder)
    return links


def _levels(path: str) -> Iterator[str]:
    """`a/b/c` → `a`, `a/b`, `a/b/c`."""
    pieces = path.split("/")
    return ("/".join(pieces[:count]) for count in range(1, len(pieces) + 1))


def _fill_channel(plan: ChannelPlan, folder: Path, objects: ObjectStore, meter: Meter, *, link: bool) -> None:
    for name in plan.folders:
        disk.make_folder(folder / name, 0o755)

    def copy(batch: list[tuple[str, StoredObject]]) -> None:
        for name, each in batch:
            _bring(each, f"{folder}/{name}", plan.bucket, objects, meter, link=link)

    entries = iter(plan.files.items())
    batches = iter(lambda: list(islice(entries, _BATCH)), [])
    if len(plan.files) == 1:
        copy(list(plan.files.items()))
        return
    with ThreadPoolExecutor(_COPIERS, "copy") as copiers:
        running = [copiers.submit(copy, batch) for batch in batches]
        done, left = wait(running, return_when=FIRST_EXCEPTION)
        for each in left:
            each.cancel()
        for each in done:
            each.result()


def _open_all(plan: ChannelPlan, folder: Path) -> None:
    """What was restored is the program's to change, whoever it runs as."""
    for name in plan.folders:
        (folder / name).chmod(OPEN)
    for name in plan.files:
        (folder / name).chmod(0o666)


def _bring(each: StoredObject, target: str, bucket: str, objects: ObjectStore, meter: Meter, *, link: bool) -> None:
    if each.content_path is not None:
        try:
            (disk.link_file if link else disk.copy_file)(each.content_path, target, meter)
            return
        except FileNotFoundError:
            pass  # written anew, or deleted, since the listing
    try:
        with objects.open(bucket, each.key) as content:
            disk.save(content, target, meter)
    except NotFound as error:
        raise TransferError(f"Object s3://{bucket}/{each.key} was deleted while it was being downloaded.") from error
