"""What an image name means when a job or a model is created."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.context import Ctx, Principal
from sagewright.core.ids import Account, Region, RequestId
from sagewright.core.image_manifests import OCI_INDEX
from sagewright.services import images
from sagewright.store import registry_push, registry_rows
from sagewright.store.db import Database
from sagewright.wire.faults import ApiFault

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNT = Account("000000000000")
HOST = "127.0.0.1:8470"
Resolve = Callable[[str], Mapping[str, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(tmp_path / "db")
    yield made
    made.close()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "images.json"


@pytest.fixture
def resolve(store: Database, table: Path) -> Resolve:
    who = Principal(ACCOUNT, "arn", "id", "key")
    ctx = Ctx(ACCOUNT, Region("us-east-1"), who, NOW, RequestId("r"))
    ctx = replace(ctx, registry=HOST, image_names=table)
    return lambda name: store.read(lambda tx: images.resolve(ctx, tx, name))


def push(store: Database, name: str, mark: str, tag: str) -> str:
    """The digest of what NAME:TAG is now."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"mark": mark}}

    def work(tx: Any) -> str:
        found = registry_rows.find_repository(tx, ACCOUNT, name) or registry_rows.create_repository(
            tx, account=ACCOUNT, region="us-east-1", name=name, now=NOW, settings={}
        )
        return registry_push.push(tx, found, json.dumps(document).encode(), None, tag, now=NOW).digest

    return store.write(work)


def test_our_registry_is_first_and_the_digest_is_pinned(store: Database, resolve: Resolve) -> None:
    old = push(store, "team/a", "old", "latest")
    before = resolve(f"{HOST}/team/a")
    new = push(store, "team/a", "new", "latest")
    assert before["own"] == f"team/a@{old}"
    for host in (HOST, f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"):
        assert resolve(f"{host}/team/a")["own"] == f"team/a@{new}"
        assert resolve(f"{host}/team/a@{old}")["own"] == f"team/a@{old}"
        assert resolve(f"{host}/team/a:other") == {"name": f"{host}/team/a:other", "folder": None}


def test_a_name_without_our_host_is_the_engines(store: Database, resolve: Resolve) -> None:
    push(store, "team/a", "x", "latest")
    for name in ("team/a", "127.0.0.1:5000/team/a", "docker.io/team/a:latest"):
        assert resolve(name) == {"name": name, "folder": None}


def test_the_users_table(store: Database, resolve: Resolve, table: Path) -> None:
    digest = push(store, "mine/xgb", "x", "1")
    table.write_text(
        json.dumps(
            {"pytorch-training:2.1*": "my/pytorch:2", "246618743249/*": f"{HOST}/mine/xgb:1", "kmeans:1": "km:1"}
        )
    )
    aws = "dkr.ecr.us-west-2.amazonaws.com"
    assert resolve(f"763104351884.{aws}/pytorch-training:2.1.0-gpu-py310")["stands_for"] == "my/pytorch:2"
    assert resolve(f"246618743249.{aws}/sagemaker-xgboost:1.7-1")["own"] == f"mine/xgb@{digest}"
    assert resolve(f"174872318107.{aws}/kmeans:1")["stands_for"] == "km:1"
    assert "stands_for" not in resolve(f"763104351884.{aws}/pytorch-training:2.0.0")
    with pytest.raises(ApiFault, match="AWS's own algorithm kmeans"):
        resolve(f"174872318107.{aws}/kmeans:2")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_a_table_that_cannot_be_read_is_said(resolve: Resolve, table: Path, text: str) -> None:
    table.write_text(text)
    with pytest.raises(ApiFault, match=r"The table of images .*images\.json"):
        resolve("763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.1.0")
