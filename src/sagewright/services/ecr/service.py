"""ECR: its operation table, and logging in.

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/Welcome.html
Owns: the table, GetAuthorizationToken, the registry's own description. Does not own: the registry that docker speaks
to (`registry`), passwords (`core.registry_tokens`). Layers go through docker's protocol only: the operations that
upload or fetch a layer piece by piece are refused by name.
"""

from __future__ import annotations

import base64

from sagewright.core import registry_tokens
from sagewright.core.context import Ctx
from sagewright.core.credentials import Keyring
from sagewright.services.ecr import images, policies, previews, repositories, scanning
from sagewright.services.service import Request, Response, Service, reads
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault


def service(keyring: Keyring, secret: bytes) -> Service:
    """`keyring` makes passwords; `secret` seals page tokens."""

    def get_authorization_token(ctx: Ctx, _tx: Tx, request: Request) -> Response:
        """One password for all registries asked for; there is one here."""
        password = registry_tokens.issue(keyring, ctx.now)
        one = {
            "authorizationToken": base64.b64encode(f"{registry_tokens.USER}:{password}".encode()).decode(),
            "expiresAt": ctx.now + registry_tokens.LIFE,
            "proxyEndpoint": ctx.registry_url,
        }
        return {"authorizationData": [one for _ in request.get("registryIds") or (ctx.account,)]}

    return Service(
        "ecr",
        {
            "GetAuthorizationToken": reads(get_authorization_token),
            "DescribeRegistry": reads(_describe_registry),
            "GetRegistryPolicy": reads(_get_registry_policy),
            **repositories.operations(secret),
            **images.operations(secret),
            **policies.OPERATIONS,
            **previews.operations(secret),
            **scanning.OPERATIONS,
        },
    )


def _describe_registry(ctx: Ctx, _tx: Tx, _request: Request) -> Response:
    return {"registryId": ctx.account, "replicationConfiguration": {"rules": []}}


def _get_registry_policy(ctx: Ctx, _tx: Tx, _request: Request) -> Response:
    raise ApiFault(
        "RegistryPolicyNotFoundException",
        f"Registry policy does not exist in the registry with id '{ctx.account}'",
    )
