"""The certificate authority: OpenSSL's own verification is the oracle."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sagewright.core.errors import SettingsError
from sagewright.gateway import authority as module
from sagewright.gateway.authority import Authority


def handshake(authority: Authority, host: str, named: str | None = None, strict: bool = True) -> dict[str, object]:
    """The certificate a strict client accepts for `named`; raises what the client raises."""
    client = ssl.create_default_context(cafile=str(authority.bundle))
    if strict:
        client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()
    problems: list[BaseException] = []

    def serve() -> None:
        try:
            authority.context(host).wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError) as error:
            problems.append(error)
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=named or host) as connection:
            return dict(connection.getpeercert() or {})
    finally:
        ours.close()
        thread.join(10)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "keys")
    made.prepare()
    return made


@pytest.mark.parametrize(
    "host",
    [
        "sts.us-east-1.amazonaws.com",
        "a.b.c.s3.eu-west-1.amazonaws.com",
        "sts.cn-north-1.amazonaws.com.cn",
        "x" * 60 + ".s3.amazonaws.com",
    ],
)
def test_a_strict_client_accepts_our_certificate_for_the_host(authority: Authority, host: str) -> None:
    assert handshake(authority, host)["subjectAltName"] == (("DNS", host),)


def test_a_certificate_is_good_for_its_own_host_only(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, "sts.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com")


def test_the_authority_cannot_vouch_for_the_rest_of_the_world(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(authority, "www.bank.example")


def test_the_private_key_is_for_its_owner_only_and_comes_back_from_disk(authority: Authority) -> None:
    key = authority.bundle.parent / "ca.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = authority.certificate.read_text()
    key.chmod(0o644)
    again = Authority(key.parent)
    again.prepare()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert again.certificate.read_text() == before
    handshake(again, "sts.us-east-1.amazonaws.com")
    assert {path.name for path in key.parent.iterdir()} == {"ca.key", "ca.pem", "bundle.pem"}


def test_the_key_in_the_certificate_file_is_not_in_the_files_for_others(authority: Authority) -> None:
    for path in (authority.certificate, authority.bundle):
        assert "PRIVATE KEY" not in path.read_text()


def test_the_authority_is_an_ec_key_for_ten_years(authority: Authority) -> None:
    made = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    assert made.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3640)
    assert made.not_valid_before_utc < datetime.now(UTC)
    assert isinstance(made.signature_hash_algorithm, hashes.SHA256)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca


def test_gateways_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Authority(tmp_path / "keys").prepare(), range(8)))
    first, second = Authority(tmp_path / "keys"), Authority(tmp_path / "keys")
    handshake(first, "sts.us-east-1.amazonaws.com")
    handshake(second, "sts.us-east-1.amazonaws.com")
    assert len(list((tmp_path / "keys").iterdir())) == 3


def test_the_bundle_keeps_what_was_trusted_before(tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.prepare()
    ours = Authority(tmp_path / "keys", other.certificate)
    ours.prepare()
    bundle = ours.bundle.read_text()
    assert other.certificate.read_text().strip() in bundle
    assert ours.certificate.read_text().strip() in bundle
    assert bundle.count("BEGIN CERTIFICATE") == 2


def test_the_bundle_never_feeds_itself(tmp_path: Path) -> None:
    first = Authority(tmp_path / "keys")
    first.prepare()
    once = first.bundle.read_text()
    Authority(tmp_path / "keys", first.bundle).prepare()
    copied = tmp_path / "copy.pem"
    copied.write_text(once)
    Authority(tmp_path / "keys", copied).prepare()
    assert first.bundle.read_text().count(first.certificate.read_text().strip()) == 1


def test_a_missing_outer_bundle_leaves_the_machines_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", tmp_path / "nowhere.pem")
    authority.prepare()
    assert authority.bundle.read_text().count("BEGIN CERTIFICATE") > 10


def test_a_key_file_that_is_not_ours_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_text("garbage")
    with pytest.raises(SettingsError, match="remove it"):
        Authority(tmp_path).prepare()


def test_contexts_are_kept_and_bounded(tmp_path: Path) -> None:
    authority = Authority(tmp_path, limit=2)
    authority.prepare()
    first = authority.context("a.amazonaws.com")
    assert authority.context("a.amazonaws.com") is first
    authority.context("b.amazonaws.com")
    authority.context("c.amazonaws.com")
    assert authority.context("a.amazonaws.com") is not first


def test_contexts_are_made_anew_before_their_certificates_expire(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = authority.context("a.amazonaws.com")
    monkeypatch.setattr(module, "_RENEWAL", timedelta(0))
    assert authority.context("a.amazonaws.com") is not first


def test_cryptography_is_not_loaded_before_it_is_needed(authority: Authority) -> None:
    code = (
        "import sys; from pathlib import Path; from sagewright.gateway.authority import Authority; "
        "Authority(Path(sys.argv[1])).prepare(); sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(authority.bundle.parent)], check=True, env=dict(os.environ))
