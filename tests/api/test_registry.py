"""The image registry over HTTP, against a real server: the specification, end point by end point."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from support.registry import OCI_INDEX, Client, digest, make_repository, password
from support.server import Server, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("registry") / "data")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def registry(server: Server, request: pytest.FixtureRequest) -> Client:
    name = "team/" + request.node.originalname.replace("_", "-")
    make_repository(server.data, name)
    return Client(server.url, password(server.data), name)


def _code(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["errors"][0]["code"]


def test_nobody_gets_anything_without_a_login(server: Server, registry: Client) -> None:
    blob = registry.push_blob(b"secret")
    for auth in (None, ("AWS", "guess"), ("other", registry.password), ("AWS", registry.password[:-2] + "xx")):
        for path in ("/v2/", f"/v2/{registry.name}/blobs/{blob}", "/v2/_catalog", "/v2/none/tags/list"):
            refused = requests.get(server.url + path, auth=auth, timeout=10)
            assert _code(refused) == (401, "UNAUTHORIZED")
            assert refused.headers["www-authenticate"].startswith("Basic realm=")
            assert refused.headers["docker-distribution-api-version"] == "registry/2.0"
    assert registry.call("GET", "/v2/").status_code == 200


def test_a_push_to_no_repository_says_how_to_make_one(registry: Client) -> None:
    refused = registry.call("POST", "/v2/nowhere/blobs/uploads/")
    assert _code(refused) == (404, "NAME_UNKNOWN")
    assert "The repository with name 'nowhere' does not exist in the registry with id '000000000000'" in refused.text
    assert "create-repository" in refused.text


def test_a_chunked_upload_goes_on_where_it_stands(registry: Client) -> None:
    data = bytes(range(256)) * 9000
    where = registry.begin()
    first = registry.call("PATCH", where, data=data[:1000], headers={"content-range": "0-999"})
    assert (first.status_code, first.headers["range"]) == (202, "0-999")
    gap = registry.call("PATCH", where, data=data[2000:3000], headers={"content-range": "2000-2999"})
    assert (_code(gap), gap.headers["range"]) == ((416, "RANGE_INVALID"), "0-999")
    short = registry.call("PATCH", where, data=data[1000:1010], headers={"content-range": "1000-1999"})
    assert _code(short) == (400, "SIZE_INVALID")
    asked = registry.call("GET", where)
    assert (asked.status_code, asked.headers["range"]) == (204, "0-999")
    last = registry.call("PUT", where, params={"digest": digest(data)}, data=data[1000:])
    assert (last.status_code, last.headers["docker-content-digest"]) == (201, digest(data))
    assert registry.call("GET", last.headers["location"]).content == data
    assert _code(registry.call("GET", where)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_a_whole_blob_in_one_request(registry: Client) -> None:
    done = registry.call("POST", "blobs/uploads/", params={"digest": digest(b"whole")}, data=b"whole")
    assert done.status_code == 201
    assert registry.call("GET", f"blobs/{digest(b'whole')}").content == b"whole"
    empty = registry.push_blob(b"")
    assert registry.call("GET", f"blobs/{empty}").content == b""


def test_what_does_not_fit_its_digest_is_not_kept(registry: Client) -> None:
    where = registry.begin()
    refused = registry.call("PUT", where, params={"digest": digest(b"something else")}, data=b"this")
    assert _code(refused) == (400, "DIGEST_INVALID")
    assert registry.call("HEAD", f"blobs/{digest(b'something else')}").status_code == 404
    assert registry.call("HEAD", f"blobs/{digest(b'this')}").status_code == 404
    for odd in ("sha256:short", "md5:" + "0" * 32, ""):
        assert _code(registry.call("PUT", registry.begin(), params={"digest": odd}, data=b"x")) == (
            400,
            "DIGEST_INVALID",
        )


def test_digests_may_be_sha512(registry: Client) -> None:
    data = b"long" * 1000
    long = f"sha512:{hashlib.sha512(data).hexdigest()}"
    where = registry.begin()
    assert registry.call("PATCH", where, data=data).status_code == 202
    wrong = registry.call("PUT", registry.begin(), params={"digest": long}, data=data[1:])
    assert _code(wrong) == (400, "DIGEST_INVALID")
    assert registry.call("PUT", where, params={"digest": long}).status_code == 201
    assert registry.call("GET", f"blobs/{long}").content == data
    content = json.dumps(registry.image(b"layer")).encode()
    name = f"sha512:{hashlib.sha512(content).hexdigest()}"
    assert registry.push_manifest(json.loads(content), name).headers["docker-content-digest"] == name
    assert registry.call("GET", f"manifests/{name}").content == content


def test_what_a_manifest_needs_is_not_deleted_before_it(registry: Client) -> None:
    image = registry.image(b"layer")
    inner = registry.push_manifest(image).headers["docker-content-digest"]
    listed = {"mediaType": image["mediaType"], "digest": inner, "size": len(json.dumps(image))}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}
    outer = registry.push_manifest(index, "v1").headers["docker-content-digest"]
    for part, holder in (
        (f"manifests/{inner}", outer),
        (f"blobs/{image['config']['digest']}", inner),
        (f"blobs/{image['layers'][0]['digest']}", inner),
    ):
        refused = registry.call("DELETE", part)
        assert _code(refused) == (403, "DENIED")
        assert f"is part of the manifest {holder}" in refused.text
        assert registry.call("HEAD", part).status_code == 200
    for each in (f"manifests/{outer}", f"manifests/{inner}", f"blobs/{image['layers'][0]['digest']}"):
        assert registry.call("DELETE", each).status_code == 202


def test_a_cancelled_upload_is_gone(registry: Client) -> None:
    where = registry.begin()
    registry.call("PATCH", where, data=b"x")
    assert registry.call("DELETE", where).status_code == 204
    assert registry.call("PATCH", where, data=b"x").status_code == 404


def test_blobs_in_ranges(registry: Client) -> None:
    data = hashlib.sha256(b"").digest() * 50_000
    path = f"blobs/{registry.push_blob(data)}"
    head = registry.call("HEAD", path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    for given, start, stop in (("100-299", 100, 300), ("1599000-", 1599000, None), ("-10", -10, None)):
        part = registry.call("GET", path, headers={"range": f"bytes={given}"})
        assert (part.status_code, part.content) == (206, data[start:stop])
    assert part.headers["content-range"] == f"bytes {len(data) - 10}-{len(data) - 1}/{len(data)}"
    beyond = registry.call("GET", path, headers={"range": f"bytes={len(data)}-"})
    assert beyond.status_code == 416
    assert registry.call("DELETE", path).status_code == 202
    assert _code(registry.call("GET", path)) == (404, "BLOB_UNKNOWN")


def test_a_mount_brings_a_blob_without_its_bytes(server: Server, registry: Client) -> None:
    other = Client(server.url, registry.password, "mount-target")
    make_repository(server.data, other.name)
    blob = registry.push_blob(b"shared layer")
    assert other.call("HEAD", f"blobs/{blob}").status_code == 404
    mounted = other.call("POST", "blobs/uploads/", params={"mount": blob, "from": registry.name})
    assert mounted.status_code == 201
    assert other.call("GET", f"blobs/{blob}").content == b"shared layer"
    for params in ({"mount": digest(b"no"), "from": registry.name}, {"mount": blob, "from": "none"}, {"mount": blob}):
        begun = other.call("POST", "blobs/uploads/", params=params)
        assert (begun.status_code, "location" in begun.headers) == (202, True)


def test_manifests_by_tag_and_digest(registry: Client) -> None:
    image = registry.image(b"layer")
    content = json.dumps(image).encode()
    pushed = registry.push_manifest(image, "v1")
    assert (pushed.status_code, pushed.headers["docker-content-digest"]) == (201, digest(content))
    for reference in ("v1", digest(content)):
        got = registry.call("GET", f"manifests/{reference}")
        assert (got.content, got.headers["content-type"]) == (content, image["mediaType"])
        head = registry.call("HEAD", f"manifests/{reference}")
        assert (head.headers["content-length"], head.content) == (str(len(content)), b"")
    assert _code(registry.call("GET", "manifests/v2")) == (404, "MANIFEST_UNKNOWN")
    assert registry.call("DELETE", "manifests/v1").status_code == 202
    assert registry.call("GET", "manifests/v1").status_code == 404
    assert registry.call("DELETE", f"manifests/{digest(content)}").status_code == 202
    assert registry.call("GET", f"manifests/{digest(content)}").status_code == 404


def test_a_manifest_must_be_right_and_its_parts_there(registry: Client) -> None:
    image = registry.image(b"layer")
    absent = {"mediaType": "x/y", "digest": digest(b"not pushed"), "size": 10}
    assert _code(registry.push_manifest(image | {"layers": [absent]}, "v1")) == (400, "MANIFEST_BLOB_UNKNOWN")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [absent]}
    assert _code(registry.push_manifest(index, "v1")) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert _code(registry.push_manifest(image, digest(b"another"))) == (400, "DIGEST_INVALID")
    for broken in (image | {"config": 1}, image | {"schemaVersion": 1}, image | {"layers": 3}):
        assert _code(registry.push_manifest(broken, "v1")) == (400, "MANIFEST_INVALID")
    for body, kind in ((b"{", "x"), (b"[]", "x"), (b"{}", "text/plain")):
        sent = registry.call("PUT", "manifests/v1", data=body, headers={"content-type": kind})
        assert _code(sent) == (400, "MANIFEST_INVALID")
    large = registry.call("PUT", "manifests/v1", data=b" " * (4 * 1024 * 1024 + 1))
    assert _code(large) == (400, "SIZE_INVALID")
    assert _code(registry.push_manifest(image, "-bad")) == (400, "TAG_INVALID")
    inner = registry.push_manifest(image)
    listed = {"mediaType": image["mediaType"], "digest": inner.headers["docker-content-digest"], "size": 1}
    assert registry.push_manifest(index | {"manifests": [listed]}, "v1").status_code == 201


def test_referrers_are_listed_and_filtered(registry: Client) -> None:
    subject = registry.push_manifest(registry.image(b"subject"), "v1").headers["docker-content-digest"]
    about = {"mediaType": "x/y", "digest": subject, "size": 1}
    for number in (1, 2):
        more = {"artifactType": f"a/{number}", "subject": about, "annotations": {"n": str(number)}}
        pushed = registry.push_manifest(registry.image(b"signature", **more))
        assert pushed.headers["oci-subject"] == subject
    found = registry.call("GET", f"referrers/{subject}")
    assert found.headers["content-type"] == OCI_INDEX
    assert {each["artifactType"]: each["annotations"] for each in found.json()["manifests"]} == {
        "a/1": {"n": "1"},
        "a/2": {"n": "2"},
    }
    some = registry.call("GET", f"referrers/{subject}", params={"artifactType": "a/2"})
    assert some.headers["oci-filters-applied"] == "artifactType"
    assert [each["artifactType"] for each in some.json()["manifests"]] == ["a/2"]
    assert registry.call("GET", f"referrers/{digest(b'none')}").json()["manifests"] == []
    assert registry.call("GET", "referrers/odd").status_code == 400


def test_tags_and_the_catalogue_come_in_pages(registry: Client) -> None:
    image = registry.image(b"layer")
    for tag in ("b", "a", "d", "c"):
        registry.push_manifest(image, tag)
    assert registry.call("GET", "tags/list").json() == {"name": registry.name, "tags": ["a", "b", "c", "d"]}
    page = registry.call("GET", "tags/list", params={"n": 3})
    assert page.json()["tags"] == ["a", "b", "c"]
    following = registry.call("GET", page.links["next"]["url"])
    assert (following.json()["tags"], following.links) == (["d"], {})
    assert registry.call("GET", "tags/list", params={"n": 0}).json()["tags"] == []
    assert registry.call("GET", "tags/list", params={"n": -1}).status_code == 400
    everything = registry.call("GET", "/v2/_catalog").json()["repositories"]
    assert registry.name in everything
    one = registry.call("GET", "/v2/_catalog", params={"n": 1, "last": everything[0]})
    assert one.json()["repositories"] == everything[1:2]


def test_an_immutable_tag_stays(server: Server, registry: Client) -> None:
    fixed = Client(server.url, registry.password, "fixed")
    make_repository(server.data, fixed.name, imageTagMutability="IMMUTABLE")
    image = fixed.image(b"one")
    assert fixed.push_manifest(image, "v1").status_code == 201
    assert fixed.push_manifest(image, "v1").status_code == 201, "the same again is no change"
    refused = fixed.push_manifest(fixed.image(b"two"), "v1")
    assert _code(refused) == (400, "TAG_INVALID")
    assert "cannot be overwritten because the repository is immutable" in refused.text
    assert fixed.push_manifest(fixed.image(b"two"), "v2").status_code == 201


def test_what_there_is_not_is_refused_by_name(registry: Client) -> None:
    assert _code(registry.call("GET", "/v2/Upper/tags/list")) == (400, "NAME_INVALID")
    assert _code(registry.call("GET", "/v2/what")) == (405, "UNSUPPORTED")
    assert _code(registry.call("POST", "tags/list")) == (405, "UNSUPPORTED")
    assert _code(registry.call("PATCH", "manifests/v1")) == (405, "UNSUPPORTED")


def test_the_same_blob_pushed_by_many_at_once(server: Server, registry: Client) -> None:
    data = b"the same" * 500_000
    outcomes: list[str] = []

    def push() -> None:
        outcomes.append(Client(server.url, registry.password, registry.name).push_blob(data))

    threads = [threading.Thread(target=push) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [digest(data)] * 6
    assert registry.call("GET", f"blobs/{digest(data)}").content == data
    kept = [path for path in (server.data / "registry").glob("??/*") if path.stat().st_size == len(data)]
    assert len(kept) == 1


def test_a_broken_off_upload_keeps_what_came_and_survives_a_crash(server: Server, registry: Client) -> None:
    data = hashlib.sha256(b"x").digest() * 100_000
    where = registry.begin()
    registry.call("PATCH", where, data=data[:1_000_000])
    address = urlsplit(server.url)
    broken = http.client.HTTPConnection(address.hostname or "", address.port)
    login = requests.auth._basic_auth_str("AWS", registry.password)
    broken.putrequest("PATCH", where)
    broken.putheader("authorization", login)
    broken.putheader("content-length", str(len(data) - 1_000_000))
    broken.endheaders(data[1_000_000:2_000_000])
    upload = server.data / "registry" / where.rpartition("/")[2][:2] / where.rpartition("/")[2]
    broken.close()
    wait_for(lambda: upload.stat().st_size == 2_000_000, "what had come is kept")
    server.kill_everything()
    server.start()
    again = Client(server.url, registry.password, registry.name)
    stands = again.call("GET", where)
    assert stands.headers["range"] == "0-1999999"
    rest = again.call("PATCH", where, data=data[2_000_000:], headers={"content-range": f"2000000-{len(data) - 1}"})
    assert rest.status_code == 202
    assert again.call("PUT", where, params={"digest": digest(data)}).status_code == 201
    assert again.call("GET", f"blobs/{digest(data)}").content == data
