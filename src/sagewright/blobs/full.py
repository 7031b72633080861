"""A full disk, in words. Owns: which errors mean it, and what is said. Does not own: what is undone then."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagewright.core.errors import BlobStoreFull


@contextmanager
def full_is_said(path: Path) -> Iterator[None]:
    """Around writes at or below `path`. Raises BlobStoreFull where there is no space or quota left."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BlobStoreFull(
            f"No space is left on the disk that holds {path.parent}: free some and try again."
        ) from error
