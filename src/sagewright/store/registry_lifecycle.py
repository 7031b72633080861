"""ECR's lifecycle policies: reading one, and expiring the images that it says.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
Rules are looked at by priority, the lowest number first. A rule never expires an image whose tags meet a rule before
it, but counts it. Images that an index lists stay as long as the index.

Owns: what a policy means. Does not own: when it is carried out (the controller), the operations (`services.ecr`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson

from sagewright.core.clock import to_text
from sagewright.core.image_manifests import INDEXES, parse
from sagewright.store import registry_rows as rows
from sagewright.store.registry_rows import Repository
from sagewright.store.resources import Tx

POLICY: Final = "lifecyclePolicyText"  # names in a repository's settings
EVALUATED: Final = "lastEvaluatedAt"
_ALL: Final = 100_000
_STATUSES: Final = ("tagged", "untagged", "any")


class PolicyUnreadable(Exception):
    """The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Image:
    digest: str
    tags: tuple[str, ...]
    pushed_at: datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """`days` None: `count` is how many images stay; else images older than that many days go."""

    priority: int
    status: str
    patterns: tuple[str, ...]  # each must be met by a tag
    count: int
    days: int | None

    def meets(self, image: Image) -> bool:
        if self.status == "any":
            return True
        if self.status == "untagged":
            return not image.tags
        return bool(image.tags) and all(
            any(fnmatchcase(tag, pattern) for tag in image.tags) for pattern in self.patterns
        )


def parse_policy(text: str) -> tuple[Rule, ...]:
    """By priority. Raises PolicyUnreadable."""
    try:
        document = orjson.loads(text)
    except ValueError:
        raise PolicyUnreadable("the policy is not JSON") from None
    listed = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise PolicyUnreadable("the policy must have a list of rules, with at least one")
    found = sorted((_rule(each) for each in listed), key=lambda rule: rule.priority)
    if len({rule.priority for rule in found}) < len(found):
        raise PolicyUnreadable("each rule needs a rulePriority of its own")
    if any(rule.status == "any" for rule in found[:-1]):
        raise PolicyUnreadable("a rule with tagStatus any must have the highest rulePriority, and be the only one")
    return tuple(found)


def expiring(rules: Sequence[Rule], images: Sequence[Image], now: datetime) -> dict[str, int]:
    """Digests of the images that must go, each with the priority of the rule that says so."""
    gone: dict[str, int] = {}
    taken: set[str] = set()  # met by an earlier rule
    for rule in rules:
        met = sorted((image for image in images if rule.meets(image)), key=lambda image: image.pushed_at, reverse=True)
        if rule.days is None:
            out = met[rule.count :]
        else:
            out = [image for image in met if now - image.pushed_at > timedelta(days=rule.days)]
        gone |= {image.digest: rule.priority for image in out if image.digest not in taken}
        taken |= {image.digest for image in met}
    return gone


def carry_out(tx: Tx, account: str, now: datetime) -> int:
    """Every repository's policy; how many images went."""
    count = 0
    for repository in rows.list_repositories(tx, account, limit=_ALL):
        if text := repository.settings.get(POLICY):
            gone = expiring(parse_policy(text), images_of(tx, repository), now)
            for digest in gone:
                rows.remove_manifest(tx, repository, digest)
            count += len(gone)
            rows.set_settings(tx, repository, {**repository.settings, EVALUATED: to_text(now)})
    return count


def images_of(tx: Tx, repository: Repository) -> list[Image]:
    """Those that can expire: not the ones that an index lists."""
    manifests = rows.list_manifests(tx, repository)
    tags: dict[str, list[str]] = {}
    for tag in rows.list_tags(tx, repository):
        tags.setdefault(tag.digest, []).append(tag.name)
    held = {
        digest
        for each in manifests
        if each.media_type in INDEXES
        for digest in parse(each.content, each.media_type).manifests
    }
    return [
        Image(each.digest, tuple(tags.get(each.digest, ())), each.pushed_at)
        for each in manifests
        if each.digest not in held
    ]


def _rule(rule: Any) -> Rule:
    if not isinstance(rule, dict):
        raise PolicyUnreadable("each rule must be an object")
    selection, action = rule.get("selection"), rule.get("action")
    priority = _number(rule, "rulePriority")
    if not isinstance(selection, dict):
        raise PolicyUnreadable(f"rule {priority} needs a selection")
    if not isinstance(action, dict) or action.get("type") != "expire":
        raise PolicyUnreadable(f'rule {priority} must have the action {{"type": "expire"}}: no other is supported')
    if selection.get("tagStatus") not in _STATUSES:
        raise PolicyUnreadable(f"tagStatus of rule {priority} must be one of {', '.join(_STATUSES)}")
    kind = selection.get("countType")
    if kind not in ("imageCountMoreThan", "sinceImagePushed"):
        raise PolicyUnreadable(f"countType of rule {priority} must be imageCountMoreThan or sinceImagePushed")
    if (kind == "sinceImagePushed") != (selection.get("countUnit") == "days") or (
        kind != "sinceImagePushed" and "countUnit" in selection
    ):
        raise PolicyUnreadable(f"rule {priority} needs countUnit days with sinceImagePushed, and with nothing else")
    number = _number(selection, "countNumber")
    days = number if kind == "sinceImagePushed" else None
    return Rule(priority, selection["tagStatus"], _patterns(selection, priority), number, days)


def _patterns(selection: Mapping[str, Any], priority: int) -> tuple[str, ...]:
    prefixes, patterns = selection.get("tagPrefixList") or [], selection.get("tagPatternList") or []
    if not all(isinstance(each, str) for each in (*prefixes, *patterns)):
        raise PolicyUnreadable(f"tagPrefixList and tagPatternList of rule {priority} must be lists of text")
    if bool(prefixes) + bool(patterns) != (selection["tagStatus"] == "tagged"):
        raise PolicyUnreadable(
            f"rule {priority} needs tagPrefixList or tagPatternList when tagStatus is tagged, and neither otherwise"
        )
    plain = [each.replace("[", "[[]").replace("?", "[?]") for each in (*prefixes, *patterns)]
    return tuple(f"{each.replace('*', '[*]')}*" for each in plain) if prefixes else tuple(plain)


def _number(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PolicyUnreadable(f"{name} must be a whole number from 1")
    return value
