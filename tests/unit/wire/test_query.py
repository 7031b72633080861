"""The query protocol: forms, documents, faults."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from sagewright.wire import models
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest


def decode(body: str, service: str = "iam", query: str = "", method: str = "POST") -> Call:
    codec = models.codec_for(service, "query")
    return codec.decode(HttpRequest(method, "/", query, Headers(), body.encode()))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "MissingAction"),
        ("Version=2010-05-08", "MissingAction"),
        ("Action=Nonsense", "InvalidAction"),
        ("Action=GetRole&RoleName.Deeper=x", "MalformedQueryString"),
        ("Action=ListRoles&MaxItems=many", "MalformedQueryString"),
        ("Action=ListRoles&MaxItems=1_0", "MalformedQueryString"),
        ("Action=ListRoles&MaxItems=%D9%A1", "MalformedQueryString"),
        ("Action=GetRole&RoleName=%ff", "MalformedQueryString"),
        ("Action=GetRole&" + "a." * 100 + "b=1", "MalformedQueryString"),
    ],
)
def test_a_form_that_makes_no_sense_has_awss_code(body: str, code: str) -> None:
    with pytest.raises(ApiFault) as raised:
        decode(body)
    assert (raised.value.code, raised.value.status) == (code, 400)


def test_the_query_string_works_like_the_form_and_the_form_wins() -> None:
    assert decode("", query="Action=GetRole&RoleName=a%20b", method="GET").params == {"RoleName": "a b"}
    assert decode("RoleName=form", query="Action=GetRole&RoleName=query").params == {"RoleName": "form"}


def test_list_elements_come_in_their_numbers_order_and_gaps_close() -> None:
    body = "Action=SimulatePrincipalPolicy&ActionNames.member.10=c&ActionNames.member.2=b&ActionNames.member.1=a"
    assert decode(body).params == {"ActionNames": ["a", "b", "c"]}


def test_an_empty_list_is_an_empty_list() -> None:
    assert decode("Action=SimulatePrincipalPolicy&ActionNames=").params == {"ActionNames": []}


def test_unknown_parameters_are_ignored() -> None:
    assert decode("Action=GetRole&RoleName=a&Nonsense.member.1=x&X-Amz-Signature=s").params == {"RoleName": "a"}


def test_an_answer_has_the_services_namespace_and_the_request_id() -> None:
    response = models.codec_for("sts").encode(
        "GetCallerIdentity", {"Account": "0", "Arn": "<arn>", "UserId": "u"}, "id"
    )
    space = "{https://sts.amazonaws.com/doc/2011-06-15/}"
    root = ET.fromstring(response.body)
    assert root.tag == f"{space}GetCallerIdentityResponse"
    assert root.findtext(f"{space}GetCallerIdentityResult/{space}Arn") == "<arn>"
    assert root.findtext(f"{space}ResponseMetadata/{space}RequestId") == "id"
    assert response.headers.get("content-type") == "text/xml"


def test_an_operation_without_output_has_metadata_only() -> None:
    root = ET.fromstring(models.codec_for("iam").encode("AttachRolePolicy", {}, "id").body)
    assert [child.tag.rpartition("}")[2] for child in root] == ["ResponseMetadata"]


@pytest.mark.parametrize("raised", ["NoSuchEntityException", "NoSuchEntity"])
def test_a_modelled_error_goes_by_its_wire_code_and_status(raised: str) -> None:
    response = models.codec_for("iam").encode_fault("GetRole", ApiFault(raised, "no role\x01"), "id")
    space = "{https://iam.amazonaws.com/doc/2010-05-08/}"
    root = ET.fromstring(response.body)
    assert response.status == 404
    assert root.findtext(f"{space}Error/{space}Code") == "NoSuchEntity"
    assert root.findtext(f"{space}Error/{space}Type") == "Sender"
    assert root.findtext(f"{space}Error/{space}Message") == "no role\ufffd"
    server = models.codec_for("iam").encode_fault(None, ApiFault("InternalFailure", "", 500), "id")
    assert ET.fromstring(server.body).findtext(f"{space}Error/{space}Type") == "Receiver"
