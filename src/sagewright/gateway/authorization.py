"""What an authenticated caller may do.

Every principal that this installation has issued keys to may do everything: there is one account, its keys are its
owner's, and a container has its role's. The step has a place of its own in the request's line, before the operation
and after validation, with everything that a policy could ask about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.context import Ctx
from sagewright.wire.faults import ApiFault


def authorize(ctx: Ctx, service: str, operation: str, params: Mapping[str, Any]) -> None:
    """Raises ApiFault AccessDenied."""
    if ctx.principal.account != ctx.account:
        raise ApiFault(
            "AccessDenied",
            f"User: {ctx.principal.arn} is not authorized to perform: {service}:{operation}. "
            f"The keys belong to another account than {ctx.account}.",
            403,
        )
