"""ECR's image scans: how a repository is set to scan is kept and shown, and nothing here scans.

Owns: what is asked about scans. Does not own: the setting itself (`repositories`). Starting a scan is answered
`NotImplemented` by name, so that nobody takes an image for examined.
"""

from __future__ import annotations

from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.services.ecr.common import existing, repository_arn, repository_not_found
from sagewright.services.ecr.images import find_image
from sagewright.services.service import Operation, Request, Response, reads
from sagewright.store import registry_rows as rows
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault


def _findings(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """As ECR says it of an image that was never scanned."""
    repository, image_id = existing(ctx, tx, request), request["imageId"]
    found = find_image(ctx, tx, repository, image_id)
    raise ApiFault(
        "ScanNotFoundException",
        f"Image scan does not exist for the image with '{{imageDigest:'{found.digest}', "
        f"imageTag:'{image_id.get('imageTag') or 'null'}'}}' in the repository with name '{repository.name}' in the "
        f"registry with id '{ctx.account}'. Images are not scanned here.",
    )


def _of_registry(ctx: Ctx, _tx: Tx, _request: Request) -> Response:
    return {"registryId": ctx.account, "scanningConfiguration": {"scanType": "BASIC", "rules": []}}


def _of_repositories(ctx: Ctx, tx: Tx, request: Request) -> Response:
    shown, failures = [], []
    for name in request["repositoryNames"]:
        repository = rows.find_repository(tx, ctx.account, name)
        if repository is None:
            reason = repository_not_found(name, ctx.account).message
            failures.append({"repositoryName": name, "failureCode": "REPOSITORY_NOT_FOUND", "failureReason": reason})
            continue
        on_push = bool((repository.settings.get("imageScanningConfiguration") or {}).get("scanOnPush"))
        one: dict[str, Any] = {"repositoryArn": repository_arn(repository), "repositoryName": name}
        frequency = "SCAN_ON_PUSH" if on_push else "MANUAL"
        shown.append(one | {"scanOnPush": on_push, "scanFrequency": frequency, "appliedScanFilters": []})
    return {"scanningConfigurations": shown, "failures": failures}


OPERATIONS: Final[dict[str, Operation]] = {
    "DescribeImageScanFindings": reads(_findings),
    "GetRegistryScanningConfiguration": reads(_of_registry),
    "BatchGetRepositoryScanningConfiguration": reads(_of_repositories),
}
