"""The S3 API: from a decoded call to the operation that answers it.

    Call ──► OPERATIONS[name] ──► access ──► rows and content ──► result by the model's member names

Owns: the table of operations, explicit and complete: what is not in it is answered by name with NotImplemented.
Does not own: HTTP and signatures (`gateway`), XML (`wire`), what the operations do (one module per topic).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sagewright.blobs.base import BlobStore
from sagewright.core.clock import Clock
from sagewright.core.context import Ctx
from sagewright.core.ids import Account, Region
from sagewright.objects import bucket_settings as settings
from sagewright.objects import buckets, completing, copy, listing, multipart, objects
from sagewright.objects.storage import Run, Storage, in_thread
from sagewright.store.resources import Store
from sagewright.wire.codec import Call
from sagewright.wire.faults import not_implemented

Operation = Callable[[Storage, Ctx, Call], Awaitable[Mapping[str, Any]]]

OPERATIONS: Final[Mapping[str, Operation]] = {
    "CreateBucket": buckets.create_bucket,
    "HeadBucket": buckets.head_bucket,
    "ListBuckets": buckets.list_buckets,
    "DeleteBucket": buckets.delete_bucket,
    "GetBucketLocation": buckets.get_bucket_location,
    "PutObject": objects.put_object,
    "GetObject": objects.get_object,
    "HeadObject": objects.head_object,
    "DeleteObject": objects.delete_object,
    "DeleteObjects": objects.delete_objects,
    "GetObjectAttributes": objects.get_object_attributes,
    "GetObjectAcl": objects.get_object_acl,
    "GetObjectTagging": objects.get_object_tagging,
    "PutObjectTagging": objects.put_object_tagging,
    "DeleteObjectTagging": objects.delete_object_tagging,
    "CopyObject": copy.copy_object,
    "UploadPartCopy": copy.upload_part_copy,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "UploadPart": multipart.upload_part,
    "CompleteMultipartUpload": completing.complete_multipart_upload,
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "ListParts": multipart.list_parts,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListObjectVersions": listing.list_object_versions,
    "PutBucketTagging": settings.put_bucket_tagging,
    "GetBucketTagging": settings.get_bucket_tagging,
    "DeleteBucketTagging": settings.deletes("tags"),
    "PutBucketPolicy": settings.put_bucket_policy,
    "GetBucketPolicy": settings.get_bucket_policy,
    "GetBucketPolicyStatus": settings.get_bucket_policy_status,
    "DeleteBucketPolicy": settings.deletes("policy"),
    "PutPublicAccessBlock": settings.put_public_access_block,
    "GetPublicAccessBlock": settings.get_public_access_block,
    "DeletePublicAccessBlock": settings.deletes("public_access_block"),
    "PutBucketCors": settings.put_bucket_cors,
    "GetBucketCors": settings.get_bucket_cors,
    "DeleteBucketCors": settings.deletes("cors"),
    "GetBucketAcl": settings.get_bucket_acl,
    "GetBucketVersioning": settings.answers({}),
    "GetBucketAccelerateConfiguration": settings.answers({}),
    "GetBucketLogging": settings.answers({}),
    "GetBucketNotificationConfiguration": settings.answers({}),
    "GetBucketRequestPayment": settings.answers({"Payer": "BucketOwner"}),
    "GetBucketOwnershipControls": settings.answers(
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}
    ),
    "GetBucketEncryption": settings.lacks(
        "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found"
    ),
    "GetBucketLifecycleConfiguration": settings.lacks(
        "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"
    ),
    "GetBucketReplication": settings.lacks(
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found"
    ),
    "GetBucketWebsite": settings.lacks(
        "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"
    ),
    "GetObjectLockConfiguration": settings.lacks(
        "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket"
    ),
}


class ObjectApi:
    """`run` takes blocking work (disks, write transactions) off the event loop. `reads_inline` says that reading rows
    is faster than that detour, which holds for the embedded database and not for one across a network.

    `account` is the installation's; buckets belong to the caller's account (`Ctx.account`). `region` is where a bucket
    lies that names none.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        *,
        account: Account,
        region: Region,
        clock: Clock,
        run: Run = in_thread,
        reads_inline: bool = True,
    ) -> None:
        self.account = account
        self._storage = Storage(store, blobs, region, clock, run, reads_inline)

    async def call(self, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        """The result by the model's member names; a Body is bytes or an async iterator (`objects.body`).

        Raises ApiFault, and BlobStoreFull or StoreUnavailable when a disk is full or the database is gone.
        """
        operation = OPERATIONS.get(call.operation)
        if operation is None:
            raise not_implemented("s3", call.operation)
        return await operation(self._storage, ctx, call)
