"""S3's wire: which operation, which key, which document."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from botocore.handlers import parse_get_bucket_location
from hypothesis import given
from hypothesis import strategies as st

from sagewright.wire import models, validate
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.rest_xml import RestXmlCodec, path_style
from support.botocore_oracle import Oracle, service_model
from support.shape_values import Carrier, Values

ORACLE = Oracle("s3", "rest-xml")
# Old names of operations that have a newer one on the same wire, and one that lives at another host.
RENAMED = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListDirectoryBuckets": "ListBuckets",
}


def codec() -> RestXmlCodec:
    found = models.codec_for("s3")
    assert isinstance(found, RestXmlCodec)
    return found


def request(method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> HttpRequest:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return HttpRequest(method, path, query, Headers(named), body)


def operation(method: str, path: str, query: str = "", **headers: str) -> str:
    return codec().decode(request(method, path, query, **headers)).operation


def fault_of(sent: HttpRequest) -> ApiFault:
    with pytest.raises(ApiFault) as raised:
        decode_and_validate(sent)
    return raised.value


def decode_and_validate(sent: HttpRequest) -> None:
    call = codec().decode(sent)
    validate.validate("s3", call.operation, call.params)


@pytest.mark.parametrize("name", service_model("s3").operation_names)
def test_every_operation_is_told_from_every_other(name: str) -> None:
    model = ORACLE.operation(name)
    if model.input_shape is None:
        params = {}
    else:
        made = Values(7, Carrier(empty_flattened=False)).structure(model.input_shape)
        params = {key: value for key, value in made.items() if key in model.input_shape.required_members}
        params |= {"RequestRoute": "route"} if "RequestRoute" in params else {}  # part of a host name
    sent = ORACLE.request(name, params)
    assert codec().decode(sent).operation == RENAMED.get(name, name)


@pytest.mark.parametrize(
    ("method", "path", "query", "wanted"),
    [
        ("GET", "/", "", "ListBuckets"),
        ("GET", "/b", "", "ListObjects"),
        ("GET", "/b/", "", "ListObjects"),
        ("GET", "/b", "list-type=2", "ListObjectsV2"),
        ("GET", "/b", "list-type=1", "ListObjects"),
        ("GET", "/b", "versions", "ListObjectVersions"),
        ("GET", "/b//", "", "GetObject"),
        ("GET", "/b/k", "x-id=GetObject&partNumber=1", "GetObject"),
        ("GET", "/b/k", "uploadId=u", "ListParts"),
        ("PUT", "/b/k", "", "PutObject"),
        ("PUT", "/b/k", "uploadId=u", "UploadPart"),
        ("PUT", "/b/k", "partNumber=1", "UploadPart"),
        ("POST", "/b/k", "uploads=", "CreateMultipartUpload"),
        ("POST", "/b", "delete", "DeleteObjects"),
        ("DELETE", "/b", "", "DeleteBucket"),
        ("HEAD", "/b/", "", "HeadBucket"),
    ],
)
def test_the_operation_follows_from_method_path_and_query(method: str, path: str, query: str, wanted: str) -> None:
    assert operation(method, path, query) == wanted


def test_a_copy_is_known_by_its_source() -> None:
    assert operation("PUT", "/b/k", x_amz_copy_source="/a/b") == "CopyObject"
    assert operation("PUT", "/b/k", "partNumber=1&uploadId=u", x_amz_copy_source="/a/b") == "UploadPartCopy"


@pytest.mark.parametrize("subresource", ["versioning", "location", "acl", "notification", "uploads"])
def test_deleting_a_subresource_that_cannot_be_deleted_never_deletes_the_bucket(subresource: str) -> None:
    fault = fault_of(request("DELETE", "/b", subresource))
    assert (fault.code, fault.status) == ("MethodNotAllowed", 405)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("a%2520b", "a%20b"),
        ("a//b", "a//b"),
        ("/a", "/a"),
        ("a/", "a/"),
        ("../../etc", "../../etc"),
        ("%2E%2E/x", "../x"),
        ("%E6%97%A5", "日"),
        ("a%2Fb", "a/b"),
        ("a%00b", "a\x00b"),
        ("a%0Ab", "a\nb"),
        ("%", "%"),
        ("a;b=c,d", "a;b=c,d"),
    ],
)
def test_a_key_is_decoded_exactly_once(raw: str, key: str) -> None:
    assert codec().decode(request("GET", f"/b/{raw}")).params["Key"] == key


@given(key=st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_key_that_botocore_can_send_arrives(key: str) -> None:
    sent = ORACLE.request("GetObject", {"Bucket": "bucket", "Key": key})
    assert codec().decode(sent).params == {"Bucket": "bucket", "Key": key}


@pytest.mark.parametrize("path", ["/b/%ff", "/%ff/k"])
def test_a_path_that_is_not_utf8_is_an_invalid_uri(path: str) -> None:
    assert fault_of(request("GET", path)).code == "InvalidURI"


def test_a_path_without_a_bucket_is_refused() -> None:
    assert fault_of(request("GET", "//key")).code == "InvalidBucketName"


@pytest.mark.parametrize(
    ("host", "raw_path", "wanted"),
    [
        ("bucket.localhost:8470", "/key%20x", "/bucket/key%20x"),
        ("my.dotted.bucket.localhost", "/", "/my.dotted.bucket/"),
        ("Bucket.S3.amazonaws.com", "/k", "/bucket/k"),
        ("localhost:8470", "/b/k", "/b/k"),
        ("s3.amazonaws.com", "/b/k", "/b/k"),
        ("bucket.s3.us-east-1.amazonaws.com", "/k", "/bucket/k"),
        ("127.0.0.1:8470", "/b/k", "/b/k"),
        ("[::1]:8470", "/b/k", "/b/k"),
        ("notlocalhost", "/b/k", "/b/k"),
        ("", "/b/k", "/b/k"),
    ],
)
def test_a_bucket_in_the_host_name_moves_to_the_path(host: str, raw_path: str, wanted: str) -> None:
    sent = HttpRequest("GET", raw_path, "", Headers([("Host", host)]), b"")
    bases = ["localhost", "s3.amazonaws.com", "amazonaws.com", "s3.us-east-1.amazonaws.com"]
    assert path_style(sent, bases).raw_path == wanted
    assert sent.raw_path == raw_path


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        b"<Delete>",
        b'<!DOCTYPE d [<!ENTITY a "aaaa">]><Delete>&a;</Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete/>',
        b"<a>" * 70 + b"</a>" * 70,
        b"<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        b"<Delete><Object><Key>k</Key><Size>many</Size></Object></Delete>",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
    ],
)
def test_xml_that_is_broken_dangerous_or_incomplete_is_malformed(body: bytes) -> None:
    assert fault_of(request("POST", "/b", "delete", body)).code == "MalformedXML"


def test_prefixes_and_other_namespaces_are_read_alike() -> None:
    body = b'<x:Delete xmlns:x="urn:other"><x:Object><x:Key> k </x:Key></x:Object><x:Quiet> true </x:Quiet></x:Delete>'
    params = codec().decode(request("POST", "/b", "delete", body)).params
    assert params["Delete"] == {"Objects": [{"Key": " k "}], "Quiet": True}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request("POST", "/b", "delete"), "MissingRequestBodyError"),
        (request("PUT", "/b/k", "uploadId=u"), "InvalidRequest"),
        (request("GET", "/b/k", "attributes"), "InvalidRequest"),
        (request("GET", "/b", "max-keys=many"), "InvalidArgument"),
        (request("GET", "/b", f"max-keys={2**31}"), "InvalidArgument"),
        (request("GET", "/b/k", if_modified_since="yesterday"), "InvalidArgument"),
    ],
)
def test_a_missing_or_wrong_parameter_has_s3s_own_code(sent: HttpRequest, code: str) -> None:
    fault = fault_of(sent)
    assert fault.code == code
    document = ET.fromstring(codec().encode_fault(None, fault, "id").body)
    assert document.findtext("Code") == code


def test_an_empty_number_in_a_query_is_absent_and_an_empty_text_is_not() -> None:
    assert codec().decode(request("GET", "/b", "max-keys=&prefix=")).params == {"Bucket": "b", "Prefix": ""}


def test_amazon_headers_may_come_in_a_presigned_query_and_real_ones_win() -> None:
    query = "X-Amz-Acl=private&X-Amz-Signature=x&X-Amz-Storage-Class=STANDARD"
    params = codec().decode(request("PUT", "/b/k", query, x_amz_acl="public-read")).params
    assert (params["ACL"], params["StorageClass"]) == ("public-read", "STANDARD")


async def test_an_upload_is_left_as_a_stream() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"

    sent = HttpRequest("PUT", "/b/k", "", Headers(), None, chunks())
    assert codec().streams_body(sent)
    assert not codec().streams_body(request("POST", "/b", "delete"))
    call = codec().decode(sent)
    assert call.stream is not None
    assert "Body" not in call.params
    assert [chunk async for chunk in call.stream] == [b"data"]


def test_content_encoding_belongs_to_the_object() -> None:
    params = codec().decode(request("PUT", "/b/k", body=b"not gzip at all", content_encoding="gzip")).params
    assert params["Body"] == b"not gzip at all"
    assert params["ContentEncoding"] == "gzip"


def test_a_range_is_a_206_and_lengths_and_metadata_are_headers() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"ab"

    moment = datetime(2024, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    result = {
        "Body": chunks(),
        "ContentLength": 2,
        "ContentRange": "bytes 0-1/9",
        "LastModified": moment,
        "Metadata": {"owner": "me"},
        "ETag": '"e"',
    }
    response = codec().encode("GetObject", result, "id")
    assert (response.status, response.length) == (206, 2)
    assert response.headers.get("last-modified") == "Sat, 03 Feb 2024 04:05:06 GMT"
    assert response.headers.get("x-amz-meta-owner") == "me"
    assert response.headers.get_all("content-length") == ["2"]
    assert codec().encode("GetObject", {**result, "statusCode": 203}, "id").status == 203


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x=1", "a\x00b", "\x7f"])
def test_a_header_cannot_start_another(text: str) -> None:
    response = codec().encode("GetObject", {"ContentDisposition": text, "Metadata": {"k": text}}, "id")
    for name, value in response.headers:
        assert (name + value).isprintable()


def test_a_header_outside_latin1_goes_out_as_utf8() -> None:
    response = codec().encode("HeadObject", {"ContentDisposition": "filename=日.txt"}, "id")
    assert (response.headers.get("content-disposition") or "").encode("latin-1").decode() == "filename=日.txt"


def test_documents_have_s3s_root_namespace_and_millisecond_times() -> None:
    moment = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    body = codec().encode("ListObjectsV2", {"Contents": [{"Key": "a<&\r", "LastModified": moment}]}, "id").body
    assert isinstance(body, bytes)
    root = ET.fromstring(body)
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    assert root.tag == f"{space}ListBucketResult"
    assert root.findtext(f"{space}Contents/{space}Key") == "a<&\r"
    assert root.findtext(f"{space}Contents/{space}LastModified") == "2024-02-03T04:05:06.000Z"


@pytest.mark.parametrize("place", ["eu-west-1", "", None])
def test_a_buckets_location_is_the_roots_text(place: str | None) -> None:
    response = codec().encode("GetBucketLocation", {"LocationConstraint": place}, "id")
    parsed: dict[str, object] = {}
    parse_get_bucket_location(parsed, SimpleNamespace(content=response.body, raw=b""))
    assert parsed["LocationConstraint"] == (place or None)


def test_no_body_on_head_errors_and_on_not_modified() -> None:
    assert codec().encode_fault("HeadObject", ApiFault("NoSuchKey", "no", 404), "id").body == b""
    assert codec().encode_fault("GetObject", ApiFault("NotModified", "no", 304), "id").body == b""


def test_a_fault_carries_its_members_headers_and_the_models_status() -> None:
    fault = ApiFault("NoSuchKey", "gone \x01 <k>", members={"Key": "a\x00b"}, headers={"x-amz-delete-marker": "true"})
    response = codec().encode_fault("GetObject", fault, "id")
    assert response.status == 404
    assert codec().encode_fault("GetObject", ApiFault("NoSuchKey", "", 410), "id").status == 410
    root = ET.fromstring(response.body)
    assert root.findtext("Message") == "gone \ufffd <k>"
    assert root.findtext("Key") == "a\ufffdb"
    assert root.findtext("RequestId") == "id"
    assert response.headers.get("x-amz-delete-marker") == "true"


def test_expires_is_kept_as_the_client_wrote_it() -> None:
    params = codec().decode(request("PUT", "/b/k", expires="not a date")).params
    assert params["Expires"] == "not a date"
