"""The training container's files, environment and command, against the contract's own literals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.ids import WorkloadId
from sagewright.workloads import container
from sagewright.workloads.hosts import hosts_of
from sagewright.workloads.instances import Machine
from sagewright.workloads.workload import ImageRef, Mount

S3 = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/train"}
ARN = "arn:aws:sagemaker:us-east-1:000000000000:training-job/job"


def request(**changes: Any) -> dict[str, Any]:
    base = {
        "TrainingJobName": "job",
        "AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::000000000000:role/SageMakerRole",
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.g4dn.12xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return {**base, **changes}


def algorithm(**changes: Any) -> dict[str, Any]:
    return {"AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File", **changes}}


def channel(name: str, **changes: Any) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": S3}, **changes}


def files(asked: dict[str, Any]) -> dict[str, bytes]:
    return {path.removeprefix("input/config/"): content for path, content in container.training_files(asked).items()}


class TestFiles:
    def test_hyperparameters_stay_strings_and_the_file_is_there_without_any(self) -> None:
        given = {"num_round": "128", "eta": "0.001", "sagemaker_program": '"train.py"', "word": "ü"}
        made = files(request(HyperParameters=given))["hyperparameters.json"]
        assert json.loads(made) == given
        assert made.startswith(b'{"num_round":"128","eta":"0.001"')
        assert made.isascii()
        assert files(request())["hyperparameters.json"] == b"{}"

    def test_one_plain_channel_is_the_107_bytes_of_aws(self) -> None:
        made = files(request(InputDataConfig=[channel("training")]))["inputdataconfig.json"]
        assert len(made) == 107
        assert made == (
            b'{"training":{"TrainingInputMode":"File","S3DistributionType":"FullyReplicated",'
            b'"RecordWrapperType":"None"}}'
        )

    def test_channels_say_what_was_asked_and_fast_file_is_called_file(self) -> None:
        sharded = {"S3DataSource": {**S3, "S3DataDistributionType": "ShardedByS3Key"}}
        made = files(
            request(
                InputDataConfig=[
                    channel("train", ContentType="text/csv", InputMode="FastFile"),
                    channel("pipe", DataSource=sharded, InputMode="Pipe", RecordWrapperType="RecordIO"),
                    {"ChannelName": "disk", "DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}},
                ]
            )
        )["inputdataconfig.json"]
        assert made == (
            b'{"train":{"ContentType":"text/csv","TrainingInputMode":"File","S3DistributionType":"FullyReplicated",'
            b'"RecordWrapperType":"None"},"pipe":{"TrainingInputMode":"Pipe","S3DistributionType":"ShardedByS3Key",'
            b'"RecordWrapperType":"RecordIO"},"disk":{"TrainingInputMode":"File",'
            b'"S3DistributionType":"FullyReplicated","RecordWrapperType":"None"}}'
        )
        assert files(request())["inputdataconfig.json"] == b"{}"

    def test_resourceconfig_is_the_280_bytes_of_aws_and_topology(self) -> None:
        made = files(request())["resourceconfig.json"]
        expected = (
            b'{"current_host":"algo-1","current_instance_type":"ml.g4dn.12xlarge","current_group_name":'
            b'"homogeneousCluster","hosts":["algo-1"],"instance_groups":[{"instance_group_name":"homogeneousCluster",'
            b'"instance_type":"ml.g4dn.12xlarge","hosts":["algo-1"]}],"network_interface_name":"eth0"'
        )
        assert len(expected) + 1 == 280
        assert made == expected + b',"topology":null}'

    def test_hosts_are_sorted_as_text_and_groups_have_their_own(self) -> None:
        groups = [
            {"InstanceGroupName": "big", "InstanceType": "ml.p3.2xlarge", "InstanceCount": 1},
            {"InstanceGroupName": "small", "InstanceType": "ml.m5.large", "InstanceCount": 10},
        ]
        asked = request(ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1})
        host = hosts_of(asked)[1]
        made = json.loads(container.training_files(asked, host)["input/config/resourceconfig.json"])
        assert (made["current_host"], made["network_interface_name"]) == ("algo-2", "eth0")
        assert made["hosts"][:4] == ["algo-1", "algo-10", "algo-11", "algo-2"]
        assert (made["current_group_name"], made["current_instance_type"]) == ("small", "ml.m5.large")
        assert made["instance_groups"][0]["hosts"] == ["algo-1"]

    def test_the_rest_is_informational_and_debug_files_come_only_when_asked(self) -> None:
        plain = files(request(Tags=[{"Key": "a", "Value": "b"}], InputDataConfig=[channel("x")]))
        assert plain["metric-definition-regex.json"] == b"[]"
        assert "Tags" not in json.loads(plain["trainingjobconfig.json"])
        assert json.loads(plain["init-config.json"]) == {"inputMode": "File", "channels": ["x"]}
        assert not {"debughookconfig.json", "profilerconfig.json"} & plain.keys()
        asked = files(
            request(
                DebugHookConfig={"S3OutputPath": "s3://b/debug"},
                ProfilerConfig={"DisableProfiler": True},
                **algorithm(MetricDefinitions=[{"Name": "loss", "Regex": "loss=(.*)"}]),
            )
        )
        assert json.loads(asked["debughookconfig.json"])["LocalPath"] == "/opt/ml/output/tensors/"
        assert "profilerconfig.json" not in asked
        assert json.loads(asked["metric-definition-regex.json"]) == [{"Name": "loss", "Regex": "loss=(.*)"}]


class TestFolders:
    def test_every_folder_of_the_contract_is_made_and_intermediate_is_not(self) -> None:
        made = container.training_folders(request(InputDataConfig=[channel("train"), channel("test")]))
        wanted = {"input/config", "input/data/train", "input/data/test", "model", "output/data"}
        assert wanted | {"output/metrics/sagemaker"} <= set(made)
        assert not any("intermediate" in folder or "checkpoints" in folder for folder in made)

    @pytest.mark.parametrize(
        ("local", "folder", "mounted"),
        [
            (None, "checkpoints", None),
            ("/opt/ml/checkpoints/", "checkpoints", None),
            ("/opt/ml/deep/own", "deep/own", None),
            ("/mnt/ckpt", "checkpoints", "/mnt/ckpt"),
            ("/opt/ml/../../etc", "checkpoints", "/etc"),
            ("/opt/mlx", "checkpoints", "/opt/mlx"),
            ("/opt/ml", ".", None),
        ],
    )
    def test_checkpoints_are_at_their_own_path_and_never_outside_the_folder(
        self, local: str | None, folder: str, mounted: str | None
    ) -> None:
        config = {"S3Uri": "s3://b/c"} | ({"LocalPath": local} if local else {})
        asked = request(CheckpointConfig=config)
        assert container.training_folders(asked)[-1] == folder
        mounts = workload(asked).mounts
        assert mounts[0] == Mount(Path("/data/ml"), "/opt/ml")
        assert mounts[1:] == ((Mount(Path("/data/ml/checkpoints"), mounted),) if mounted else ())


def workload(asked: dict[str, Any], **changes: Any) -> Any:
    given = {
        "workload": WorkloadId("job-1"),
        "image": ImageRef("image:1"),
        "arn": ARN,
        "region": "us-east-1",
        "root": Path("/data/ml"),
        "machine": Machine(cpus=8, memory=32 << 30),
        **changes,
    }
    return container.training_workload(asked, **given)


KEYS = {"AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
PLATFORM = {**KEYS, "AWS_ENDPOINT_URL": "http://host:1"}


class TestEnvironment:
    def environment(self, asked: dict[str, Any], **changes: Any) -> dict[str, str]:
        return container.training_environment(asked, arn=ARN, region="eu-west-1", platform=PLATFORM, **changes)

    def test_the_service_s_names_are_set_and_win_over_the_user(self) -> None:
        user = {"TRAINING_JOB_NAME": "mine", "AWS_REGION": "mine", "OWN": "kept"}
        made = self.environment(request(Environment=user))
        assert made == PLATFORM | {
            "OWN": "kept",
            "TRAINING_JOB_NAME": "job",
            "TRAINING_JOB_ARN": ARN,
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
            "DMLC_INTERFACE": "eth0",
            "NVIDIA_VISIBLE_DEVICES": "void",
        }

    def test_the_default_region_is_the_user_s_to_set(self) -> None:
        made = self.environment(request(Environment={"AWS_DEFAULT_REGION": "eu-west-3"}))
        assert (made["AWS_DEFAULT_REGION"], made["AWS_REGION"]) == ("eu-west-3", "eu-west-1")

    def test_keys_of_the_user_s_own_replace_all_of_ours(self) -> None:
        made = self.environment(request(Environment={"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"}))
        assert made["AWS_ACCESS_KEY_ID"] == "mine"
        assert "AWS_SESSION_TOKEN" not in made
        assert made["AWS_ENDPOINT_URL"] == "http://host:1"

    def test_isolation_leaves_no_keys_and_no_network_interface_but_loopback(self) -> None:
        made = self.environment(request(EnableNetworkIsolation=True))
        assert not PLATFORM.keys() & made.keys()
        assert made["DMLC_INTERFACE"] == "lo"

    def test_a_gpu_is_left_to_its_runtime(self) -> None:
        assert "NVIDIA_VISIBLE_DEVICES" not in self.environment(request(), gpus=1)

    def test_no_sm_variables_for_a_plain_image(self) -> None:
        assert not [name for name in self.environment(request()) if name.startswith("SM_")]


class TestCommand:
    @pytest.mark.parametrize(
        ("given", "entrypoint", "arguments"),
        [
            ({}, None, ("train",)),
            ({"ContainerEntrypoint": ["/bin/bash"]}, ("/bin/bash",), None),
            ({"ContainerArguments": ["a", "b"]}, None, ("a", "b")),
            ({"ContainerEntrypoint": ["/bin/bash"], "ContainerArguments": ["-c", "x"]}, ("/bin/bash",), ("-c", "x")),
        ],
    )
    def test_the_four_cases(
        self, given: dict[str, Any], entrypoint: tuple[str, ...] | None, arguments: tuple[str, ...] | None
    ) -> None:
        assert container.command(request(**algorithm(**given))) == (entrypoint, arguments)


def test_the_whole_workload() -> None:
    made = workload(request(EnableNetworkIsolation=True), platform=PLATFORM)
    assert (made.hostname, made.network_isolation, made.stop_grace.total_seconds()) == ("algo-1", True, 120)
    assert made.resources.gpus == 4  # not there, and not forgotten: the backend says so
    assert made.resources.shared_memory >= made.resources.memory // 2
    assert made.env["TRAINING_JOB_ARN"] == ARN
