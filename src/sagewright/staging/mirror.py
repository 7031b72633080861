"""One folder of a running workload, kept the same in S3 (container contract A.10).

    still for a moment, and not as last published  ─► object, whole or not at all
    published once, and gone for as long           ─► object deleted
    put there by others                            ─► left alone

What was published is on record beside the root, so that a pass after `kill -9` publishes what has changed since and
nothing else, and still knows what was deleted.

Owns: one pass, the record. Does not own: when passes are made (`mirroring`), what is staged at first (`stage`).
The folder belongs to a program that may do what it likes meanwhile: nothing is opened through a link, and a file that
changes while it is read is not published. A link to a file in the folder is published as that file.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from sagewright.core.errors import TransferError
from sagewright.core.s3_uris import split_uri
from sagewright.staging.meter import Meter
from sagewright.staging.source import ObjectStore
from sagewright.workloads.transfer import Mirror

RECORD: Final = "mirrors"  # beside the root
STILL: Final = 2.0  # seconds without a change before a file is taken for whole
OVERDUE: Final = 20.0  # seconds after which a growing file is published although it is not still
_TYPE: Final = "binary/octet-stream"
_PIECE: Final = 1 << 20
_ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_log: Final = logging.getLogger(__name__)
Print: TypeAlias = "tuple[int, int, int]"  # size in bytes, time of the last change in ns, inode


@dataclass(slots=True)
class _Found:
    """A file to publish. `source` is where its bytes are: another path in the folder when it is a link."""

    print: Print
    source: str


class FolderMirror:
    """One thread at a time. `number` tells the mirrors of one root apart."""

    def __init__(self, root: Path, number: int, mirror: Mirror, objects: ObjectStore) -> None:
        self._root = root
        self._mirror = mirror
        self._objects = objects
        self._bucket, prefix = split_uri(mirror.s3_uri)
        self._prefix = f"{prefix}/" if prefix else ""
        self._record = root.with_name(RECORD) / f"{number}.json"
        self._published = _read_record(self._record)
        self._seen: dict[str, tuple[Print, float]] = {}  # since when a file is as it is
        self._waits: dict[str, float] = {}  # since when a change is not published
        self._gone: dict[str, float] = {}  # since when a published file is not there
        self._odd: set[str] = set()

    def look(self, meter: Meter, *, last: bool = False) -> None:
        """One pass; `last`: nobody writes any more, so all of it is published as it is. Raises TransferError, NotFound,
        OSError, StoreError, BlobStoreFull, Cancelled: what was done before is on record."""
        with self._opened() as folder:
            found = _scan(folder) if folder is not None else {}
            try:
                self._delete(found, last=last)
                for path, each in found.items():
                    if self._published.get(path) != each.print and (last or self._is_due(path, each.print)):
                        assert folder is not None
                        self._publish(folder, path, each, meter, last=last)
            finally:
                self._write_record()
        self._forget_all_but(found)

    def _is_due(self, path: str, now_is: Print) -> bool:
        now = time.monotonic()
        waits = self._waits.setdefault(path, now)
        if self._mirror.growing and now - waits >= OVERDUE:
            return True
        before = self._seen.get(path)
        if before is None or before[0] != now_is:
            self._seen[path] = (now_is, now)
            return False
        return now - before[1] >= STILL

    def _publish(self, folder: int, path: str, each: _Found, meter: Meter, *, last: bool) -> None:
        if not path.isprintable():  # also where its bytes are not text
            if path not in self._odd:
                self._odd.add(path)
                _log.warning("%r below %s cannot be the key of an object, and is left out", path, self._root)
            return
        try:
            descriptor = _open_below(folder, each.source)
        except (FileNotFoundError, NotADirectoryError):
            return  # gone since: the next pass sees
        with open(descriptor, "rb", buffering=0) as content:
            as_seen = _print(os.fstat(descriptor))
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            with self._objects.put_stream(self._bucket, f"{self._prefix}{path}", _TYPE) as writer:
                left = as_seen[0]
                while left and (piece := content.read(min(left, _PIECE))):
                    writer.write(piece)
                    meter.add(len(piece))
                    left -= len(piece)
                if left or not (last or self._mirror.growing or _print(os.fstat(descriptor)) == as_seen):
                    return  # it is being written to: leaving without a commit publishes nothing
                writer.commit()
        self._published[path] = as_seen
        self._waits.pop(path, None)

    def _delete(self, found: Mapping[str, _Found], *, last: bool) -> None:
        """Not at once: a program that removes a file before it writes it again would be without it in between."""
        now = time.monotonic()
        gone = [path for path in self._published if path not in found]
        due = [path for path in gone if last or (path in self._gone and now - self._gone[path] >= STILL)]
        self._gone = {path: self._gone.get(path, now) for path in gone}
        for path in due:
            self._objects.delete(self._bucket, f"{self._prefix}{path}")
            del self._published[path], self._gone[path]

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The folder; None when the program removed it. A root that is not there is no such thing: it was taken away
        from us, and nothing follows from it."""
        root = os.open(self._root, _ENTER)
        try:
            folder = _enter_below(root, self._mirror.folder.split("/"))
        except FileNotFoundError:
            folder = None
        except NotADirectoryError:
            raise TransferError(
                f"/opt/ml/{self._mirror.folder} was replaced by something that is not a folder. Write into the folder "
                "instead of replacing it."
            ) from None
        finally:
            os.close(root)
        try:
            yield folder
        finally:
            if folder is not None:
                os.close(folder)

    def _write_record(self) -> None:
        write_record(self._record, self._published)

    def _forget_all_but(self, found: Mapping[str, _Found]) -> None:
        for each in (self._seen, self._waits):
            for path in each.keys() - found.keys():
                each.pop(path)


def record_restored(root: Path, mirrors: tuple[Mirror, ...], at: Path) -> None:
    """What was staged is as in S3. `root` is where the files are, `at` where they will be."""
    for number, mirror in enumerate(mirrors):
        folder = os.open(root / mirror.folder, _ENTER)
        try:
            found = _scan(folder)
        finally:
            os.close(folder)
        write_record(at.with_name(RECORD) / f"{number}.json", {path: each.print for path, each in found.items()})


def write_record(path: Path, published: Mapping[str, Print]) -> None:
    text = json.dumps(published)
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def _read_record(path: Path) -> dict[str, Print]:
    """Empty when there is none, or a power cut tore it: then everything is published again and nothing deleted."""
    try:
        return {name: (each[0], each[1], each[2]) for name, each in json.loads(path.read_text()).items()}
    except (FileNotFoundError, ValueError):
        return {}


def _scan(folder: int) -> dict[str, _Found]:
    """Every file below, by its path. Raises OSError for a folder that cannot be read: what is in it is not gone."""
    files: dict[str, _Found] = {}
    links: dict[str, str] = {}
    for place, _, names, here in os.fwalk(".", dir_fd=folder, onerror=_raise):
        above = "" if place == "." else f"{place[2:]}/"
        for name in names:
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    files[f"{above}{name}"] = _Found(_print(found), f"{above}{name}")
                elif stat.S_ISLNK(found.st_mode):
                    links[f"{above}{name}"] = posixpath.normpath(above + os.readlink(name, dir_fd=here))
            except FileNotFoundError:
                continue
    return files | {path: _Found(files[target].print, target) for path, target in links.items() if target in files}


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that was removed meanwhile
        raise error


def _enter_below(folder: int, pieces: Sequence[str]) -> int:
    """Through folders only: a link on the way is NotADirectoryError."""
    place = os.dup(folder)
    for piece in pieces:
        try:
            inner = os.open(piece, _ENTER, dir_fd=place)
        finally:
            os.close(place)
        place = inner
    return place


def _open_below(folder: int, path: str) -> int:
    *above, name = path.split("/")
    place = _enter_below(folder, above)
    try:
        return os.open(name, _READ, dir_fd=place)
    finally:
        os.close(place)


def _print(found: os.stat_result) -> Print:
    return found.st_size, found.st_mtime_ns, found.st_ino
