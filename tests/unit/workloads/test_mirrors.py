"""Which folders of a training job are published, and where."""

from __future__ import annotations

from pathlib import Path

from sagewright.workloads.mirrors import mirror_mounts, mirrors
from suites.training import request


def test_what_the_hook_and_the_profiler_write_is_published_where_the_sdk_looks() -> None:
    asked = request("job", DebugHookConfig={"S3OutputPath": "s3://b/o/"}, ProfilerConfig={"S3OutputPath": "s3://b/p"})
    found = {each.folder: each.s3_uri for each in mirrors(asked)}
    assert found == {
        "output/tensors": "s3://b/o/job/debug-output",
        "output/profiler": "s3://b/p/job/profiler-output",
    }
    assert mirror_mounts(asked, Path("/root")) == ()


def test_a_hook_with_a_folder_elsewhere_gets_it_mounted() -> None:
    asked = request("job", DebugHookConfig={"S3OutputPath": "s3://b/o", "LocalPath": "/tensors"})
    (mount,) = mirror_mounts(asked, Path("/root"))
    assert (mount.source, mount.target) == (Path("/root/output/tensors"), "/tensors")


def test_a_profiler_that_is_off_or_goes_nowhere_publishes_nothing() -> None:
    off = {"S3OutputPath": "s3://b/p", "DisableProfiler": True}
    assert mirrors(request("job", ProfilerConfig=off)) == ()
    assert mirrors(request("job", ProfilerConfig={"ProfilingIntervalInMilliseconds": 500})) == ()
    assert mirrors(request("job")) == ()
