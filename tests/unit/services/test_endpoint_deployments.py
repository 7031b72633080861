"""DeploymentConfig: what is kept and shown, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.services.sagemaker.service import service
from sagewright.store.db import Database
from sagewright.wire.faults import ApiFault
from support import hosting
from support.hosting import config, model, serve, variant
from unit.services.conftest import NOW, Call
from unit.services.test_endpoints import describe

SAGEMAKER = service(b"secret")


@pytest.fixture(autouse=True)
def configs(store: Database, call: Call) -> None:
    hosting.add_artifact(store, NOW, "files/a")
    call(SAGEMAKER, "CreateModel", **model())
    call(SAGEMAKER, "CreateEndpointConfig", **config())
    call(SAGEMAKER, "CreateEndpointConfig", **config("two", variant("A"), variant("B")))


ALL_AT_ONCE = {
    "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
}


def traffic(type_: str, wait: int = 0, **policy: int) -> dict[str, Any]:
    routing = {"Type": type_, "WaitIntervalInSeconds": wait}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **policy}}


@pytest.mark.parametrize(("retain", "expected"), [(True, ALL_AT_ONCE), (False, None)])
def test_the_last_deployment_config_is_retained_on_wish(
    call: Call, store: Database, retain: bool, expected: dict[str, Any] | None
) -> None:
    call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="two", DeploymentConfig=ALL_AT_ONCE)
    assert describe(call)["LastDeploymentConfig"] == ALL_AT_ONCE
    serve(store, "e", NOW)
    call(SAGEMAKER, "UpdateEndpoint", EndpointName="e", EndpointConfigName="two", RetainDeploymentConfig=retain)
    assert describe(call).get("LastDeploymentConfig") == expected


@pytest.mark.parametrize(
    ("deployment", "words"),
    [
        (traffic("CANARY"), "Type CANARY is not supported"),
        (traffic("LINEAR"), "Type LINEAR is not supported"),
        (traffic("ALL_AT_ONCE", wait=60), "WaitIntervalInSeconds above 0 is not supported"),
        (traffic("ALL_AT_ONCE", TerminationWaitInSeconds=60), "TerminationWaitInSeconds above 0"),
        (traffic("ALL_AT_ONCE", MaximumExecutionTimeoutInSeconds=600), "MaximumExecutionTimeoutInSeconds"),
        ({"RollingUpdatePolicy": {"WaitIntervalInSeconds": 0}}, "RollingUpdatePolicy"),
        ({**ALL_AT_ONCE, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, "AutoRollbackConfiguration"),
    ],
)
def test_other_deployments_are_refused_by_name(call: Call, deployment: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateEndpoint", EndpointName="e", EndpointConfigName="config", DeploymentConfig=deployment)
    assert words in caught.value.message
