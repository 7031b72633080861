"""Batch transform jobs: Create, Describe, List, Stop. Writes `spec`; the controller writes `status`.

The model is frozen into the job when it is created (`plans`), so that it can be deleted while the job runs.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTransformJob.html, contract C.1,
compat-surface 1.8. What a request may say is in `transform_request`, how a row is shown in `transform_view`.
"""

from __future__ import annotations

from sagewright.core.clock import to_text
from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.services import tags
from sagewright.services.sagemaker import listing, plans, transform_request, transform_view
from sagewright.services.sagemaker.listing import Listing
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store.kinds import transform_job as kind
from sagewright.store.kinds.transform_job import TransformSpec, TransformStatus
from sagewright.store.resources import Resource, Tx
from sagewright.wire.faults import ApiFault, resource_in_use, validation


def operations(secret: bytes) -> dict[str, Operation]:
    """`secret` seals the page tokens."""
    listed = Listing(
        "ListTransformJobs",
        kind.KIND,
        "TransformJobSummaries",
        transform_view.summarize,
        sort=listing.WITH_STATUS,
    )
    return {
        "CreateTransformJob": writes(create_transform_job),
        "DescribeTransformJob": reads(describe_transform_job),
        "ListTransformJobs": listing.operation(listed, secret),
        "StopTransformJob": writes(stop_transform_job),
    }


def create_transform_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    job = kind.key(ctx.account, ctx.region, request["TransformJobName"])
    arn = kind.job_arn(job)
    if tx.find(job) is not None:
        raise _name_taken(arn)
    transform_request.check(ctx, tx, request)
    plan = plans.of_model(ctx, tx, request["ModelName"], request["TransformResources"])
    kept = {name: value for name, value in request.items() if name != "Tags"}
    spec = TransformSpec(kept, plan)
    job_tags = tags.from_wire(request.get("Tags") or ())
    try:
        tx.insert(job, spec.to_row(), TransformStatus().to_row(), kind.IN_PROGRESS, now=ctx.now, wake=True)
    except AlreadyExists:
        raise _name_taken(arn) from None
    tags.add(tx, arn, job_tags)
    return {"TransformJobArn": arn}


def describe_transform_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return transform_view.describe(_existing(ctx, tx, request))


def stop_transform_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Record the wish to stop. Repeating it is success; a job that has ended cannot be stopped."""
    job = _existing(ctx, tx, request)
    if job.state in kind.TERMINAL:
        raise validation(
            f"The request was rejected because the transform job is in status {job.state}. Only a job that is "
            "InProgress can be stopped."
        )
    if job.spec.get("stop_requested_at") is None:
        tx.update_spec(job, {**job.spec, "stop_requested_at": to_text(ctx.now)}, now=ctx.now)
    return {}


def _existing(ctx: Ctx, tx: Tx, request: Request) -> Resource:
    name = request["TransformJobName"]
    job = tx.find(kind.key(ctx.account, ctx.region, name))
    if job is None:
        raise validation(
            f"Could not find requested job with name: {name}. There is no such transform job in {ctx.region}; "
            "ListTransformJobs shows those there are."
        )
    return job


def _name_taken(arn: str) -> ApiFault:
    return resource_in_use(
        "Transform job names must be unique within an AWS account and region, and a transform job with this name "
        f"already exists ({arn}). Choose another name."
    )
