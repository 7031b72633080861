"""Endpoint operations over a real store: what is frozen, what is shown while it changes, what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sagewright.services.sagemaker.service import service
from sagewright.store import object_rows
from sagewright.store.db import Database
from sagewright.store.kinds import endpoint as kind
from sagewright.wire.faults import ApiFault
from support import hosting
from support.hosting import ARTIFACT, ROLE, config, forget, model, serve, set_status, spec_of, variant
from unit.services.conftest import NOW, Call

SAGEMAKER = service(b"secret")
ARN = "arn:aws:sagemaker:us-east-1:000000000000:endpoint/e"
ALL_STATES = ("Creating", "InService", "Updating", "RollingBack", "OutOfService", "Failed")


@pytest.fixture(autouse=True)
def configs(store: Database, call: Call) -> None:
    hosting.add_artifact(store, NOW, "files/a")
    call(SAGEMAKER, "CreateModel", **model())
    call(SAGEMAKER, "CreateEndpointConfig", **config())
    two = (variant("A", InitialVariantWeight=3, InitialInstanceCount=2), variant("B"))
    call(SAGEMAKER, "CreateEndpointConfig", **config("two", *two))


@pytest.fixture
def serving(call: Call, store: Database) -> None:
    """`e` with the variants A (weight 3, two instances) and B (weight 1, one instance)."""
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="two", Tags=[])
    serve(store, "e", NOW)


def describe(call: Call, name: str = "e") -> dict[str, Any]:
    return dict(call(SAGEMAKER, "DescribeEndpoint", EndpointName=name))


def rescale(call: Call, *changes: dict[str, Any]) -> None:
    call(SAGEMAKER, "UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=list(changes))


def test_a_new_endpoint_is_creating_and_handed_to_the_controller(call: Call, store: Database) -> None:
    asked = {"EndpointName": "e", "EndpointConfigName": "config", "Tags": []}
    assert call(SAGEMAKER, "CreateEndpoint", **asked) == {"EndpointArn": ARN}
    shown = describe(call)
    assert (shown["EndpointArn"], shown["EndpointConfigName"], shown["EndpointStatus"]) == (ARN, "config", "Creating")
    assert (shown["CreationTime"], shown["LastModifiedTime"]) == (NOW, NOW)
    (only,) = shown["ProductionVariants"]
    assert (only["CurrentInstanceCount"], only["DesiredInstanceCount"]) == (0, 1)
    assert only["VariantStatus"][0]["Status"] == "Creating"
    assert shown["PendingDeploymentSummary"]["ProductionVariants"][0]["InstanceType"] == "ml.m5.large"
    assert "FailureReason" not in shown
    row = store.read(lambda tx: tx.get(kind.key("000000000000", "us-east-1", "e")))
    assert row.wake_at is not None


def test_how_far_a_new_endpoint_has_come_is_shown(call: Call, store: Database) -> None:
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config")
    building = hosting.fleet(spec_of(store, "e"), NOW, kind.STAGING)
    set_status(store, "e", "Creating", NOW, fleets=(building,), handled=(1, 0), pending=True)
    (only,) = describe(call)["ProductionVariants"]
    assert only["CurrentInstanceCount"] == 0
    assert only["VariantStatus"] == [
        {"Status": "Creating", "StatusMessage": "0 of 1 instances in service (1 staging)", "StartTime": NOW}
    ]


def test_everything_that_a_deployment_needs_is_frozen(call: Call, store: Database) -> None:
    containers = [
        {"Image": "i1", "ContainerHostname": "one", "ModelDataUrl": ARTIFACT},
        {
            "Image": "i2",
            "ContainerHostname": "two",
            "Environment": {"A": "1"},
            "ModelDataSource": {
                "S3DataSource": {"S3Uri": "s3://bucket/files/", "S3DataType": "S3Prefix", "CompressionType": "None"}
            },
        },
    ]
    direct = {"PrimaryContainer": None, "Containers": containers, "InferenceExecutionConfig": {"Mode": "Direct"}}
    call(SAGEMAKER, "CreateModel", **model("many", **direct, EnableNetworkIsolation=True))
    rich = variant(
        ModelName="many",
        RoutingConfig={"RoutingStrategy": "RANDOM"},
        ContainerStartupHealthCheckTimeoutInSeconds=90,
        ModelDataDownloadTimeoutInSeconds=70,
    )
    call(SAGEMAKER, "CreateEndpointConfig", **config("rich", rich))
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="rich")
    call(SAGEMAKER, "DeleteEndpointConfig", EndpointConfigName="rich")
    call(SAGEMAKER, "DeleteModel", ModelName="many")
    expected = kind.VariantPlan(
        name="AllTraffic",
        weight=1.0,
        count=1,
        instance_type="ml.m5.large",
        model="many",
        role=ROLE,
        isolated=True,
        mode="Direct",
        routing="RANDOM",
        startup_seconds=90,
        download_seconds=70,
        containers=(
            kind.ContainerPlan("one", {"name": "i1", "folder": None}, {}, ARTIFACT, kind.TAR),
            kind.ContainerPlan("two", {"name": "i2", "folder": None}, {"A": "1"}, "s3://bucket/files/", kind.PREFIX),
        ),
    )
    assert spec_of(store, "e").plan == kind.Plan("rich", (expected,))
    assert describe(call)["EndpointConfigName"] == "rich"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PrimaryContainer": {"Image": "i", "ContainerHostname": "ignored"}}, ["primary"]),
        ({"PrimaryContainer": None, "Containers": [{"Image": "i"}]}, ["primary"]),
        ({"PrimaryContainer": None, "Containers": [{"Image": "i", "ContainerHostname": "own"}]}, ["own"]),
        ({"PrimaryContainer": None, "Containers": [{"Image": "i"}] * 3}, ["container-1", "container-2", "container-3"]),
    ],
)
def test_containers_have_the_names_that_errors_and_logs_use(
    call: Call, store: Database, changes: dict[str, Any], expected: list[str]
) -> None:
    call(SAGEMAKER, "CreateModel", **model("m", **changes))
    call(SAGEMAKER, "CreateEndpointConfig", **config("c", variant(ModelName="m")))
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    (only,) = spec_of(store, "e").plan.variants
    assert [container.name for container in only.containers] == expected
    assert (only.startup_seconds, only.download_seconds) == (kind.STARTUP_SECONDS, kind.DOWNLOAD_SECONDS)


def test_names_missing_and_taken_are_told_in_the_words_that_sdks_know(call: Call) -> None:
    operations = {
        "DescribeEndpoint": {},
        "DeleteEndpoint": {},
        "UpdateEndpoint": {"EndpointConfigName": "config"},
        "UpdateEndpointWeightsAndCapacities": {"DesiredWeightsAndCapacities": []},
    }
    for name, more in operations.items():
        with pytest.raises(ApiFault) as caught:
            call(SAGEMAKER, name, EndpointName="e", **more)
        assert (caught.value.code, caught.value.message) == ("ValidationException", f'Could not find endpoint "{ARN}".')
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config")
    with pytest.raises(ApiFault) as caught:
        call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config")
    assert (caught.value.code, caught.value.message) == (
        "ValidationException",
        f'Cannot create already existing endpoint "{ARN}".',
    )


def remove_artifact(store: Database) -> None:
    def remove(tx: Any) -> None:
        bucket, row = object_rows.find(tx, "bucket", "m/model.tar.gz")
        assert bucket is not None
        assert row is not None
        object_rows.remove(tx, bucket, [row])

    store.write(remove)


@pytest.mark.parametrize("operation", ["CreateEndpoint", "UpdateEndpoint"])
@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("config", 'Could not find endpoint configuration "arn:aws:'),
        ("model", 'Could not find model "arn:aws:'),
        ("artifact", f"Could not find model data at {ARTIFACT}"),
        ("role", "Could not assume role"),
    ],
)
def test_what_has_gone_since_is_refused_and_nothing_is_stuck(
    call: Call, store: Database, operation: str, gone: str, words: str
) -> None:
    name = "e" if operation == "CreateEndpoint" else "old"
    call(SAGEMAKER, "CreateEndpoint", EndpointName="old", EndpointConfigName="two")
    serve(store, "old", NOW)
    if gone == "config":
        call(SAGEMAKER, "DeleteEndpointConfig", EndpointConfigName="config")
    elif gone == "model":
        call(SAGEMAKER, "DeleteModel", ModelName="model")
    elif gone == "artifact":
        remove_artifact(store)
    else:
        from sagewright.store.kinds import role

        store.write(lambda tx: tx.remove(tx.get(role.key("000000000000", role.DEFAULT_ROLE))))
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, operation, EndpointName=name, EndpointConfigName="config")
    assert words in caught.value.message
    assert [each["EndpointName"] for each in call(SAGEMAKER, "ListEndpoints")["Endpoints"]] == ["old"]
    assert describe(call, "old")["EndpointStatus"] == "InService"


@pytest.mark.usefixtures("serving")
def test_what_serves_is_shown(call: Call) -> None:
    shown = describe(call)
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("InService", "two")
    assert "PendingDeploymentSummary" not in shown
    first, second = shown["ProductionVariants"]
    assert first == {
        "VariantName": "A",
        "DeployedImages": [{"SpecifiedImage": "image:1", "ResolvedImage": "image@sha256:1", "ResolutionTime": NOW}],
        "CurrentWeight": 3.0,
        "DesiredWeight": 3.0,
        "CurrentInstanceCount": 2,
        "DesiredInstanceCount": 2,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    assert (second["VariantName"], second["CurrentInstanceCount"]) == ("B", 1)


@pytest.mark.usefixtures("serving")
def test_an_update_is_updating_from_the_call_on_and_the_old_version_is_still_shown(call: Call, store: Database) -> None:
    call(SAGEMAKER, "UpdateEndpoint", second=5, EndpointName="e", EndpointConfigName="config")
    shown = describe(call)
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("Updating", "two")
    assert shown["LastModifiedTime"] == NOW + timedelta(seconds=5)
    assert [each["VariantName"] for each in shown["ProductionVariants"]] == ["A", "B"]
    pending = shown["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "config"
    assert [each["VariantName"] for each in pending["ProductionVariants"]] == ["AllTraffic"]
    spec = spec_of(store, "e")
    assert (spec.revision, spec.scale, spec.config) == (2, 0, "config")
    serve(store, "e", NOW)
    shown = describe(call)
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("InService", "config")


@pytest.mark.usefixtures("serving")
def test_how_far_a_new_version_has_come_is_shown(call: Call, store: Database) -> None:
    call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="config")
    old = hosting.fleet(replace(spec_of(store, "e"), revision=1), NOW, plan=None)
    new = hosting.fleet(spec_of(store, "e"), NOW, kind.STARTING)
    set_status(store, "e", "Updating", NOW, fleets=(old, new), serving=old.id, handled=(2, 0), pending=True)
    (pending,) = describe(call)["PendingDeploymentSummary"]["ProductionVariants"]
    assert (pending["CurrentInstanceCount"], pending["DesiredInstanceCount"]) == (0, 1)
    told = "0 of 1 instances in service (1 starting)"
    assert pending["VariantStatus"][0]["StatusMessage"] == told
    ping = {"time": "", "status": 500, "error": "", "body": "no weights", "ms": 1}
    died = "It was started 2 times; the last time: exit code 7. Last log lines:\nbye"
    for change, more in (
        ({"transcript": (ping,)}, ". The last GET /ping: 500 'no weights'"),
        (
            {"transcript": ({**ping, "status": None, "error": "connection refused"},)},
            ". The last GET /ping: connection refused",
        ),
        ({"message": died}, ". It was started 2 times; the last time: exit code 7."),
        ({"message": "x" * 2000}, "."),
    ):
        held = replace(new, instances=tuple(replace(each, **change) for each in new.instances))
        set_status(store, "e", "Updating", NOW, fleets=(old, held))
        (pending,) = describe(call)["PendingDeploymentSummary"]["ProductionVariants"]
        message = pending["VariantStatus"][0]["StatusMessage"]
        assert message == told + more or (message.startswith(f"{told}. xxx") and len(message) == 1024)


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("retain", "excluded", "expected"),
    [
        (False, [], [(3.0, 2), (1.0, 1)]),
        (True, [], [(9.0, 4), (1.0, 1)]),
        (True, ["DesiredInstanceCount"], [(9.0, 2), (1.0, 1)]),
        (True, ["DesiredWeight", "DataCaptureConfig"], [(3.0, 4), (1.0, 1)]),
        (True, ["DesiredWeight", "DesiredInstanceCount"], [(3.0, 2), (1.0, 1)]),
    ],
)
def test_an_update_keeps_the_properties_it_is_told_to(
    call: Call, store: Database, retain: bool, excluded: list[str], expected: list[tuple[float, int]]
) -> None:
    rescale(call, {"VariantName": "A", "DesiredWeight": 9.0, "DesiredInstanceCount": 4})
    serve(store, "e", NOW)
    call(
        SAGEMAKER,
        "UpdateEndpoint",
        EndpointName="e",
        EndpointConfigName="two",
        RetainAllVariantProperties=retain,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": each} for each in excluded],
    )
    spec = spec_of(store, "e")
    assert [(each.weight, each.count) for each in spec.plan.variants] == expected
    assert (spec.revision, spec.scale) == (2, 1)


def test_a_variant_that_was_not_there_keeps_what_its_configuration_says(call: Call, store: Database) -> None:
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config")
    serve(store, "e", NOW)
    call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="two", RetainAllVariantProperties=True)
    assert [(each.weight, each.count) for each in spec_of(store, "e").plan.variants] == [(3.0, 2), (1.0, 1)]


@pytest.mark.usefixtures("serving")
def test_weights_and_counts_change_in_place(call: Call, store: Database) -> None:
    rescale(call, {"VariantName": "A", "DesiredWeight": 0.0}, {"VariantName": "B", "DesiredInstanceCount": 3})
    spec = spec_of(store, "e")
    assert (spec.revision, spec.scale, spec.config) == (1, 1, "two")
    assert [(each.weight, each.count) for each in spec.plan.variants] == [(0.0, 2), (1.0, 3)]
    shown = describe(call)
    first, second = shown["ProductionVariants"]
    assert shown["EndpointStatus"] == "Updating"
    assert "PendingDeploymentSummary" not in shown
    assert (first["CurrentWeight"], first["DesiredWeight"]) == (3.0, 0.0)
    assert (second["CurrentInstanceCount"], second["DesiredInstanceCount"]) == (1, 3)
    serve(store, "e", NOW)
    assert describe(call)["EndpointStatus"] == "InService"


@pytest.mark.usefixtures("serving")
def test_after_a_rollback_the_next_change_builds_on_what_serves(call: Call, store: Database) -> None:
    call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="config")
    set_status(store, "e", "InService", NOW, handled=(2, 0), failure_reason="it did not start" * 100)
    shown = describe(call)
    assert (shown["EndpointStatus"], shown["EndpointConfigName"]) == ("InService", "two")
    assert len(shown["FailureReason"]) == 1024
    rescale(call, {"VariantName": "B", "DesiredInstanceCount": 2})
    spec = spec_of(store, "e")
    assert (spec.revision, spec.scale, spec.config) == (2, 1, "two")
    assert [each.name for each in spec.plan.variants] == ["A", "B"]
    shown = describe(call)
    assert "PendingDeploymentSummary" not in shown
    assert [each["DesiredInstanceCount"] for each in shown["ProductionVariants"]] == [2, 2]


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"VariantName": "C", "DesiredWeight": 1.0}, "no variant named 'C'. Its variants: A, B"),
        ({"VariantName": "A"}, "Nothing to change for variant 'A'"),
        ({"VariantName": "A", "DesiredInstanceCount": 0}, "must be at least 1"),
        ({"VariantName": "A", "DesiredWeight": float("nan")}, "finite"),
        ({"VariantName": "A", "ServerlessUpdateConfig": {"MaxConcurrency": 1}}, "ServerlessUpdateConfig"),
    ],
)
def test_a_change_that_cannot_be_is_refused(call: Call, store: Database, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        rescale(call, change)
    assert words in caught.value.message
    with pytest.raises(ApiFault, match="twice"):
        rescale(call, {"VariantName": "A", "DesiredWeight": 1.0}, {"VariantName": "A", "DesiredWeight": 2.0})
    assert spec_of(store, "e").scale == 0


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("state", ALL_STATES)
def test_a_change_under_way_is_not_changed_again_but_can_always_be_deleted(
    call: Call, store: Database, state: str
) -> None:
    set_status(store, "e", state, NOW)
    if state not in {"InService", "OutOfService"}:
        words = "Cannot update endpoint" if state == "Failed" else f'Cannot update in-progress endpoint "{ARN}".'
        with pytest.raises(ApiFault, match="ValidationException") as caught:
            call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="config")
        assert words in caught.value.message
        with pytest.raises(ApiFault, match="ValidationException"):
            rescale(call, {"VariantName": "A", "DesiredWeight": 1.0})
    call(SAGEMAKER, "DeleteEndpoint", EndpointName="e")
    assert spec_of(store, "e").delete_requested
    assert describe(call)["EndpointStatus"] == "Deleting"


@pytest.mark.usefixtures("serving")
def test_a_second_update_waits_for_the_first_even_before_the_controller_saw_it(call: Call) -> None:
    call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="config")
    with pytest.raises(ApiFault, match="Cannot update in-progress endpoint"):
        call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="config")


def test_deletion_frees_the_name_when_it_is_done(call: Call, store: Database) -> None:
    tags = [{"Key": "a", "Value": "1"}]
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config", Tags=tags)
    assert call(SAGEMAKER, "ListTags", ResourceArn=ARN)["Tags"] == tags
    for _ in range(2):
        call(SAGEMAKER, "DeleteEndpoint", EndpointName="e")
    with pytest.raises(ApiFault, match=r"Cannot create already existing endpoint .* It is being deleted"):
        call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config")
    with pytest.raises(ApiFault, match="Could not find resource"):
        call(SAGEMAKER, "AddTags", ResourceArn=ARN, Tags=tags)
    forget(store, "e")
    with pytest.raises(ApiFault, match="Could not find endpoint"):
        describe(call)
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config")
    assert call(SAGEMAKER, "ListTags", ResourceArn=ARN)["Tags"] == []
