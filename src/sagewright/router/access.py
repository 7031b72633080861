"""Who may invoke: signatures in a few microseconds, and bearer tokens.

    head ──admit──▶ Grant ──check(body)──▶ let in, or Denied

Owns: the fast way for a signature like one that was seen before (same key, day, scope and signed headers), which is all
but the first of a client's requests. Whatever the fast way does not accept is decided by `wire.sigv4`, so it can never
refuse, and what it accepts has passed the same rules. Does not own: those rules, credentials (`core.credentials`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sagewright.core.clock import Clock
from sagewright.core.credentials import Keyring, Session, UnknownCredentials
from sagewright.core.ids import Account, Region
from sagewright.router import errors, tokens
from sagewright.router.request import Request
from sagewright.wire import payload
from sagewright.wire.denials import Denied, Reason
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.sigv4 import ALGORITHM, Claim, Malformed, SigningKeys, Verifier, read_claim

_BEARER: Final = b"Bearer "
_SERVICE: Final = "sagemaker"
SIGNATURE: Final = 64  # characters
ALGORITHM_LINE: Final = ALGORITHM.encode() + b"\n"
_KNOWN: Final = 4096  # clients remembered
_ALWAYS_SIGNED: Final = frozenset({"host", "x-amz-date", "x-amz-security-token"})  # our keys have a session token
_CONTENT_SHA256: Final = payload.CONTENT_SHA256.encode()


@dataclass(frozen=True, slots=True)
class Known:
    """A client whose signature has been verified before."""

    region: Region
    date: bytes  # of the scope, yyyymmdd
    inner: hashlib._Hash  # an HMAC is two hashes, whose first block is the same for every request
    outer: hashlib._Hash
    scope: bytes
    lines: tuple[tuple[bytes, bytes], ...]  # of signed headers: how the line begins, and the header's name
    signed: frozenset[bytes]
    tail: bytes  # of the canonical request, up to the body's hash
    expires: float | None  # seconds since the epoch


class Grant:
    """A head that was let through. `region` is where the endpoint is looked for."""

    __slots__ = ("_access", "_claim", "_known", "_memory", "_request", "_session", "region")

    def __init__(
        self,
        access: Access,
        request: Request,
        region: Region,
        *,
        known: Known | None = None,
        claim: Claim | None = None,
        session: Session | None = None,
        memory: tuple[bytes, bytes | None] | None = None,
    ) -> None:
        self.region = region
        self._access = access
        self._request = request
        self._known = known
        self._claim = claim
        self._session = session
        self._memory = memory

    def check(self, body: bytes) -> None:
        """The body is what was signed. Raises Denied and ApiFault."""
        if self._known is not None and matches(self._known, self._request, body):
            return
        if self._known is not None:
            self._claim, self._session = self._access.claim(self._request)
        if self._claim is not None and self._session is not None:
            self._access.verify(self._request, self._claim, self._session, self._memory, body)


class Access:
    """Lets invocations in. One object serves all connections of a process."""

    def __init__(self, keyring: Keyring, account: Account, clock: Clock, max_skew: float) -> None:
        self._keyring = keyring
        self._account = account
        self._clock = clock
        self._skew = max_skew
        self._keys = SigningKeys()
        self._verifier = Verifier(max_skew, self._keys)
        self._known: OrderedDict[tuple[bytes, bytes | None], Known] = OrderedDict()
        self._times: dict[bytes, float] = {}

    def admit(self, request: Request) -> Grant:
        """Everything that the head tells. Raises Denied and ApiFault."""
        authorization = request.headers.get(b"authorization", b"")
        if authorization.startswith(_BEARER):
            return Grant(self, request, self._token(request, authorization[len(_BEARER) :]))
        memory = (authorization[:-SIGNATURE], request.headers.get(b"x-amz-security-token"))
        known = self.known(request.headers)
        if known is not None:
            return Grant(self, request, known.region, known=known, memory=memory)
        claim, session = self.claim(request)
        return Grant(self, request, Region(claim.region), claim=claim, session=session, memory=memory)

    def known(self, headers: dict[bytes, bytes]) -> Known | None:
        """Whose signature a request's is like; None when it is new, or not of the right time."""
        memory = (headers.get(b"authorization", b"")[:-SIGNATURE], headers.get(b"x-amz-security-token"))
        known = self._known.get(memory)
        return known if known is not None and self.is_timely(known, headers.get(b"x-amz-date", b"")) else None

    def claim(self, request: Request) -> tuple[Claim, Session]:
        """The claim and whose it is, before the body is known. Raises Denied and ApiFault."""
        claim = read_claim(_plain(request))
        if claim is None:
            raise Denied(Reason.UNSIGNED)
        if isinstance(claim, Malformed):
            raise Denied(Reason.MALFORMED_URL if claim.presigned else Reason.MALFORMED, claim.detail)
        now = self._clock.now()
        self._verifier.check_time(claim, now)
        session = self._session(claim, now)
        if session.principal.account != self._account:
            raise ApiFault(
                "AccessDeniedException",
                f"User: {session.principal.arn} is not authorized to perform: sagemaker:InvokeEndpoint. The keys "
                f"belong to another account than {self._account}.",
                403,
            )
        return claim, session

    def verify(
        self,
        request: Request,
        claim: Claim,
        session: Session,
        memory: tuple[bytes, bytes | None] | None,
        body: bytes,
    ) -> None:
        """The whole rules. A client that passes is known from now on."""
        plain = _plain(request, body)
        sent = plain.headers.get(payload.CONTENT_SHA256)
        payload_hash = sent or hashlib.sha256(body).hexdigest()
        seal = self._verifier.verify(plain, claim, session.secret_key, payload_hash)
        if sent is not None:
            if payload.bind(plain, payload_hash, seal).body != body:
                raise ApiFault("ValidationError", "Send the body as it is: aws-chunked bodies are for S3.", 400)
        elif memory is not None and not claim.presigned and _ALWAYS_SIGNED.issubset(claim.signed_headers.split(";")):
            self._remember(memory, claim, session)

    def _remember(self, memory: tuple[bytes, bytes | None], claim: Claim, session: Session) -> None:
        names = tuple(name.encode("latin-1") for name in claim.signed_headers.split(";"))
        padded = self._keys.key(session.secret_key, claim.date, claim.region, claim.service).ljust(64, b"\0")
        self._known[memory] = Known(
            Region(claim.region),
            claim.date.encode("latin-1"),
            hashlib.sha256(bytes(byte ^ 0x36 for byte in padded)),
            hashlib.sha256(bytes(byte ^ 0x5C for byte in padded)),
            b"\n" + claim.scope.encode("latin-1") + b"\n",
            tuple((b"\n" + name + b":", name) for name in names),
            frozenset(names),
            b"\n\n" + b";".join(names) + b"\n",
            session.expiration.timestamp() if session.expiration is not None else None,
        )
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def is_timely(self, known: Known, date: bytes) -> bool:
        """Whether the signature's time (x-amz-date) is right, and the client's keys have not expired."""
        return self.time_left(known, date) > 0

    def time_left(self, known: Known, date: bytes) -> float:
        """Seconds for which that stays so; not above 0: it is not so."""
        if date[:8] != known.date:
            return 0.0
        moment = self._times.get(date)
        if moment is None:
            moment = self._parse(date)
        now = self._clock.now().timestamp()
        left = self._skew - abs(now - moment)
        return left if known.expires is None else min(left, known.expires - now)

    def _parse(self, date: bytes) -> float:
        """Seconds since the epoch; the distant past when it cannot be read, which the whole rules then explain."""
        try:
            moment = datetime.strptime(date.decode("latin-1"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return 0.0
        if len(self._times) > 2048:
            self._times.clear()
        self._times[date] = moment
        return moment

    def _session(self, claim: Claim, now: datetime) -> Session:
        try:
            session = self._keyring.resolve(claim.access_key, claim.token)
        except (UnknownCredentials, TypeError) as error:  # TypeError: a token that is not ASCII cannot be compared
            ours = claim.token is not None and "." in claim.token
            raise Denied(Reason.BAD_TOKEN if ours else Reason.UNKNOWN_KEY) from error
        if session.expiration is not None and session.expiration <= now:
            raise Denied(Reason.EXPIRED_TOKEN)
        if claim.service != _SERVICE:
            raise Denied(Reason.MALFORMED, f"Credential should be scoped to correct service: '{_SERVICE}'.")
        return session

    def _token(self, request: Request, text: bytes) -> Region:
        try:
            token = tokens.check(self._keyring, text.decode("latin-1").strip())
        except tokens.BadToken as error:
            raise errors.wrong_token(request.name) from error
        if token.endpoint != request.name:
            raise errors.wrong_token(request.name)
        if token.expires is not None and token.expires <= self._clock.now():
            raise errors.expired_token(request.name)
        return token.region


def matches(known: Known, request: Request, body: bytes) -> bool:
    """Whether the signature is right, for requests whose canonical form is the plain one."""
    headers, target = request.headers, request.target
    if request.raw is not None or not target.is_plain or _CONTENT_SHA256 in headers:
        return False
    if request.is_special and _has_unsigned(known.signed, headers):
        return False
    parts = [b"POST\n", target.raw, b"\n"]
    try:
        for start, name in known.lines:
            parts += (start, headers[name])
    except KeyError:
        return False
    sha256 = hashlib.sha256
    parts += (known.tail, sha256(body).hexdigest().encode())
    canonical = b"".join(parts)
    if b"  " in canonical or b"\t" in canonical:
        return False  # the canonical form of a header's value has neither
    inner = known.inner.copy()
    inner.update(
        b"%b%b%b%b" % (ALGORITHM_LINE, headers[b"x-amz-date"], known.scope, sha256(canonical).hexdigest().encode())
    )
    outer = known.outer.copy()
    outer.update(inner.digest())
    return hmac.compare_digest(outer.hexdigest().encode(), headers[b"authorization"][-SIGNATURE:])


def _has_unsigned(signed: frozenset[bytes], headers: dict[bytes, bytes]) -> bool:
    return any(name.startswith(b"x-amz-") and name not in signed for name in headers)


def _plain(request: Request, body: bytes = b"") -> HttpRequest:
    path, _, query = request.target.raw.decode("latin-1").partition("?")
    sent = request.raw if request.raw is not None else request.headers.items()
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in sent)
    return HttpRequest("POST", path, query, headers, body)
