"""Lifecycle policies: which images go."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.image_manifests import OCI_INDEX
from sagewright.store import registry_lifecycle, registry_push, registry_rows
from sagewright.store.db import Database
from sagewright.store.registry_lifecycle import Image, PolicyUnreadable, expiring, parse_policy

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def rule(priority: int, status: str, count: int, *, days: bool = False, **selection: Any) -> dict[str, Any]:
    counted = {"countType": "sinceImagePushed", "countUnit": "days"} if days else {"countType": "imageCountMoreThan"}
    chosen = {"tagStatus": status, "countNumber": count, **counted, **selection}
    return {"rulePriority": priority, "selection": chosen, "action": {"type": "expire"}}


def policy(*rules: dict[str, Any]) -> str:
    return json.dumps({"rules": list(rules)})


def image(name: str, days_old: int, *tags: str) -> Image:
    return Image(name, tags, NOW - timedelta(days=days_old))


def gone(text: str, *images: Image) -> set[str]:
    return set(expiring(parse_policy(text), images, NOW))


def test_more_than_a_count_leaves_the_newest() -> None:
    text = policy(rule(1, "any", 2))
    assert gone(text, image("old", 9), image("mid", 5, "a"), image("new", 1)) == {"old"}


def test_age_counts_whole_days() -> None:
    text = policy(rule(1, "untagged", 7, days=True))
    assert gone(text, image("a", 8), image("b", 7), image("tagged", 30, "v1")) == {"a"}


def test_all_prefixes_must_be_met() -> None:
    text = policy(rule(1, "tagged", 1, tagPrefixList=["prod", "eu"]))
    assert gone(text, image("a", 3, "prod1", "eu1"), image("b", 2, "prod2", "eu2"), image("c", 9, "prod3")) == {"a"}


def test_a_pattern_has_wildcards_a_prefix_has_none() -> None:
    images = (image("a", 9, "x*y-1"), image("b", 9, "xzy-1"))
    assert gone(policy(rule(1, "tagged", 1, days=True, tagPrefixList=["x*"])), *images) == {"a"}
    assert gone(policy(rule(1, "tagged", 1, days=True, tagPatternList=["x*-1"])), *images) == {"a", "b"}


def test_what_an_earlier_rule_meets_is_counted_and_kept_by_a_later_one() -> None:
    text = policy(rule(1, "tagged", 100, tagPrefixList=["keep"]), rule(2, "any", 1))
    assert gone(text, image("kept", 9, "keep1"), image("out", 8, "x"), image("new", 1, "keep2")) == {"out"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not JSON"),
        ("{}", "list of rules"),
        (policy(rule(1, "any", 1), rule(2, "untagged", 1)), "highest rulePriority"),
        (policy(rule(1, "untagged", 1), rule(1, "any", 1)), "of its own"),
        (policy(rule(1, "tagged", 1)), "tagPrefixList or tagPatternList"),
        (policy(rule(1, "any", 0)), "countNumber"),
        (policy(rule(1, "any", 1) | {"action": {"type": "transition"}}), "no other is supported"),
        (policy(rule(1, "any", 1, countUnit="days")), "countUnit"),
    ],
)
def test_unreadable(text: str, words: str) -> None:
    with pytest.raises(PolicyUnreadable, match=words):
        parse_policy(text)


def test_carried_out_on_rows_but_not_on_what_an_index_lists(tmp_path: Path) -> None:
    store = Database.open(tmp_path / "db")

    def index(mark: str, *digests: str) -> bytes:
        listed = [{"mediaType": OCI_INDEX, "digest": each, "size": 2} for each in digests]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, "annotations": {"m": mark}}
        return json.dumps(document).encode()

    def fill(tx: Any) -> None:
        made = registry_rows.create_repository(
            tx,
            account="000000000000",
            region="us-east-1",
            name="r",
            now=NOW,
            settings={registry_lifecycle.POLICY: policy(rule(1, "untagged", 5, days=True))},
        )
        old = NOW - timedelta(days=9)
        inner = registry_push.push(tx, made, index("inner"), None, None, now=old)
        registry_push.push(tx, made, index("outer", inner.digest), None, "v1", now=old)
        registry_push.push(tx, made, index("stale"), None, None, now=old)

    def left(tx: Any) -> int:
        found = registry_rows.find_repository(tx, "000000000000", "r")
        assert found is not None
        assert registry_lifecycle.EVALUATED in found.settings
        return len(registry_rows.list_manifests(tx, found))

    store.write(fill)
    assert store.write(lambda tx: registry_lifecycle.carry_out(tx, "000000000000", NOW)) == 1
    assert store.read(left) == 2
    store.close()
