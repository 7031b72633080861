"""ListEndpoints over a real store: filters, order, pages, and what clients see otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagewright.services.sagemaker.service import service
from sagewright.store.db import Database
from support import hosting
from support.hosting import config, model, serve, set_status
from unit.services.conftest import NOW, Call

SAGEMAKER = service(b"secret")


@pytest.fixture
def four(call: Call, store: Database) -> None:
    hosting.add_artifact(store, NOW, "files/a")
    call(SAGEMAKER, "CreateModel", **model())
    call(SAGEMAKER, "CreateEndpointConfig", **config())
    for second, name in enumerate(("c-one", "a-two", "e-one", "b-two")):
        call(SAGEMAKER, "CreateEndpoint", second=second, EndpointName=name, EndpointConfigName="config")
    serve(store, "a-two", NOW + timedelta(seconds=20))
    set_status(store, "e-one", "Failed", NOW + timedelta(seconds=10))


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["b-two", "e-one", "a-two", "c-one"]),
        ({"SortOrder": "Ascending"}, ["c-one", "a-two", "e-one", "b-two"]),
        ({"SortBy": "Name", "SortOrder": "Ascending"}, ["a-two", "b-two", "c-one", "e-one"]),
        ({"NameContains": "two", "SortBy": "Name"}, ["b-two", "a-two"]),
        ({"StatusEquals": "Creating"}, ["b-two", "c-one"]),
        ({"StatusEquals": "InService"}, ["a-two"]),
        ({"StatusEquals": "SystemUpdating"}, []),
        ({"CreationTimeAfter": NOW + timedelta(seconds=2)}, ["b-two", "e-one"]),
        ({"CreationTimeBefore": NOW + timedelta(seconds=1)}, ["c-one"]),
        ({"LastModifiedTimeAfter": NOW + timedelta(seconds=10)}, ["a-two"]),
        ({"LastModifiedTimeBefore": NOW + timedelta(seconds=4)}, ["b-two", "c-one"]),
    ],
)
def test_lists_filter_sort_and_page(call: Call, filters: dict[str, Any], expected: list[str], size: int) -> None:
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = call(SAGEMAKER, "ListEndpoints", MaxResults=size, **filters, **token)
        found += [summary["EndpointName"] for summary in page["Endpoints"]]
        if page["NextToken"] is None:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == expected


@pytest.mark.usefixtures("four")
def test_a_list_by_status_never_shows_what_clients_see_otherwise(call: Call) -> None:
    call(SAGEMAKER, "DeleteEndpoint", EndpointName="a-two")
    assert call(SAGEMAKER, "ListEndpoints", StatusEquals="InService")["Endpoints"] == []
    shown = {each["EndpointName"]: each["EndpointStatus"] for each in call(SAGEMAKER, "ListEndpoints")["Endpoints"]}
    assert shown["a-two"] == "Deleting"
