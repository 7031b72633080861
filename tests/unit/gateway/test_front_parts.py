"""The front's pure parts: peeking, host names, heads passed on, who may use the proxy, the outer proxy's URL."""

from __future__ import annotations

import pytest

from sagewright.core.errors import SettingsError
from sagewright.gateway import clients
from sagewright.gateway.clients import may_use_proxy, parse_networks
from sagewright.gateway.forwarding import forwarded, parse_head
from sagewright.gateway.hosts import as_path_style, is_aws, is_telemetry, parse_absolute, parse_authority
from sagewright.gateway.peek import Kind, peek
from sagewright.gateway.upstream import OuterProxy
from sagewright.wire.messages import Headers, HttpRequest


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"GET / HTTP/1.1\r\n", Kind.HTTP),
        (b"POST /", Kind.HTTP),
        (b"OPTIONS * HTTP/1.1", Kind.HTTP),
        (b"GET httpx", Kind.HTTP),
        (b"CONNECT a:443 HTTP/1.1\r\n", Kind.PROXY),
        (b"GET http://a/b HTTP/1.1\r\n", Kind.PROXY),
        (b"GET HTTP://a/b", Kind.PROXY),
        (b"\x16\x03\x01\x02\x00", Kind.TLS),
        (b"PRI * HTTP/2.0\r\n\r\n", Kind.HTTP),
        (b"\x00\x01\x02" * 20, Kind.HTTP),
        (b"no-spaces-at-all\n", Kind.HTTP),
    ],
)
def test_the_first_bytes_tell_what_a_connection_speaks(data: bytes, kind: Kind) -> None:
    assert peek(data) is kind
    settled = [peek(data[:end]) for end in range(1, len(data) + 1)]
    decided = [found for found in settled if found is not Kind.MORE]
    assert set(decided) == {kind}, "a shorter prefix must never decide otherwise"
    assert settled[len(settled) - len(decided) :] == decided


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("sts.us-east-1.amazonaws.com", True),
        ("sts.cn-north-1.amazonaws.com.cn", True),
        ("amazonaws.com.evil.example", False),
        ("notamazonaws.com", False),
        ("pypi.example", False),
    ],
)
def test_aws_hosts_are_told_by_their_suffix(host: str, ours: bool) -> None:
    assert is_aws(host) is ours


def test_telemetry_buckets_are_known() -> None:
    assert is_telemetry("sm-pysdk-t-us-east-1.s3.us-east-1.amazonaws.com")
    assert not is_telemetry("sm-pysdk-t.example")


@pytest.mark.parametrize(
    ("text", "found"),
    [("Host.Example.:443", ("host.example", 443)), ("[::1]:80", ("::1", 80)), ("127.0.0.1:1", ("127.0.0.1", 1))],
)
def test_authorities_are_parsed(text: str, found: tuple[str, int]) -> None:
    assert parse_authority(text) == found


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:0", "host:65536", "host:x", "::1:80", "u@h:1", "a b:1", "h:1\n"]
)
def test_what_is_no_authority_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_authority(text)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("http://a.example/x/y?z=1#no", ("a.example", 80, "/x/y?z=1")),
        ("http://user:pw@a.example:81", ("a.example", 81, "/")),
        ("http://[::1]:9/", ("::1", 9, "/")),
    ],
)
def test_absolute_targets_are_taken_apart(target: str, found: tuple[str, int, str]) -> None:
    assert parse_absolute(target) == found


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("bucket.s3.us-east-1.amazonaws.com", "/bucket/key"),
        ("bucket.s3.amazonaws.com:443", "/bucket/key"),
        ("my.dotted.bucket.s3.eu-west-1.amazonaws.com", "/my.dotted.bucket/key"),
        ("bucket.s3-us-west-2.amazonaws.com", "/bucket/key"),
        ("bucket.s3.dualstack.us-west-2.amazonaws.com", "/bucket/key"),
        ("s3.s3.us-east-1.amazonaws.com", "/s3/key"),
        ("s3-logs.s3.us-east-1.amazonaws.com", "/s3-logs/key"),
        ("bucket.s3.cn-north-1.amazonaws.com.cn", "/bucket/key"),
        ("Bucket.localhost:8470", "/bucket/key"),
        ("bucket.host.docker.internal:8470", "/bucket/key"),
        ("s3.us-east-1.amazonaws.com", "/key"),
        ("s3.amazonaws.com", "/key"),
        ("localhost:8470", "/key"),
        ("127.0.0.1:8470", "/key"),
        ("x" * 100_000, "/key"),
        ("s3-" * 30_000, "/key"),
    ],
)
def test_buckets_in_host_names_become_paths(host: str, path: str) -> None:
    assert as_path_style(HttpRequest("GET", "/key", "", Headers([("Host", host)]))).raw_path == path


def test_a_head_is_passed_on_without_what_is_between_client_and_proxy() -> None:
    head = parse_head(
        b"POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\nProxy-Authorization: Basic c2VjcmV0\r\n"
        b"Proxy-Connection: keep-alive\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-Kept:  a b \r\n"
        b"Content-Length: 3"
    )
    assert head.body_length == 3
    assert forwarded(head, "/x", "") == (
        b"POST /x HTTP/1.1\r\nHost: a.example\r\nX-Kept: a b\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    )
    assert b"Proxy-Authorization: Basic eDp5\r\n" in forwarded(head, "/x", "Basic eDp5")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET http://a/",
        b"GET http://a/ HTTP/2",
        b"GET http://a/ HTTP/1.1\r\nno colon",
        b"GET http://a/ HTTP/1.1\r\n folded: x",
        b"GET http://a/ HTTP/1.1\r\nA: b\nC: d",
        b"GET http://a/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        b"GET http://a/ HTTP/1.1\r\nContent-Length: -1",
        b"GET http://a/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
    ],
)
def test_heads_that_could_smuggle_a_request_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_head(raw)


def test_only_this_machine_and_its_containers_may_use_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "container_bridges", lambda: list(parse_networks(["172.18.0.0/16"])))
    none = parse_networks([])
    assert may_use_proxy("127.0.0.1", "127.0.0.1", none)
    assert may_use_proxy("::1", "::1", none)
    assert may_use_proxy("::ffff:127.0.0.1", "::ffff:127.0.0.1", none)
    assert may_use_proxy("192.168.1.5", "192.168.1.5", none), "this machine, by its own address"
    assert may_use_proxy("172.18.0.7", "172.18.0.1", none)
    assert not may_use_proxy("192.168.1.6", "192.168.1.5", none)
    assert may_use_proxy("192.168.1.6", "192.168.1.5", parse_networks(["192.168.1.0/24"]))
    assert not may_use_proxy("fe80::1%eth0", "fe80::2%eth0", none)
    assert not may_use_proxy("", "", none)


def test_looking_for_container_bridges_works_on_this_machine() -> None:
    assert isinstance(clients.container_bridges(), list)


def test_a_wrong_network_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="proxy_networks"):
        parse_networks(["10.0.0.0/99"])


def test_the_outer_proxys_url_is_understood() -> None:
    assert OuterProxy.parse("http://proxy.corp:3128") == OuterProxy("proxy.corp", 3128, "")
    assert OuterProxy.parse("proxy.corp:3128/").port == 3128
    assert OuterProxy.parse("http://us%40er:p%3Aw@proxy.corp").authorization == "Basic dXNAZXI6cDp3"
    with pytest.raises(SettingsError, match="http://"):
        OuterProxy.parse("socks5://proxy.corp:1080")
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        OuterProxy.parse("http://proxy.corp:99999")
