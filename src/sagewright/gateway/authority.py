"""The certificate authority with which we answer for AWS's host names, and the bundle that makes clients trust it.

    KEYS/ca.key       the authority's private key and certificate in one file (so that they always match), mode 0600
    KEYS/ca.pem       its certificate alone, for images and other machines' trust stores
    KEYS/bundle.pem   its certificate and every one that was trusted before: what AWS_CA_BUNDLE points at

Owns: making and keeping those files, a TLS context per host. Does not own: which hosts we answer for (`gateway.hosts`).
The authority is name-constrained: a client that trusts it trusts it for AWS names and this machine, nothing else,
so that a stolen key cannot impersonate a bank. `cryptography` is imported only when something is made.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from sagewright.core.errors import SettingsError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=365)
_BACKDATED = timedelta(days=1)  # a client's clock may be behind ours
_RENEWAL = timedelta(days=30)  # how long a context is used before it is made anew
_PERMITTED = ("amazonaws.com", "amazonaws.com.cn", "localhost")
_END = "-----END CERTIFICATE-----"


class Authority:
    """Makes its files when they are missing, and contexts for hosts on demand. Safe to use from several threads.

    `outer_bundle` is what the user trusted before; None means the machine's own bundle.
    """

    def __init__(self, folder: Path, outer_bundle: Path | None = None, *, limit: int = 256) -> None:
        self._folder = folder
        self._outer = outer_bundle
        self._limit = limit
        self._lock = threading.Lock()
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, datetime]] = OrderedDict()
        self._loaded: tuple[EllipticCurvePrivateKey, x509.Certificate] | None = None
        self._leaf_key: EllipticCurvePrivateKey | None = None

    @property
    def bundle(self) -> Path:
        return self._folder / "bundle.pem"

    @property
    def certificate(self) -> Path:
        return self._folder / "ca.pem"

    def prepare(self) -> None:
        """Make what is missing; bring the bundle up to date. Takes milliseconds, 0.2 s at the very first start."""
        path = self._folder / "ca.key"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_first(path, _new_authority())
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        own = _certificate_of(path)
        _write_changed(self.certificate, own)
        _write_changed(self.bundle, own + _trusted_before(self._outer, self.bundle, own))

    def context(self, host: str) -> ssl.SSLContext:
        """A server context whose certificate names `host`; kept for the next connection. Blocks for milliseconds."""
        now = datetime.now(UTC)
        with self._lock:
            found = self._contexts.get(host)
            if found is not None and now - found[1] < _RENEWAL:
                self._contexts.move_to_end(host)
                return found[0]
            made = self._new_context(host, now)
            self._contexts[host] = (made, now)
            if len(self._contexts) > self._limit:
                self._contexts.popitem(last=False)
            return made

    def _new_context(self, host: str, now: datetime) -> ssl.SSLContext:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key, authority = self._signer()
        self._leaf_key = self._leaf_key or ec.generate_private_key(ec.SECP256R1())
        leaf = _new_leaf(host, now, self._leaf_key, key, authority)
        pem = leaf.public_bytes(serialization.Encoding.PEM) + _private_pem(self._leaf_key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        with _as_file(pem, self._folder) as path:
            context.load_cert_chain(path)
        return context

    def _signer(self) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

        if self._loaded is None:
            if not (self._folder / "ca.key").exists():
                self.prepare()
            pem = (self._folder / "ca.key").read_bytes()
            key = serialization.load_pem_private_key(pem, None)
            if not isinstance(key, EllipticCurvePrivateKey):
                raise SettingsError(f"{self._folder / 'ca.key'} is not ours; remove it to have a new authority made")
            self._loaded = key, x509.load_pem_x509_certificate(pem)
        return self._loaded


def _new_authority() -> bytes:
    """Private key and certificate, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number in the name keeps two installations' authorities apart in one trust store.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Sagewright local authority {secrets.token_hex(4)}")])
    now = datetime.now(UTC)
    permitted: list[x509.GeneralName] = [x509.DNSName(host) for host in _PERMITTED]
    permitted.append(x509.IPAddress(ip_network("127.0.0.0/8")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _new_leaf(
    host: str,
    now: datetime,
    key: EllipticCurvePrivateKey,
    authority_key: EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= 64 else []  # X.520's limit
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(name))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + _LEAF_LIFE, authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=not name)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate_of(path: Path) -> str:
    """The certificate in a file that also holds a private key."""
    text = path.read_text()
    start, end = text.find("-----BEGIN CERTIFICATE-----"), text.find(_END)
    if start < 0 or end < 0:
        raise SettingsError(f"{path} holds no certificate; remove it to have a new authority made")
    return text[start : end + len(_END)] + "\n"


def _trusted_before(outer: Path | None, bundle: Path, own: str) -> str:
    """The certificates trusted without us. Our own bundle never feeds itself, nor our certificate a second time."""
    if outer is None or outer.resolve() == bundle.resolve() or not outer.is_file():
        outer = _machine_bundle()
    text = outer.read_text(errors="replace") if outer else ""
    return "\n" + text.replace(own.strip(), "") if text else ""


def _machine_bundle() -> Path | None:
    """The system's bundle, else that of certifi, else botocore's; looked up without importing either."""
    candidates = [ssl.get_default_verify_paths().cafile]
    for package in ("certifi", "botocore"):
        spec = find_spec(package)
        candidates += [str(Path(folder) / "cacert.pem") for folder in (spec and spec.submodule_search_locations) or ()]
    return next((Path(found) for found in candidates if found and Path(found).is_file()), None)


def _write_first(path: Path, content: bytes) -> None:
    """Whole or not at all, mode 0600; the first of several racing writers wins."""
    with _as_file(content, path.parent) as temporary, contextlib.suppress(FileExistsError):
        os.link(temporary, path)


def _write_changed(path: Path, text: str) -> None:
    """Replace `path` at once, and only when it says something else."""
    if path.exists() and path.read_text(errors="replace") == text:
        return
    with _as_file(text.encode(), path.parent) as temporary:
        temporary.chmod(0o644)
        temporary.replace(path)


@contextlib.contextmanager
def _as_file(content: bytes, folder: Path) -> Iterator[Path]:
    """`content` on disk for a moment, readable by its owner only."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
