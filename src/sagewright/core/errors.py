"""The inside error tree. One translator per boundary turns these into what the other side speaks.

SagewrightError
├── StoreError
│   ├── NotFound            no such row
│   ├── AlreadyExists       the name is taken
│   ├── Stale               compare-and-set lost: read again and decide again
│   └── StoreUnavailable    the database cannot be reached or written (full disk, locked, gone)
├── BlobError
│   ├── BlobNotFound
│   ├── InvalidBlobPath
│   └── BlobStoreFull       no space left on the device that holds the bytes
├── BackendError
│   ├── BackendUnavailable  cannot be reached now: nothing may be concluded, try again later
│   └── WorkloadRejected    can never run here; the message says why and what to change
├── TransferError           inputs or outputs could not be moved; the message is fit for FailureReason
└── SettingsError           the user gave something unusable; the message says what to change
"""

from __future__ import annotations


class SagewrightError(Exception):
    """Root of all errors that Sagewright raises on purpose."""


class StoreError(SagewrightError):
    pass


class NotFound(StoreError):
    pass


class AlreadyExists(StoreError):
    pass


class Stale(StoreError):
    pass


class StoreUnavailable(StoreError):
    pass


class BlobError(SagewrightError):
    pass


class BlobNotFound(BlobError):
    pass


class InvalidBlobPath(BlobError):
    pass


class BlobStoreFull(BlobError):
    pass


class BackendError(SagewrightError):
    pass


class BackendUnavailable(BackendError):
    pass


class WorkloadRejected(BackendError):
    pass


class TransferError(SagewrightError):
    pass


class SettingsError(SagewrightError):
    pass
