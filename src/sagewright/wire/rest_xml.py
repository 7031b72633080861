"""rest-xml (s3): HTTP bindings around XML bodies, path-style addressing, S3's faults.

Owns: XML documents and faults of the protocol, and the one service rule of this layer: how S3 is addressed.
Does not own: bindings (`rest`), elements by shape (`xml_shapes`), what buckets and objects are (`objects`).
Source: smithy.io "AWS REST XML protocol", Amazon S3 API Reference (root elements, error bodies).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sagewright.wire.bindings import BadText, OutputBinding, header_text
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from sagewright.wire.rest import Compiled, RestCodec
from sagewright.wire.shapes import Mismatch, Model, Shape, error_status
from sagewright.wire.xml_shapes import XmlShapes
from sagewright.wire.xml_tree import DECLARATION, BadXml, escaped, legible, parse

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

# Root elements that the model does not name (it has shape names such as ListObjectsV2Output).
_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CreateSession": "CreateSessionResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycle": "LifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
# Directory buckets live at hosts of their own; at ours their operations could not be told from the ordinary ones.
_ELSEWHERE = ("ListDirectoryBuckets",)


def path_style(request: HttpRequest, base_hosts: Sequence[str]) -> HttpRequest:
    """`BUCKET.base/key` as `base/BUCKET/key`; any other request as it is.

    `base_hosts` are host names without port by which this server itself is known (`localhost`, `s3.amazonaws.com`);
    the longest that fits counts. Verify the signature first: it covers the path as sent.
    """
    host = _host_name(request.headers.get("host") or "")
    fitting = [base for base in base_hosts if host == base or host.endswith(f".{base}")]
    base = max(fitting, key=len, default=host)
    if base == host:
        return request
    bucket = host.removesuffix(f".{base}")
    return replace(request, raw_path=f"/{quote(bucket, safe='')}{request.raw_path}")


def _host_name(host: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    name, _, port = host.strip().lower().rpartition(":")
    return name if name and port.isdigit() else host.strip().lower()


class RestXmlCodec(RestCodec):
    """One service over rest-xml."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, _ELSEWHERE)
        self._shapes = XmlShapes(precise=True)

    def encode(self, operation: str, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        response = super().encode(operation, result, request_id)
        if response.status == 200 and result.get("ContentRange") is not None:
            response.status = 206
        return response

    def encode_fault(self, operation: str | None, fault: ApiFault, request_id: str) -> HttpResponse:
        """`<Error>`, with the fault's members after Code and Message. HEAD and 304 have no body."""
        error = self._model.error(fault.code)
        status = error_status(error, fault.status)
        headers = self._base_headers(request_id)
        if error is not None:
            for name, text in OutputBinding(error).headers(fault.members):
                headers.add(name, text)
        for name, text in fault.headers.items():
            headers.add(name, header_text(text))
        known = self._model.operation(operation) if operation else None
        if status == 304 or (known is not None and known.method == "HEAD"):
            return HttpResponse(status, headers)
        headers.add("content-type", "application/xml")
        return HttpResponse(status, headers, _error_document(fault, request_id))

    def _base_headers(self, request_id: str) -> Headers:
        return Headers((("x-amz-request-id", request_id), ("x-amz-id-2", request_id)))

    def _read(self, request: HttpRequest) -> tuple[dict[str, list[str]], dict[str, str]]:
        """A presigned URL may carry `x-amz-` headers as query parameters; real headers win."""
        query, headers = super()._read(request)
        hoisted = {n.lower(): texts[0] for n, texts in query.items() if n[:6].lower() == "x-amz-"}
        return query, {**hoisted, **headers} if hoisted else headers

    def _whole(self, request: HttpRequest) -> bytes:
        """Content-Encoding is the object's here, never the transfer's."""
        if request.body is None and request.stream is not None:
            raise ValueError("read the body whole before decoding: only a blob payload may be streamed")
        return request.body or b""

    def _parse_body(self, shape: Shape, body: bytes) -> Any:
        try:
            return self._shapes.decoder(shape)(parse(body))
        except (BadXml, Mismatch) as error:
            raise _malformed(str(error)) from error

    def _text(self, body: bytes) -> str:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ApiFault("InvalidRequest", "The body must be UTF-8 text.") from error

    def _write_body(self, compiled: Compiled, shape: Shape, value: Mapping[str, Any]) -> tuple[bytes, str]:
        name = compiled.model.name
        out = [DECLARATION]
        if name == "GetBucketLocation":  # its one member is the root's text, the model notwithstanding
            text = escaped(value.get("LocationConstraint") or "")
            out.append(f'<LocationConstraint xmlns="{NAMESPACE}">{text}</LocationConstraint>')
        else:
            root = _ROOTS.get(name) or shape.wire_name or shape.name
            self._shapes.encoder(shape)(out, root, value)
            out[1] = f'{out[1][:-1]} xmlns="{NAMESPACE}">'
        return "".join(out).encode("utf-8"), "application/xml"

    def _bad_text(self, error: BadText) -> ApiFault:
        members = {"ArgumentName": error.name, "ArgumentValue": error.value}
        return ApiFault("InvalidArgument", f"Provided {error.name} must be {error.wanted}.", members=members)

    def _bad_uri(self) -> ApiFault:
        return ApiFault("InvalidURI", "Couldn't parse the specified URI.")

    def _no_route(self, request: HttpRequest) -> ApiFault:
        if request.raw_path.startswith("//"):
            return ApiFault("InvalidBucketName", "The specified bucket is not valid.", members={"BucketName": ""})
        members = {"Method": request.method, "ResourceType": "SERVICE" if request.raw_path == "/" else "OBJECT"}
        sentence = "The specified method is not allowed against this resource."
        return ApiFault("MethodNotAllowed", sentence, 405, members=members)


def _malformed(why: str) -> ApiFault:
    sentence = "The XML you provided was not well-formed or did not validate against our published schema"
    return ApiFault("MalformedXML", f"{sentence}: {why}")


def _error_document(fault: ApiFault, request_id: str) -> bytes:
    members = {"Code": fault.code, "Message": fault.message, **fault.members}
    members |= {"RequestId": request_id, "HostId": request_id}
    inside = "".join(f"<{name}>{escaped(legible(str(value)))}</{name}>" for name, value in members.items())
    return f"{DECLARATION}<Error>{inside}</Error>".encode()
