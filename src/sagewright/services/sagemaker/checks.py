"""Checks that several resources share, and the sentences that go with them. Changes nothing."""

from __future__ import annotations

from sagewright.core.context import Ctx
from sagewright.store.kinds import role as roles
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault, validation


def check_role(ctx: Ctx, tx: Tx, arn: str) -> None:
    """Raises ValidationException unless the role is there and lets SageMaker assume it."""
    account = arn.split(":")[4]
    row = tx.find(roles.key(ctx.account, arn.rsplit("/", 1)[-1])) if account == ctx.account else None
    exists = row is not None and roles.role_arn(ctx.account, row.spec["path"], row.key.name) == arn
    if row is None or not exists or not roles.trusts_sagemaker(row.spec):
        why = "its trust policy does not allow that" if exists else "there is no such role here"
        raise validation(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
            f"'{roles.SAGEMAKER}' to assume the role ({why}). The role "
            f"{roles.role_arn(ctx.account, '/', roles.DEFAULT_ROLE)} always works; `aws iam create-role` makes others."
        )


def later(what: str, instead: str) -> ApiFault:
    """AWS has it and this version does not: says so by name, and what to do instead."""
    return validation(f"{what} is not supported by this version of Sagewright. {instead}.")
