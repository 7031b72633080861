"""Lists: the filters, the order and the pages that every List operation of SageMaker shares.

Owns: what the common members of a List request mean, and page tokens, which are bound to their filters.
Does not own: how rows are found (`store.paging`), how one is shown (each resource's view).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from sagewright.core.context import Ctx
from sagewright.core.ids import Kind
from sagewright.services.service import Operation, Request, Response, reads
from sagewright.store.resources import Query, Resource, SortBy, Tx
from sagewright.wire import pages

BY_NAME_OR_TIME: Final[Mapping[str, SortBy]] = {"Name": SortBy.NAME, "CreationTime": SortBy.CREATED}
WITH_STATUS: Final[Mapping[str, SortBy]] = {**BY_NAME_OR_TIME, "Status": SortBy.STATE}

_PAGE = 10  # MaxResults when it is not given
_ASKED_ANEW = frozenset({"NextToken", "MaxResults"})  # what may differ between the pages of one list
_TICK = timedelta(microseconds=1)  # the resolution of times in rows


@dataclass(frozen=True, slots=True)
class Listing:
    """One List operation. `member` is the response's list, `sort` what SortBy may say, by CreationTime if it says
    nothing. `descending` and `from_moment` are AWS's documented default order, and whether CreationTimeAfter includes
    the moment itself. `skip` tells rows that the answer leaves out."""

    operation: str
    kind: Kind
    member: str
    summarize: Callable[[Resource], Mapping[str, Any]]
    sort: Mapping[str, SortBy]
    descending: bool = True
    from_moment: bool = True
    skip: Callable[[Resource, Request], bool] = lambda _row, _request: False


def operation(listing: Listing, secret: bytes) -> Operation:
    """The operation; `secret` seals its page tokens."""

    def run(ctx: Ctx, tx: Tx, request: Request) -> Response:
        return _answer(listing, ctx, tx, request, secret)

    return reads(run)


def _answer(listing: Listing, ctx: Ctx, tx: Tx, request: Request, secret: bytes) -> Response:
    scope = _scope(listing, ctx, request)
    token = request.get("NextToken")
    page = tx.page(_query(listing, ctx, request, pages.unseal(secret, token, scope) if token else None))
    following = pages.seal(secret, page.next, scope) if page.next else None
    shown = [listing.summarize(row) for row in page.items if not listing.skip(row, request)]
    return {listing.member: shown, "NextToken": following}


def _query(listing: Listing, ctx: Ctx, request: Request, after: tuple[str, ...] | None) -> Query:
    created_after = request.get("CreationTimeAfter")
    return Query(
        kind=listing.kind,
        account=ctx.account,
        region=ctx.region,
        name_contains=request.get("NameContains"),
        state=request.get("StatusEquals"),
        created_after=_just_before(created_after) if created_after and listing.from_moment else created_after,
        created_before=request.get("CreationTimeBefore"),
        changed_after=request.get("LastModifiedTimeAfter"),
        changed_before=request.get("LastModifiedTimeBefore"),
        sort_by=listing.sort[request.get("SortBy", "CreationTime")],
        descending=_is_descending(listing, request),
        limit=request.get("MaxResults", _PAGE),
        after=after,
    )


def _is_descending(listing: Listing, request: Request) -> bool:
    order = request.get("SortOrder")
    return listing.descending if order is None else order == "Descending"


def _just_before(moment: datetime) -> datetime:
    """The store's bounds are exclusive."""
    return moment - _TICK if moment > datetime.min.replace(tzinfo=UTC) else moment


def _scope(listing: Listing, ctx: Ctx, request: Request) -> str:
    """What a page token is bound to: another filter needs another first page."""
    chosen = {name: value for name, value in request.items() if name not in _ASKED_ANEW}
    text = orjson.dumps([ctx.account, ctx.region, chosen], option=orjson.OPT_SORT_KEYS)
    return f"{listing.operation}:{hashlib.sha256(text).hexdigest()}"
