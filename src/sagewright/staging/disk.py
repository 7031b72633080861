"""Files and folders on this machine: copying without moving bytes where the file system can, removing what resists.

Owns: how a copy is made, how a tree is removed, the sentences for a disk's errors.
Does not own: what is copied where (`stage`, `collect`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from sagewright.core.errors import BlobStoreFull, TransferError
from sagewright.staging.meter import Meter

_FICLONE: Final = 0x40049409  # linux/fs.h: share the extents of another file (btrfs, xfs, bcachefs)
_CHUNK: Final = 8 * 1024 * 1024  # bytes between two looks at the meter
_CANNOT_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM})
_CANNOT_RANGE: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
_CANNOT_LINK: Final = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_DEEP: Final = 100  # levels of folders that are removed by recursion in any case
_LONG: Final = 3000  # bytes; the kernel takes 4096, and a name has up to 255

_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ALL, _READ, _NOBODY = 7, 5, 0xFFFFFFFF


def link_file(source: Path, target: str, meter: Meter) -> None:
    """Another name of the same file, or a copy where there can be none: on another file system, one without links, or
    when the file has as many names as it may have. Must not exist yet; must not be written to."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        copy_file(source, target, meter)
        return
    meter.add(Path(target).stat().st_size)


def copy_file(source: Path, target: str, meter: Meter) -> None:
    """A copy of its own at `target`, mode 0644: writing to it never touches the source. Must not exist yet."""
    with open(source, "rb", buffering=0) as reader:
        descriptor = _create(target)
        with open(descriptor, "wb", buffering=0):
            size = os.fstat(reader.fileno()).st_size
            if size and _clone(reader.fileno(), descriptor):
                meter.add(size)
            else:
                _copy(reader.fileno(), descriptor, meter)


def save(content: BinaryIO, target: str, meter: Meter) -> None:
    """The same from a stream. What an earlier attempt left at `target` is replaced."""
    Path(target).unlink(missing_ok=True)
    with open(_create(target), "wb", buffering=0) as writer:
        while piece := content.read(_CHUNK):
            writer.write(piece)
            meter.add(len(piece))


def _create(target: str) -> int:
    """A new file, mode 0644 whatever the umask."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    os.fchmod(descriptor, 0o644)
    return descriptor


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_CLONE:
            return False
        raise
    return True


def _copy(source: int, target: int, meter: Meter) -> None:
    """In the kernel where it can; the two calls differ in what they work between."""
    offset = 0
    ranges = True
    while True:
        try:
            if ranges:
                moved = os.copy_file_range(source, target, _CHUNK, offset)
            else:
                moved = os.sendfile(target, source, offset, _CHUNK)
        except OSError as error:
            if not ranges or error.errno not in _CANNOT_RANGE:
                raise
            ranges = False
            os.lseek(target, offset, os.SEEK_SET)
            continue
        if not moved:
            return
        offset += moved
        meter.add(moved)


def write_file(path: Path, content: bytes) -> None:
    """A config file, mode 0644 whatever the umask."""
    path.write_bytes(content)
    path.chmod(0o644)


def make_folder(path: Path, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def keep_access(folder: Path) -> None:
    """Let us read and remove what other users will make in `folder`, above all root in a container of a root engine.

    A default ACL is inherited by everything made below. It cannot help where a program takes rights away on purpose
    (mode 0600), nor on file systems without ACLs; root needs none.
    """
    if os.geteuid() != 0:
        with suppress(OSError):
            os.setxattr(folder, "system.posix_acl_default", _default_acl(os.geteuid()))


def _default_acl(user: int) -> bytes:
    """linux/posix_acl_xattr.h: version 2, then (tag, permissions, id) of each entry, in this order."""
    entries = (
        (_USER_OBJ, _ALL, _NOBODY),
        (_USER, _ALL, user),
        (_GROUP_OBJ, _READ, _NOBODY),
        (_MASK, _ALL, _NOBODY),
        (_OTHER, _READ, _NOBODY),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def set_aside(path: Path, trash: Path) -> None:
    """Make `path` not exist, at once, whatever is in it: it goes to the trash, to be removed in peace."""
    trash.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        path.rename(trash / f"{path.name}.{secrets.token_hex(4)}")


def remove_tree(path: Path) -> None:
    """Remove a folder, opening closed folders first. Symbolic links are removed, never followed.

    Raises PermissionError when something in it belongs to another user, such as root in a container, unless it is an
    empty folder: an overlay leaves one of root's, mode 0000, in its work folder.
    """
    while True:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except PermissionError:
            break
        except (OSError, RecursionError):
            if not _lift_deep(path):
                raise
        else:
            return
    while _lift_deep(path):
        pass
    _open_folders(path)
    shutil.rmtree(path)


def _lift_deep(path: Path) -> bool:
    """Move folders that are nested too deep for recursion, or for a path, to the top. Whether there were any."""
    deep = []
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop()
        with suppress(OSError):
            folder.chmod(0o700)
            with os.scandir(folder) as entries:
                inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            if depth < _DEEP and len(os.fsencode(folder)) < _LONG:
                waiting += [(each, depth + 1) for each in inner]
            else:
                deep += inner
    lifted = 0
    for each in deep:
        with suppress(OSError):
            each.rename(path / f".deep-{secrets.token_hex(8)}")
            lifted += 1
    return bool(lifted)


def _open_folders(path: Path) -> None:
    with suppress(OSError):
        path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for child in (Path(folder, name) for name in names):
            with suppress(OSError):
                if stat.S_ISDIR(child.lstat().st_mode):
                    _open_folder(child)


def _open_folder(folder: Path) -> None:
    try:
        folder.chmod(0o700)
    except PermissionError:
        folder.rmdir()  # another user's: it can only go, and only if it is empty


def refusal(error: OSError | BlobStoreFull, where: Path) -> TransferError:
    """The error as a sentence for FailureReason."""
    if isinstance(error, BlobStoreFull) or error.errno in _FULL:
        return TransferError(
            f"No space left on the disk of {where} ({_free(where)} free). Free some space and start the job again."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return TransferError(
            f"{error.filename or where} may not be read or written by the user that runs Sagewright: {error.strerror}."
        )
    return TransferError(f"{error.filename or where}: {error.strerror or error}")


def _free(where: Path) -> str:
    for folder in (where, *where.parents):
        with suppress(OSError):
            return f"{shutil.disk_usage(folder).free / (1 << 20):.0f} MiB"
    return "an unknown amount"
