"""Instance types: every one that botocore knows is in the catalogue, and limits fit the machine."""

from __future__ import annotations

import botocore.session
import pytest

from sagewright.workloads.instances import GIB, Instance, find, instance_resources

ENUMS = ("TrainingInstanceType", "ProcessingInstanceType", "TransformInstanceType", "ProductionVariantInstanceType")


@pytest.mark.parametrize("enum", ENUMS)
def test_every_type_of_the_service_model_is_known(enum: str) -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    assert [name for name in model.shape_for(enum).enum if find(name) is None] == []


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("ml.m5.large", Instance(2, 8)),
        ("ml.m5.24xlarge", Instance(96, 384)),
        ("ml.c4.8xlarge", Instance(36, 60)),
        ("ml.c5.9xlarge", Instance(36, 72)),
        ("ml.c5n.xlarge", Instance(4, 10.5)),
        ("ml.r5.4xlarge", Instance(16, 128)),
        ("ml.t3.medium", Instance(2, 4)),
        ("ml.p3.16xlarge", Instance(64, 488, 8)),
        ("ml.g4dn.12xlarge", Instance(48, 192, 4)),
        ("ml.g5.48xlarge", Instance(192, 768, 8)),
        ("ml.p4d.24xlarge", Instance(96, 1152, 8)),
        ("ml.trn1.32xlarge", Instance(128, 512, 16)),
        ("ml.nothing.large", None),
        ("local", None),
        ("", None),
        ("ml.m5.hugexlarge", None),
    ],
)
def test_published_figures(name: str, instance: Instance | None) -> None:
    assert find(name) == instance


def test_limits_are_the_instance_s_where_the_machine_has_more() -> None:
    made = instance_resources("ml.m5.large", cpus=8, memory=32 * GIB)
    assert (made.cpus, made.memory, made.shared_memory, made.gpus) == (2.0, 8 * GIB, 4 * GIB, 0)


def test_limits_are_the_machine_s_where_it_has_less() -> None:
    made = instance_resources("ml.m5.24xlarge", cpus=2, memory=4 * GIB)
    assert made.cpus is None
    assert made.memory is not None
    assert 3 * GIB < made.memory < 4 * GIB


@pytest.mark.parametrize(("there", "given"), [(0, 4), (1, 1), (8, 4)])
def test_gpus_are_bounded_by_the_machine_but_never_to_none(there: int, given: int) -> None:
    assert instance_resources("ml.g4dn.12xlarge", cpus=8, memory=32 * GIB, gpus=there).gpus == given


def test_an_unknown_type_has_the_machine_s_limits() -> None:
    made = instance_resources("ml.next.large", cpus=8, memory=32 * GIB)
    assert (made.cpus, made.gpus) == (None, 0)
    assert made.shared_memory
    assert instance_resources("ml.next.large", cpus=8, memory=0).memory is None
