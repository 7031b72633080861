"""Which variant, and which of its instances (contract B.12).

Owns: the choice. Chance comes from `random`: no two clients should agree on an instance.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagewright.router.live import Instance, LiveRoute, LiveVariant


def variant(route: LiveRoute) -> LiveVariant | None:
    """By weight, among those that have an instance; None when none with a weight has.

    A variant without any instance in service hands its share to the others: its requests would only fail.
    """
    if len(route.variants) == 1:
        only = route.variants[0]
        return only if only.instances and only.variant.weight > 0 else None
    able = [live for live in route.variants if live.instances and live.variant.weight > 0]
    if not able:
        return None
    return random.choices(able, [live.variant.weight for live in able])[0]


def instance(live: LiveVariant, tried: frozenset[str], pinned: str | None, now: float) -> Instance | None:
    """An instance that can take a request now; None when all are full. Those in `tried` are out of the question, those
    that have just refused a connection come last. `pinned`: no other."""
    instances = live.instances
    if pinned is not None and pinned not in tried:
        found = next((one for one in instances if one.id == pinned), None)
        if found is not None:
            return None if found.is_full else found
    if len(instances) == 1:
        only = instances[0]
        return None if only.is_full or only.id in tried else only
    free = [one for one in instances if not one.is_full and one.id not in tried]
    if not free:
        return None
    trusted = [one for one in free if one.suspect_until <= now] or free
    if live.variant.random:
        return random.choice(trusted)
    live.turn += 1
    first = live.turn % len(trusted)
    return min(trusted[first:] + trusted[:first], key=_outstanding)


def unused(live: LiveVariant) -> None:
    """The last choice of an instance came to nothing: the next begins where it did."""
    live.turn -= 1


def _outstanding(one: Instance) -> int:
    return one.outstanding
