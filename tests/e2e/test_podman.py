"""Podman as the engine, through its Docker socket: a service of the test's own, with storage of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.images import PYTHON, need
from support.server import Server, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
NETWORK = Path("/usr/lib/podman/netavark"), Path("/usr/lib/podman/aardvark-dns")
CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
[network]
network_backend = "netavark"
default_subnet = "10.231.0.0/24"
default_subnet_pools = [{"base" = "10.232.0.0/16", "size" = 24}]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
MAIN = """\
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(open("/opt/ml/model/weights", "rb").read() + self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

if sys.argv[1] == "train":
    open("/opt/ml/model/weights", "wb").write(open("/opt/ml/input/data/train/a.csv", "rb").read())
else:
    http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
HOSTS = """\
import os, socket, time
me, us = socket.gethostname(), os.environ["AWS_ENDPOINT_URL"].rpartition("/")[2]
socket.create_connection(us.split(":"))
if me == "algo-1":
    print("heard", socket.create_server(("", 5000)).accept()[0].recv(9).decode())
for _ in range(200 * (me != "algo-1")):
    try:
        socket.create_connection(("algo-1", 5000)).sendall(me.encode())
        break
    except OSError:
        time.sleep(0.1)
"""


class Podman:
    def __init__(self, folder: Path) -> None:
        (folder / "containers.conf").write_text(CONF)
        self.socket = folder / "podman.sock"
        self._env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        self._command = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        self._command += ["--network-config-dir", f"{folder}/networks", "--tmpdir", f"{folder}/tmp"]
        service = [*self._command, "system", "service", "--time", "0", f"unix://{self.socket}"]
        self._service = subprocess.Popen(service, env=self._env, stderr=subprocess.DEVNULL, cwd=folder)

    def run(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._command, *words], env=self._env, capture_output=True, check=check, **options)

    def close(self) -> None:
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        self.run("network", "prune", "--force", check=False)
        self.run("rmi", "--all", "--force", check=False)
        self._service.terminate()
        self._service.wait()


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    need(PYTHON)
    if os.geteuid() or not shutil.which("podman") or not shutil.which("runc") or not all(map(Path.exists, NETWORK)):
        pytest.skip("Podman cannot run containers here: root, podman, runc, netavark and aardvark-dns (scripts/engine)")
    if Path("/sys/class/net/podman0").exists():
        pytest.skip("another Podman runs containers here, and two cannot share the bridge podman0")
    folder = Path(tempfile.mkdtemp(prefix="podman-"))  # it takes no path of more than 50 characters
    made = Podman(folder)
    try:
        wait_for(made.socket.exists, "Podman listens")
        with subprocess.Popen(["docker", "save", PYTHON], stdout=subprocess.PIPE) as saved:
            made.run("load", stdin=saved.stdout)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{podman.socket}")
        running = Server(tmp_path_factory.mktemp("server") / "data")
        running.start()
        running.client("s3").create_bucket(Bucket="podman")
        running.client("s3").put_object(Bucket="podman", Key="data/a.csv", Body=b"1,2\n")
        yield running
        running.stop()


def train(server: Server, name: str, image: str, program: str = "", hosts: int = 1) -> dict[str, Any]:
    sagemaker = server.client("sagemaker")
    own = {"ContainerEntrypoint": ["python3", "-c", "import os; exec(os.environ['PROGRAM'])"]} if program else {}
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://podman/data/"}
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File", **own},
        Environment={"PROGRAM": program} if program else {},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": "s3://podman/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 100},
    )
    while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.1)
    return dict(job)


def test_doctor_says_which_engine_it_is(server: Server) -> None:
    assert "backend docker  Podman 4" in server.run("doctor").stdout


def test_an_image_is_built_pushed_pulled_trained_and_served(server: Server, podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    dockerfile = f'FROM {PYTHON}\nCOPY main.py /main.py\nENTRYPOINT ["python3", "/main.py"]\n'
    (tmp_path / "Dockerfile").write_text(dockerfile)
    server.run("build", "--tag", "model", str(tmp_path))
    server.run("push", "model")
    podman.run("rmi", "--force", "model", f"{server.url.removeprefix('http://')}/model")
    image = "000000000000.dkr.ecr.us-east-1.amazonaws.com/model:latest"
    job = train(server, "trains", image)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    sagemaker = server.client("sagemaker")
    container = {"Image": image, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="model", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="serves", EndpointConfigName="config")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="serves", WaiterConfig={"Delay": 1})
    answer = server.client("sagemaker-runtime").invoke_endpoint(EndpointName="serves", Body=b"3,4\n")
    assert answer["Body"].read() == b"1,2\n3,4\n"
    sagemaker.delete_endpoint(EndpointName="serves")


def test_hosts_find_each_other_and_us_by_name(server: Server) -> None:
    job = train(server, "hosts", PYTHON, HOSTS, hosts=2)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert "heard algo-2" in server.run("logs", "hosts").stdout


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ValueError('no such column')", "AlgorithmError: ValueError: no such column"),
        ("data = bytearray(20 << 30)", "most likely because it reached its memory limit of 8.0 GiB"),
    ],
)
def test_failures_explain_themselves(server: Server, program: str, reason: str) -> None:
    job = train(server, f"fails-{len(program)}", PYTHON, program)
    assert job["TrainingJobStatus"] == "Failed"
    assert reason in job["FailureReason"]
