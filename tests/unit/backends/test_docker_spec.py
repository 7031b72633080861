"""Workloads as container configurations, and containers as observations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sagewright.backends.docker import seen, spec
from sagewright.backends.docker.facts import Facts, Image, facts_of, image_of
from sagewright.backends.docker.ownership import make_room
from sagewright.core.errors import WorkloadRejected
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Phase
from sagewright.workloads.workload import ImageRef, Mount, Resources, Workload

FACTS = Facts(
    version="20.10",
    architecture="amd64",
    cpus=4,
    memory=16 << 30,
    gpus=0,
    gpu_runtime="",
    log_driver="local",
    podman=False,
    native=True,
    direct=True,
    selinux=False,
    emulated=frozenset(),
    system="Debian",
)
IMAGE = Image("sha256:1", "sha256:2", "amd64", "linux", ("/entry",), ())
WORK = Workload(WorkloadId("job-1"), ImageRef("image:1"), None, ("train",), hostname="algo-1")


def config(work: Workload = WORK, image: Image = IMAGE, facts: Facts = FACTS, **more: bool) -> dict[str, Any]:
    return spec.container_config(work, "here", image, facts, **more)


class TestConfiguration:
    def test_no_user_no_init_no_restart_and_a_writable_root(self) -> None:
        made = config()
        assert "User" not in made
        assert "StopSignal" not in made
        assert made["HostConfig"]["Init"] is False
        assert made["HostConfig"]["RestartPolicy"] == {"Name": "no"}
        assert not made["HostConfig"].get("ReadonlyRootfs")

    def test_labels_carry_our_ids_whatever_the_workload_says(self) -> None:
        made = config(replace(WORK, labels={spec.INSTALLATION: "there", "own": "label"}))
        assert made["Labels"] == {
            "own": "label",
            spec.INSTALLATION: "here",
            spec.WORKLOAD: "job-1",
            spec.GRACE: "120.0",
            spec.DIGEST: "sha256:2",
        }

    def test_limits_are_the_workload_s_and_never_more_cpus_than_there_are(self) -> None:
        host = config(replace(WORK, resources=Resources(16.0, 1 << 30, 1 << 29)))["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (4_000_000_000, 1 << 30, 1 << 30)
        assert host["ShmSize"] == 1 << 29
        assert not {"NanoCpus", "Memory", "ShmSize"} & config()["HostConfig"].keys()

    def test_gpus_are_asked_for_as_the_engine_gives_them(self) -> None:
        work = replace(WORK, resources=Resources(gpus=2))
        nvidia = config(work, facts=replace(FACTS, gpus=2, gpu_runtime="nvidia"))["HostConfig"]
        assert nvidia["DeviceRequests"] == [{"Driver": "nvidia", "Count": 2, "Capabilities": [["gpu"]]}]
        assert {limit["Name"] for limit in nvidia["Ulimits"]} == {"memlock", "stack"}
        cdi = config(work, facts=replace(FACTS, gpus=2, gpu_runtime="cdi"), limits=False)["HostConfig"]
        assert cdi["DeviceRequests"][0]["DeviceIDs"] == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
        assert "Ulimits" not in cdi
        assert "DeviceRequests" not in config()["HostConfig"]

    def test_another_host_of_the_job_gets_other_gpus(self) -> None:
        work = replace(WORK, resources=Resources(gpus=2, first_gpu=2))
        facts = replace(FACTS, gpus=4, gpu_runtime="nvidia")
        assert config(work, facts=facts)["HostConfig"]["DeviceRequests"] == [
            {"Driver": "nvidia", "DeviceIDs": ["2", "3"], "Capabilities": [["gpu"]]}
        ]
        spec.reject(work, facts)
        with pytest.raises(
            WorkloadRejected, match="4 GPUs or other accelerators are asked for, and this machine has 3"
        ):
            spec.reject(work, replace(facts, gpus=3))

    @pytest.mark.parametrize("isolated", [True, False])
    def test_hosts_of_a_job_are_in_its_network_under_their_names(self, isolated: bool) -> None:
        peers = {"algo-1": WorkloadId("first"), "algo-2": WorkloadId("second")}
        work = replace(WORK, hostname="algo-2", peers=peers, network_isolation=isolated)
        made = config(work)
        assert made["HostConfig"]["NetworkMode"] == "first-hosts"
        assert made["NetworkingConfig"] == {"EndpointsConfig": {"first-hosts": {"Aliases": ["algo-2"]}}}
        assert made["HostConfig"].get("Dns") == (["127.0.0.1"] if isolated else None)
        assert ("ExtraHosts" in made["HostConfig"]) is not isolated
        network = spec.shared_network(work, "it")
        assert network is not None
        assert (network["Name"], network["Internal"]) == ("first-hosts", isolated)
        assert network["Labels"] == {spec.INSTALLATION: "it"}
        assert spec.shared_network(WORK, "it") is None

    @pytest.mark.parametrize(
        ("gpus", "runtime", "wanted", "words"),
        [
            (0, "", 1, "choose a CPU instance type"),
            (0, "nvidia", 1, "nvidia-smi"),
            (1, "nvidia", 8, "this machine has 1"),
        ],
    )
    def test_gpus_that_are_not_there_are_refused(self, gpus: int, runtime: str, wanted: int, words: str) -> None:
        with pytest.raises(WorkloadRejected, match=words):
            spec.reject(replace(WORK, resources=Resources(gpus=wanted)), replace(FACTS, gpus=gpus, gpu_runtime=runtime))

    def test_pipes_lead_nowhere_on_another_kernel(self) -> None:
        spec.reject(replace(WORK, pipes=True), FACTS)
        spec.reject(WORK, replace(FACTS, native=False))
        with pytest.raises(WorkloadRejected, match="Pipe input mode needs"):
            spec.reject(replace(WORK, pipes=True), replace(FACTS, native=False))

    @pytest.mark.parametrize("name", ["", "-x", "a/b", "ü", "a" * 300])
    def test_an_id_that_is_no_container_name_is_refused(self, name: str) -> None:
        with pytest.raises(WorkloadRejected):
            spec.reject(replace(WORK, id=WorkloadId(name)), FACTS)

    def test_volumes_below_a_mount_are_bound_to_its_folder(self) -> None:
        work = replace(WORK, mounts=(Mount(Path("/data"), "/opt/ml"), Mount(Path("/own"), "/opt/ml/own")))
        image = replace(IMAGE, volumes=("/opt/ml", "/opt/ml/model", "/opt/ml/own", "/opt/mlx", "/var"))
        assert spec.inner_volumes(work, image) == (Mount(Path("/data/model"), "/opt/ml/model"),)

    def test_a_volume_cannot_climb_out_of_the_mount(self, tmp_path: Path) -> None:
        root, outside = tmp_path / "root", tmp_path / "outside"
        root.mkdir()
        outside.mkdir()
        work = replace(WORK, mounts=(Mount(root, "/opt/ml"),))
        climbing = replace(IMAGE, volumes=("/opt/ml/../../etc", "/opt/ml/a/../model"))
        assert spec.inner_volumes(work, climbing) == (Mount(root / "model", "/opt/ml/model"),)
        (root / "model").symlink_to(outside)
        with pytest.raises(PermissionError):
            make_room(Mount(root / "model" / "deep", "/opt/ml/model/deep"), work.mounts)
        assert list(outside.iterdir()) == []
        make_room(Mount(root / "new" / "deep", "/opt/ml/new/deep"), work.mounts)
        assert (root / "new" / "deep").is_dir()

    def test_logs_are_kept_whole(self) -> None:
        assert config()["HostConfig"]["LogConfig"]["Config"]["max-size"] == "1000g"
        podman = config(facts=replace(FACTS, podman=True, log_driver="json-file"))
        assert podman["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}

    def test_ports_are_published_only_where_containers_cannot_be_reached(self) -> None:
        work = replace(WORK, ports=(8080,))
        assert "PortBindings" not in config(work)["HostConfig"]
        far = config(work, facts=replace(FACTS, direct=False))
        assert far["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1"}]}


def container(status: str = "exited", **state: Any) -> dict[str, Any]:
    base = {"Status": status, "ExitCode": 0, "StartedAt": "2026-11-22T14:02:52.652998106Z", "FinishedAt": "0001-01-01T"}
    labels = {spec.WORKLOAD: "job-1", spec.DIGEST: "sha256:2"}
    return {"State": base | state, "Config": {"Labels": labels}, "Created": "2026-11-22T14:02:51Z"}


ENDED = {"FinishedAt": "2026-11-22T14:02:53Z"}
NEVER = {"StartedAt": "0001-01-01T00:00:00Z"}


class TestObservation:
    def test_running_has_a_start_and_no_end(self) -> None:
        for status in ("running", "paused", "restarting"):
            found = seen.observation(container(status), direct=True)
            assert found is not None
            assert (found.phase, found.exit_code, found.ended_at) == (Phase.RUNNING, None, None)
            assert found.started_at == datetime(2026, 11, 22, 14, 2, 52, 652998, UTC)

    def test_created_and_never_started_does_not_exist(self) -> None:
        assert seen.observation(container("created", **NEVER), direct=True) is None
        assert seen.observation(container("removing", **ENDED), direct=True) is None

    def test_created_with_an_error_is_a_failed_start(self) -> None:
        error = "OCI runtime create failed: runc create failed: unable to start container process: exec: "
        error += '"train": executable file not found in $PATH: unknown'
        found = seen.observation(container("created", **NEVER, ExitCode=127, Error=error), direct=True)
        assert found is not None
        assert (found.phase, found.cause, found.exit_code) == (Phase.EXITED, ExitCause.START, None)
        assert "runc create failed" not in found.message
        assert 'exec: "train": executable file not found in $PATH' in found.message

    @pytest.mark.parametrize(
        ("entrypoint", "told"),
        [
            (["/bin/sh", "-c", "./run.sh"], 'ENTRYPOINT ["./run.sh"]'),
            (["/bin/sh", "-c", "python app.py"], 'ENTRYPOINT ["program"]'),
            (["/bin/bash", "-o", "pipefail", "-c", "./run.sh $@"], "so `train` never reached it"),
            (["/bin/sh", "-c", 'exec ./run.sh "$0"'], ""),
            (["/bin/bash", "-c", './run.sh "$@"', "--"], ""),
            (["./run.sh"], ""),
            (["python", "-c", "print(1)"], ""),
            ([], ""),
        ],
    )
    def test_an_entrypoint_in_shell_form_is_told_of_while_it_runs_and_after(
        self, entrypoint: list[str], told: str
    ) -> None:
        for status, state in (("running", {}), ("exited", ENDED), ("exited", ENDED | {"ExitCode": 1})):
            made = container(status, **state)
            made["Config"] |= {"Entrypoint": entrypoint, "Cmd": ["train"]}
            found = seen.observation(made, direct=True)
            assert found is not None
            assert told in found.message
            assert bool(found.message) == bool(told)
        killed = container(**ENDED, ExitCode=137, OOMKilled=True)
        killed["Config"] |= {"Entrypoint": entrypoint, "Cmd": ["train"]}
        assert seen.observation(killed, direct=True).message == ""

    @pytest.mark.parametrize(
        ("code", "killed", "cause"),
        [
            (137, True, ExitCause.OUT_OF_MEMORY),
            (1, True, ExitCause.OUT_OF_MEMORY),
            (0, True, ExitCause.EXIT),
            (137, False, ExitCause.EXIT),
        ],
    )
    def test_out_of_memory_is_a_cause_only_of_a_failure(self, code: int, killed: bool, cause: ExitCause) -> None:
        found = seen.observation(container(ExitCode=code, OOMKilled=killed, **ENDED), direct=True)
        assert found is not None
        assert (found.exit_code, found.cause) == (code, cause)

    def test_what_died_with_the_machine_is_lost(self) -> None:
        booted = datetime(2026, 11, 22, 14, 2, 52, 900000, UTC)
        dead = container(ExitCode=255, **ENDED)
        found = seen.observation(dead, direct=True, booted_at=booted)
        assert found is not None
        assert (found.cause, found.exit_code) == (ExitCause.LOST, None)
        for other in (booted - timedelta(days=1), booted + timedelta(days=1), None):
            kept = seen.observation(dead, direct=True, booted_at=other)
            assert kept is not None
            assert kept.exit_code == 255

    def test_the_address_is_the_container_s_own_or_the_published_one(self) -> None:
        found = container("running")
        found["Config"]["ExposedPorts"] = {"8080/tcp": {}}
        found["NetworkSettings"] = {"IPAddress": "172.17.0.2", "Ports": {"8080/tcp": [{"HostPort": "49153"}]}}
        direct, published = (seen.observation(found, direct=each) for each in (True, False))
        assert direct is not None
        assert published is not None
        assert (direct.address, published.address) == ("172.17.0.2:8080", "127.0.0.1:49153")

    @pytest.mark.parametrize(
        ("words", "entrypoint", "arguments", "hint"),
        [
            ('exec: "train": executable file not found in $PATH', [], ["train"], "no ENTRYPOINT that takes `train`"),
            ('exec: "/run.sh": permission denied', ["/run.sh"], ["train"], "chmod +x /run.sh"),
            ("exec /run.sh: no such file or directory", ["/run.sh"], ["train"], "CRLF"),
            ("exec /run.sh: exec format error", ["/run.sh"], ["train"], "another processor"),
            ("something new", ["/run.sh"], ["train"], "something new"),
        ],
    )
    def test_failed_starts_say_what_to_change(
        self, words: str, entrypoint: list[str], arguments: list[str], hint: str
    ) -> None:
        assert hint in seen.start_message(words, entrypoint, arguments)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-11-22T14:02:53.5+02:00", datetime(2026, 11, 22, 12, 2, 53, 500000, UTC)),
            ("2026-11-22T14:02:53-01:00", datetime(2026, 11, 22, 15, 2, 53, 0, UTC)),
            ("0001-01-01T00:00:00Z", None),
            ("", None),
            (None, None),
        ],
    )
    def test_times(self, text: str | None, expected: datetime | None) -> None:
        assert seen.moment(text) == expected


class TestFacts:
    def test_docker_desktop_is_not_refused_foreign_images(self) -> None:
        info = {"OperatingSystem": "Docker Desktop", "NCPU": 8, "Plugins": {"Log": ["local"]}}
        facts = facts_of({"Arch": "arm64"}, info, local=True)
        assert facts.runs("amd64")
        assert not facts.direct

    def test_a_plain_engine_runs_its_own_family_only(self) -> None:
        facts = replace(FACTS, emulated=frozenset())
        assert [facts.runs(each) for each in ("amd64", "386", "", "arm64")] == [True, True, True, False]
        assert replace(FACTS, emulated=frozenset({"arm64"})).runs("arm64")

    def test_podman_is_known_by_its_name(self) -> None:
        facts = facts_of({"Components": [{"Name": "Podman Engine"}]}, {"Plugins": {"Log": ["k8s-file"]}}, local=True)
        assert (facts.podman, facts.log_driver) == (True, "json-file")

    def test_an_image_s_digest_is_the_registry_s_or_its_own_id(self) -> None:
        assert image_of({"Id": "sha256:1"}).digest == "sha256:1"
        assert image_of({"Id": "sha256:1", "RepoDigests": ["host:5000/a@sha256:9"]}).digest == "sha256:9"
