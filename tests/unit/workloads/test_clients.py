"""How AWS clients in a container reach us, beside what the user set."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagewright.workloads import clients
from sagewright.workloads.workload import Mount

GIVEN = clients.client_settings("http://host.docker.internal:5556", Path("/data/keys/bundle.pem"), ["algo-1", "algo-2"])
PLATFORM = {**dict.fromkeys(clients.KEYS, "ours"), **GIVEN}


def test_new_clients_come_straight_and_old_ones_through_the_proxy() -> None:
    made = clients.beside(PLATFORM, {})
    for name in clients.ENDPOINTS:
        assert made[name] == "http://host.docker.internal:5556"
    assert made["HTTPS_PROXY"] == "http://host.docker.internal:5556"
    assert not {"https_proxy", "HTTP_PROXY", "http_proxy"} & made.keys()
    assert made["AWS_CA_BUNDLE"] == made["REQUESTS_CA_BUNDLE"] == "/opt/sagewright/ca-bundle.pem"


def test_this_machine_and_the_hosts_of_the_job_are_no_business_of_the_proxy() -> None:
    names = GIVEN["NO_PROXY"].split(",")
    assert {"localhost", "127.0.0.1", "169.254.170.2", "host.docker.internal", "algo-1", "algo-2"} <= set(names)


@pytest.mark.parametrize(
    ("user", "gone"),
    [
        ({"AWS_ACCESS_KEY_ID": "theirs"}, set(clients.KEYS)),
        ({"AWS_SESSION_TOKEN": "theirs"}, set(clients.KEYS)),
        ({"https_proxy": "http://theirs"}, set(clients.PROXY)),
        ({"ALL_PROXY": "socks5://theirs"}, set(clients.PROXY)),
        ({"AWS_ENDPOINT_URL_S3": "https://minio"}, {"AWS_ENDPOINT_URL_S3"}),
        ({"NO_PROXY": "*"}, {"NO_PROXY"}),
        ({"UNRELATED": "1"}, set()),
    ],
)
def test_what_the_user_set_takes_what_belongs_to_it_along(user: dict[str, str], gone: set[str]) -> None:
    assert PLATFORM.keys() - clients.beside(PLATFORM, user).keys() == gone


def test_the_bundle_is_mounted_where_the_variables_say() -> None:
    assert clients.bundle_mounts(PLATFORM) == (
        Mount(Path("/data/keys/bundle.pem"), "/opt/sagewright/ca-bundle.pem", read_only=True),
    )
    assert clients.bundle_mounts({}) == ()
