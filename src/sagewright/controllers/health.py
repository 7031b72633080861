"""Pings: whether the containers of endpoints answer GET /ping (contract B.3). Observed, never decided on, here.

    unknown ──ping──► good: successes 1, 2, ...      each miss or success resets the other count
                 └──► miss: failures 1, 2, ...

One task per container, from when its address is known until nobody asks. What is known is lost with the process, and
unknown is neither healthy nor not. Each ping is a connection of its own: that a server still accepts is a part of
being healthy.
Owns: pinging, counting, the transcript, looking for a server on another port. Does not own: what follows
(`endpoint_fleets`), words (`endpoint_failures`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from sagewright.controllers.controller import Health, Ping
from sagewright.core.clock import Clock, to_text
from sagewright.core.ids import WorkloadId

MISSES: Final = 3
"""Misses on end after which an instance gets no requests any more."""

TRANSCRIPT: Final = 10
_BODY: Final = 200  # bytes of an answer that are kept
_HEAD: Final = 64 * 1024  # bytes of an answer's head
_REST: Final = 1 << 20  # bytes of an answer that are read for politeness
_CONNECT: Final = 0.25  # seconds: contract B.3
_ANSWER: Final = 2.0
_CALM: Final = 5.0
_EAGER: Final = ((5.0, 0.05), (30.0, 0.1), (120.0, 0.25))  # seconds since the first ping → between two of them
_PATIENT: Final = 0.5  # later than that, and once it has answered
_PORTS_EVERY: Final = 40  # refusals on end between looks at other ports
_PORTS: Final = (80, 443, 1234, 3000, 4000, 5000, 5001, 5050, 6006, 7000, 7860, 8000, 8001, 8002, 8008, 8080, 8081)
_MORE_PORTS: Final = (8082, 8085, 8088, 8090, 8100, 8443, 8500, 8501, 8787, 8866, 8888, 8889, 9000, 9001, 9090, 9999)

Wake = Callable[[WorkloadId], None]


class HealthWatch:
    """`wake` is told a container whose health has changed: its first good ping, its third miss, its recovery."""

    def __init__(self, clock: Clock, wake: Wake) -> None:
        self._clock = clock
        self._wake = wake
        self._pingers: dict[WorkloadId, _Pinger] = {}

    def follow(self, workload: WorkloadId, address: str, *, eager: bool) -> None:
        """Ping it from now on; often, while it starts."""
        pinger = self._pingers.get(workload)
        if pinger is not None and pinger.address != address:
            self.release(workload)
            pinger = None
        if pinger is None:
            pinger = self._pingers[workload] = _Pinger(workload, address, self._clock, self._wake)
        pinger.eager = eager

    def state(self, workload: WorkloadId) -> Health | None:
        """None while nothing is known."""
        pinger = self._pingers.get(workload)
        return pinger.health() if pinger else None

    def release(self, workload: WorkloadId) -> None:
        if pinger := self._pingers.pop(workload, None):
            pinger.cancel()

    async def aclose(self) -> None:
        pingers = tuple(self._pingers.values())
        self._pingers.clear()
        for pinger in pingers:
            pinger.cancel()
        for pinger in pingers:
            await pinger.over()


class _Pinger:
    """One container's pings, one after the other."""

    def __init__(self, workload: WorkloadId, address: str, clock: Clock, wake: Wake) -> None:
        self.address = address
        self.eager = True
        self._workload = workload
        self._clock = clock
        self._wake = wake
        self._successes = self._failures = self._refusals = 0
        self._transcript: deque[Ping] = deque(maxlen=TRANSCRIPT)
        self._listening: tuple[int, ...] = ()
        self._task = asyncio.create_task(self._run())

    def health(self) -> Health | None:
        if not self._successes and not self._failures:
            return None
        return Health(self._successes, self._failures, tuple(self._transcript), self._listening)

    def cancel(self) -> None:
        self._task.cancel()

    async def over(self) -> None:
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        began = time()
        while True:
            sent = time()
            exchange = _Exchange(self.address)
            try:
                self._note(await exchange.status(), exchange, time() - sent)
                await exchange.finish()
            finally:
                exchange.close()
            if self._refusals and self._refusals % _PORTS_EVERY == 0:
                self._listening = await _other_ports(self.address)
            await asyncio.sleep(max(0.0, self._pause(time() - began) - (time() - sent)))

    def _pause(self, age: float) -> float:
        if not self.eager:
            return _CALM
        if self._successes:
            return _PATIENT
        return next((pause for until, pause in _EAGER if age < until), _PATIENT)

    def _note(self, status: int | None, exchange: _Exchange, took: float) -> None:
        self._refusals = self._refusals + 1 if exchange.refused else 0
        ping = Ping(to_text(self._clock.now()), status, exchange.error, exchange.body, round(took * 1000, 1))
        self._transcript.append(ping)
        if status == 200:
            self._successes, self._failures = self._successes + 1, 0
            if self._successes == 1:
                self._wake(self._workload)
        else:
            self._successes, self._failures = 0, self._failures + 1
            if self._failures == MISSES:
                self._wake(self._workload)


class _Exchange:
    """One GET /ping. `error` says in words why there is no status; `body` is the start of an answer that is not 200."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._deadline = asyncio.get_running_loop().time() + _ANSWER
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.error = ""
        self.body = ""
        self.refused = False

    async def status(self) -> int | None:
        try:
            async with asyncio.timeout(_CONNECT):
                self._streams = await _connect(self._address)
        except TimeoutError:
            self.error = f"no connection within {_CONNECT * 1000:.0f} ms"
            return None
        except OSError as error:
            self.refused = isinstance(error, ConnectionRefusedError)
            self.error = "connection refused" if self.refused else (error.strerror or str(error)).lower()
            return None
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._ask(*self._streams)
        except TimeoutError:
            self.error = f"no answer within {_ANSWER:g} s"
        except (asyncio.IncompleteReadError, OSError):
            self.error = "the connection was closed without an answer"
        except (ValueError, asyncio.LimitOverrunError):
            self.error = "the answer is not HTTP"
        return None

    async def finish(self) -> None:
        """Read what is left of the answer, as far as the time goes: some servers mind when nobody does."""
        if self._streams is not None and not self.error:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout_at(self._deadline):
                    await self._streams[0].read(_REST)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        host = self._address.encode()
        writer.write(
            b"GET /ping HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: AHC/2.0\r\nAccept: */*\r\n"
            b"Connection: close\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        version, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError(version)
        status = int(rest[:3])
        if status != 200:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(0.2):
                    self.body = (await reader.read(_BODY)).decode("utf-8", "replace")
        return status


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), limit=_HEAD)


async def _other_ports(address: str) -> tuple[int, ...]:
    """Usual ports on which something listens instead. Only where the address is the container's own: behind a
    published port, or in a shared network, it would be somebody else's."""
    host, _, port = address.rpartition(":")
    with suppress(ValueError):
        if not ip_address(host.strip("[]")).is_loopback:
            tried = [each for each in (*_PORTS, *_MORE_PORTS) if each != int(port)]
            answers = await asyncio.gather(*(_listens(f"{host}:{each}") for each in tried))
            return tuple(each for each, listens in zip(tried, answers, strict=True) if listens)
    return ()


async def _listens(address: str) -> bool:
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await _connect(address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
