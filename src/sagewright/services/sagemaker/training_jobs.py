"""Training jobs: Create, Describe, List, Update, Stop, Delete. Writes `spec`; the controller writes `status`.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html, contract A.12,
compat-surface 1.4 and 1.16. What a request may say is in `training_request`, how a row is shown in `training_view`.
"""

from __future__ import annotations

from sagewright.core.clock import to_text
from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.services import images, tags
from sagewright.services.sagemaker import listing, training_conditions, training_request, training_view
from sagewright.services.sagemaker.listing import Listing
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Resource, Tx
from sagewright.wire.faults import ApiFault, resource_in_use, validation


def _has_another_pool(job: Resource, request: Request) -> bool:
    wanted = request.get("WarmPoolStatusEquals")
    return wanted is not None and training_view.warm_pool(job).get("Status") != wanted


_LIST = Listing(
    "ListTrainingJobs",
    kind.KIND,
    "TrainingJobSummaries",
    training_view.summarize,
    sort=listing.WITH_STATUS,
    descending=False,
    from_moment=False,
    skip=_has_another_pool,
)


def operations(secret: bytes) -> dict[str, Operation]:
    """`secret` seals the page tokens."""
    listed = listing.operation(_LIST, secret).function

    def list_training_jobs(ctx: Ctx, tx: Tx, request: Request) -> Response:
        if "TrainingPlanArnEquals" in request:
            return {"TrainingJobSummaries": [], "NextToken": None}  # no job here has a training plan
        return listed(ctx, tx, request)

    return {
        "CreateTrainingJob": writes(create_training_job),
        "DescribeTrainingJob": reads(describe_training_job),
        "ListTrainingJobs": reads(list_training_jobs),
        "UpdateTrainingJob": writes(update_training_job),
        "StopTrainingJob": writes(stop_training_job),
        "DeleteTrainingJob": writes(delete_training_job),
    }


def create_training_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Accept a job. Everything that can be known now is refused now, so that nothing starts only to fail."""
    job = kind.key(ctx.account, ctx.region, request["TrainingJobName"])
    arn = kind.job_arn(job)
    if tx.find(job) is not None:
        raise _name_taken(arn)
    training_request.check(ctx, tx, request)
    image = images.resolve(ctx, tx, request["AlgorithmSpecification"]["TrainingImage"])
    job_tags = tags.from_wire(request.get("Tags", ()))
    kept = {name: value for name, value in request.items() if name != "Tags"}
    spec = kind.TrainingSpec(kept, image)
    try:
        tx.insert(job, spec.to_row(), kind.TrainingStatus().to_row(), kind.IN_PROGRESS, now=ctx.now, wake=True)
    except AlreadyExists:
        raise _name_taken(arn) from None
    tags.add(tx, arn, job_tags)
    return {"TrainingJobArn": arn}


def describe_training_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return training_view.describe(_existing(ctx, tx, request))


def update_training_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Change what may be changed of a job under way; its container is left alone."""
    job = _existing(ctx, tx, request)
    if job.state in kind.TERMINAL and not request.get("ResourceConfig"):
        raise validation(f"Training job {job.key.name} has ended ({job.state}): it cannot be changed any more.")
    tx.update_spec(job, {**job.spec, "request": training_conditions.updated(job, request)}, now=ctx.now)
    return {"TrainingJobArn": kind.job_arn(job.key)}


def stop_training_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Record the wish to stop. Repeating it is success; a job that has ended cannot be stopped."""
    job = _existing(ctx, tx, request)
    if job.state in kind.TERMINAL:
        raise validation(
            f"The request was rejected because the training job is in status {job.state}. Only a job that is "
            "InProgress can be stopped."
        )
    spec = kind.TrainingSpec.from_row(job.spec)
    if spec.stop_requested_at is None:
        tx.update_spec(job, {**job.spec, "stop_requested_at": to_text(ctx.now)}, now=ctx.now)
    return {}


def delete_training_job(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Record the wish to delete an ended job; its name is free once the controller has cleaned up after it."""
    job = _existing(ctx, tx, request)
    if job.state not in kind.TERMINAL:
        raise resource_in_use(
            f"Training job {job.key.name} is in status {job.state}. Stop it, wait until it has ended, then delete it."
        )
    if training_view.warm_pool(job).get("Status") == kind.POOL_AVAILABLE:
        raise resource_in_use(
            f"Training job {job.key.name} has a warm pool that is {kind.POOL_AVAILABLE}. End it first: "
            "UpdateTrainingJob with ResourceConfig.KeepAlivePeriodInSeconds 0."
        )
    tx.remove_tags(kind.job_arn(job.key))
    tx.update_spec(job, {**job.spec, "delete_requested": True}, now=ctx.now)
    return {}


def _existing(ctx: Ctx, tx: Tx, request: Request) -> Resource:
    name = request["TrainingJobName"]
    job = tx.find(kind.key(ctx.account, ctx.region, name))
    if job is None or job.spec.get("delete_requested"):
        raise validation(
            f"Requested resource not found. There is no training job named '{name}' in {ctx.region}; "
            "ListTrainingJobs shows those there are."
        )
    return job


def _name_taken(arn: str) -> ApiFault:
    return resource_in_use(
        "Training job names must be unique within an AWS account and region, and a training job with this name "
        f"already exists ({arn}). Choose another name, or delete that job first."
    )
