"""S3's errors: code, HTTP status, modelled members, and a sentence that says what to change.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Mapping

from sagewright.wire.faults import ApiFault


def no_such_bucket(bucket: str) -> ApiFault:
    return ApiFault("NoSuchBucket", "The specified bucket does not exist.", 404, members={"BucketName": bucket})


def no_such_key(key: str) -> ApiFault:
    return ApiFault("NoSuchKey", "The specified key does not exist.", 404, members={"Key": key})


def no_such_upload(upload_id: str) -> ApiFault:
    message = (
        "The specified upload does not exist. The upload ID may be invalid, "
        "or the upload may have been aborted or completed."
    )
    return ApiFault("NoSuchUpload", message, 404, members={"UploadId": upload_id})


def no_such_version(key: str, version: str) -> ApiFault:
    message = "The specified version does not exist. Buckets are not versioned here: the only version id is 'null'."
    return ApiFault("NoSuchVersion", message, 404, members={"Key": key, "VersionId": version})


def access_denied(message: str = "Access Denied") -> ApiFault:
    return ApiFault("AccessDenied", message, 403)


def invalid_argument(message: str, name: str, value: object) -> ApiFault:
    return ApiFault("InvalidArgument", message, 400, members={"ArgumentName": name, "ArgumentValue": str(value)})


def invalid_request(message: str) -> ApiFault:
    return ApiFault("InvalidRequest", message, 400)


def malformed_xml(reason: str) -> ApiFault:
    message = f"The XML you provided was not well-formed or did not validate against our published schema: {reason}"
    return ApiFault("MalformedXML", message, 400)


def precondition_failed(condition: str) -> ApiFault:
    message = "At least one of the pre-conditions you specified did not hold"
    return ApiFault("PreconditionFailed", message, 412, members={"Condition": condition})


def not_modified(headers: Mapping[str, str]) -> ApiFault:
    return ApiFault("NotModified", "Not Modified", 304, headers=headers)


def invalid_range(asked: str, size: int) -> ApiFault:
    return ApiFault(
        "InvalidRange",
        "The requested range is not satisfiable",
        416,
        members={"RangeRequested": asked, "ActualObjectSize": str(size)},
        headers={"Content-Range": f"bytes */{size}"},
    )


def bad_digest(message: str) -> ApiFault:
    return ApiFault("BadDigest", message, 400)


def entity_too_large(size: int, most: int) -> ApiFault:
    message = (
        f"Your proposed upload exceeds the maximum allowed size of {most} bytes. "
        "Upload it in parts (CreateMultipartUpload), or make the parts smaller."
    )
    return ApiFault("EntityTooLarge", message, 400, members={"ProposedSize": str(size), "MaxSizeAllowed": str(most)})


def not_supported(what: str) -> ApiFault:
    """A part of an operation that AWS has and Sagewright does not: says so instead of ignoring it."""
    return ApiFault("NotImplemented", f"Sagewright does not implement {what}. Leave it out of the request.", 501)
