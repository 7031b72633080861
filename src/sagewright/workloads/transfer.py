"""Transfers: moving inputs to a workload's folder and outputs back to the object store.

A transfer is a step that the controller sees, never hidden in a backend. It is named before it is started,
may be started again at any time with the same effect, and is observed like a workload. The implementation is
`sagewright.staging`; controllers know only this contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from sagewright.core.ids import Account, Region, TransferId


@dataclass(frozen=True, slots=True)
class PipeInput:
    """How a Pipe channel is streamed (container contract A.8).

    `records`: each object, or each attribute, is one RecordIO record. `gunzip`: objects are unpacked on the way.
    `seed`: of an order that changes with the epoch; None = as listed. `attributes`: the channel's object is an
    augmented manifest, and these of each of its lines are streamed.
    """

    records: bool = False
    gunzip: bool = False
    seed: int | None = None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelInput:
    """One channel fed from S3 (container contract A.8): with files, or through pipes.

    `manifest`: `s3_uri` is an object that lists the others; else it is a key prefix. Of the objects, sorted by key,
    this host gets every one whose index modulo `shards` is `shard`.
    """

    channel: str
    s3_uri: str
    manifest: bool = False
    shard: int = 0
    shards: int = 1
    pipe: PipeInput | None = None


@dataclass(frozen=True, slots=True)
class Mirror:
    """A folder of a workload that is kept the same in S3 while it runs (container contract A.10).

    `folder` is relative to the root; the file `a/b` in it is the object `s3_uri`/a/b. `restore`: what is there already
    is staged first. `growing`: files are appended to, so that one that is never still is worth having as it is.
    """

    folder: str
    s3_uri: str
    restore: bool = False
    growing: bool = False


@dataclass(frozen=True, slots=True)
class StageInputs:
    """Make `root` (it becomes /opt/ml) ready: the folder tree, `files`, and every channel's objects.

    `layered`: channels cost no bytes. Their files are hard links to the stored objects, in folders beside `root` (see
    `workloads.layers`), and have to be mounted over it. Else they are copies in `root` itself.

    `beside` are folders elsewhere that are made if they are missing, and else left as they are.

    `files` maps a path relative to `root` to its content. Done means all of it is there; a transfer that was
    cut off leaves nothing that a later one would trust.
    """

    id: TransferId
    account: Account
    region: Region
    root: Path
    files: Mapping[str, bytes]
    folders: tuple[str, ...]
    channels: tuple[ChannelInput, ...]
    layered: bool = False
    mirrors: tuple[Mirror, ...] = ()
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class MirrorFolders:
    """Keep the folders of a staged `root` the same in S3, until it is forgotten. It never ends by itself, and is to be
    started again when its process died: what was published is on record beside the root.

    A file is published once it has been still for a moment, whole or not at all; one that is deleted is deleted in S3
    as well. What others put there is left alone, and not fetched. A pass that fails is tried again.
    """

    id: TransferId
    root: Path
    mirrors: tuple[Mirror, ...]


@dataclass(frozen=True, slots=True)
class CollectOutputs:
    """Archive folders of `root` into objects: `model` → `<output>/model.tar.gz`, `output/data` → `output.tar.gz`.

    An empty folder makes no object (contract A.9). Each object appears whole or not at all.
    `archives` maps a folder relative to `root` to the S3 URI to write; one that ends in `/` takes every file by itself
    (CompressionType NONE). `peers` are the roots of the job's other hosts: what they wrote is merged in, and where two
    wrote the same name, the last one wins.
    `mirrors` are ended with a last pass, before anything is archived. With those alone it is what an interrupted
    attempt needs before the next one is staged.
    """

    id: TransferId
    account: Account
    region: Region
    root: Path
    archives: Mapping[str, str]
    peers: tuple[Path, ...] = ()
    mirrors: tuple[MirrorFolders, ...] = ()


@dataclass(frozen=True, slots=True)
class StageModel:
    """Make a model artifact a folder below `models`: unpacked once per content, shared, and only to be read.

    `uri` None is no artifact at all: an empty folder. `unpack`: it is a gzip tar archive; else the object is one file,
    or, when `uri` ends in `/`, every key below it is one. The folder is in `TransferState.folder`, and stays what it is
    for this id, whatever becomes of the object: instances that are added later get the same model.
    """

    id: TransferId
    account: Account
    region: Region
    models: Path
    uri: str | None
    unpack: bool


@dataclass(frozen=True, slots=True)
class RunTransform:
    """One instance's share of a batch transform job: objects through its containers, in order, to output objects.

    `request` is CreateTransformJob as asked. `addresses` are those of the instance's containers, `instance` is its
    number of `instances`. `root` keeps what was done: a run that was cut off goes on with the objects not yet written;
    its parent is the same for all instances, and theirs alone. `log_stream` is the stream for what the driver says,
    `started_at` (`core.clock.to_text`) is when the job began.
    """

    id: TransferId
    account: Account
    region: Region
    root: Path
    request: Mapping[str, Any]
    addresses: tuple[str, ...]
    instance: int
    instances: int
    log_stream: tuple[str, str]
    started_at: str


@dataclass(frozen=True, slots=True)
class FeedPipes:
    """Feed the Pipe channels of a staged `root`, epoch after epoch, until it is forgotten. It never ends by itself, and
    goes on while the server is away. FAILED: what the container reads cannot be trusted any more."""

    id: TransferId
    root: Path


Transfer: TypeAlias = StageInputs | CollectOutputs | StageModel | RunTransform | FeedPipes | MirrorFolders


class TransferPhase(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TransferState:
    """`message` is the reason when FAILED. `written` are the S3 URIs that a collection made; `folder` is the folder
    that a model became; `progress` is what a transform has counted."""

    id: TransferId
    phase: TransferPhase
    message: str = ""
    bytes_moved: int = 0
    bytes_total: int | None = None
    written: tuple[str, ...] = ()
    folder: Path | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)


class Transfers(Protocol):
    """Starts and observes transfers. `observe` omits ids it knows nothing of: those were never started, or their
    process died, and may simply be started (again)."""

    def start(self, transfer: Transfer) -> None: ...

    def observe(self, ids: Collection[TransferId]) -> Mapping[TransferId, TransferState]: ...

    def forget(self, ids: Collection[TransferId], root: Path) -> None:
        """Stop what still runs for them, free what they hold on disk, and remove `root`."""
        ...

    def forget_models(self, ids: Collection[TransferId], models: Path) -> None:
        """Stop what still runs for them; a model below `models` that no id stands for any more is removed."""
        ...

    def hints(self) -> AsyncIterator[TransferId]:
        """Ids that ended just now. May drop, may repeat; never the only way to learn."""
        ...
