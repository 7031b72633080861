"""What a container in the engine is, as an Observation. Pure.

    created ──start──► running ──► exited        as the engine calls it
    (absent)           RUNNING     EXITED        as we do
    created, with an error: EXITED, cause START

A container that was created and never started is absent: our `submit` did not get as far as to accept it, so it
will come again, and start it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sagewright.backends.docker.spec import DIGEST, WORKLOAD
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import Usage
from sagewright.workloads.observation import ExitCause, Observation, Phase

_RUNNING: Final = frozenset({"running", "paused", "restarting", "stopping"})
_ENDED: Final = frozenset({"exited", "stopped", "dead"})
_LOST_CODE: Final = 255  # what the engine makes up for a container that it finds dead when it comes up
_PREAMBLE: Final = re.compile(r"^.*(unable to start container process: |OCI runtime create failed: |crun: )", re.DOTALL)

_SHELL: Final = re.compile(r"(^|/)(sh|bash|dash|ash|zsh|ksh)$")
_COMMAND: Final = re.compile(r"-[a-z]*c$")
_ARGUMENT_0: Final = re.compile(r"\$(0|\{0\})")
_PLAIN: Final = re.compile(r"[\w./-]+$")  # a program without arguments

_CPU: Final = ("cpu_stats", "precpu_stats")

Json = Mapping[str, Any]


def observation(found: Json, *, direct: bool, booted_at: datetime | None = None) -> Observation | None:
    """None = does not exist: not accepted yet, or just going. `booted_at` tells what died with the machine."""
    state = found["State"]
    workload = WorkloadId(found["Config"]["Labels"][WORKLOAD])
    digest = found["Config"]["Labels"].get(DIGEST)
    started = moment(state.get("StartedAt"))
    if started is None:
        return _never_started(found, workload, digest)
    if state["Status"] in _RUNNING:
        return Observation(
            workload,
            Phase.RUNNING,
            started_at=started,
            message=_lost_arguments(found),
            address=_address(found, direct=direct),
            image_digest=digest,
        )
    if state["Status"] not in _ENDED:
        return None
    ended = moment(state.get("FinishedAt")) or started
    if booted_at and started < booted_at < ended and state["ExitCode"] == _LOST_CODE:
        return Observation(
            workload,
            Phase.EXITED,
            started_at=started,
            ended_at=ended,
            cause=ExitCause.LOST,
            message="the machine was restarted while it ran",
            image_digest=digest,
        )
    killed = state.get("OOMKilled") and state["ExitCode"]
    return Observation(
        workload,
        Phase.EXITED,
        started_at=started,
        ended_at=max(started, ended),
        exit_code=state["ExitCode"],
        cause=ExitCause.OUT_OF_MEMORY if killed else ExitCause.EXIT,
        message="" if killed else _lost_arguments(found),
        image_digest=digest,
    )


def usage(stats: Json) -> Usage | None:
    """From two readings of the engine's counters, the earlier in `precpu_stats`. None when it does not run."""
    now, before = moment(stats.get("read")), moment(stats.get("preread"))
    memory = stats.get("memory_stats") or {}
    if now is None or before is None or now <= before or not memory.get("limit"):
        return None
    times = [(stats.get(name) or {}).get("cpu_usage", {}).get("total_usage", 0) for name in _CPU]
    seconds = max(0.0, times[0] - times[1]) / 1e9
    detail = memory.get("stats") or {}
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))  # given back when anybody asks
    used = max(0, memory.get("usage", 0) - cache)
    return Usage(seconds / (now - before).total_seconds() * 100, used / memory["limit"] * 100)


def failed_start(found: Json) -> bool:
    """Whether the engine tried to start it and could not."""
    state = found["State"]
    return moment(state.get("StartedAt")) is None and bool(state.get("Error") or state.get("ExitCode"))


def start_message(words: str, entrypoint: list[str], arguments: list[str]) -> str:
    """The engine's words without its preamble, and what to do about them."""
    plain = _PREAMBLE.sub("", words).removesuffix(": unknown").strip()
    words_of_it = " ".join([*entrypoint, *arguments][:4])
    text = f"The program could not be started{f' ({words_of_it})' if words_of_it else ''}: {plain}."
    hint = _start_hint(plain, entrypoint, arguments)
    return f"{text} {hint}" if hint else text


def moment(text: str | None) -> datetime | None:
    """An engine's RFC 3339 time with up to nanoseconds; its zero time is None."""
    if not text or text.startswith("0001-"):
        return None
    head, _, tail = text.partition(".")
    digits = re.match(r"\d*", tail)
    micros = (digits.group() if digits else "")[:6].ljust(6, "0")
    zone = re.search(r"(Z|[+-]\d\d:\d\d)$", text)
    plain = head.removesuffix("Z")[:19]
    offset = zone.group().replace("Z", "+00:00") if zone else "+00:00"
    return datetime.fromisoformat(f"{plain}.{micros}{offset}").astimezone(UTC)


def _never_started(found: Json, workload: WorkloadId, digest: str | None) -> Observation | None:
    if not failed_start(found):
        return None
    config = found["Config"]
    words = found["State"].get("Error") or f"the engine gave the exit code {found['State']['ExitCode']}"
    return Observation(
        workload,
        Phase.EXITED,
        ended_at=moment(found.get("Created")),
        cause=ExitCause.START,
        message=start_message(words, config.get("Entrypoint") or [], config.get("Cmd") or []),
        image_digest=digest,
    )


def _start_hint(words: str, entrypoint: list[str], arguments: list[str]) -> str:
    program = (entrypoint or arguments or [""])[0]
    if "exec format error" in words:
        return f"{program} is built for another processor, or is a script without a #! line."
    if "permission denied" in words:
        return f"Make it executable in the Dockerfile: RUN chmod +x {program}"
    if "not found" not in words and "no such file" not in words:
        return ""
    if not entrypoint:
        return (
            f"The image has no ENTRYPOINT that takes `{program}`, so `{program}` itself was run: "
            f"give it an ENTRYPOINT, or put an executable named {program} on its PATH."
        )
    return f"There is no {program} in the image; or its #! line names a program that is not there, or ends in CRLF."


def _lost_arguments(found: Json) -> str:
    """Contract A.1: an ENTRYPOINT in shell form never sees its arguments, unless it asks for `$0`."""
    entrypoint, arguments = found["Config"].get("Entrypoint") or [], found["Config"].get("Cmd") or []
    if len(entrypoint) < 3 or not arguments or not _SHELL.search(entrypoint[0]) or not _COMMAND.match(entrypoint[-2]):
        return ""
    if _ARGUMENT_0.search(entrypoint[-1]):
        return ""
    program = entrypoint[-1] if _PLAIN.match(entrypoint[-1]) else "program"
    return (
        f"The image's ENTRYPOINT is in shell form, so `{' '.join(arguments)}` never reached it: "
        f'write it in exec form, ENTRYPOINT ["{program}"].'
    )


def _address(found: Json, *, direct: bool) -> str | None:
    """Where its first port is served."""
    ports = sorted((found["Config"].get("ExposedPorts") or {}), key=lambda name: int(name.partition("/")[0]))
    settings = found.get("NetworkSettings") or {}
    if direct:
        own = settings.get("IPAddress") or _network_address(settings)
        return f"{own}:{ports[0].partition('/')[0]}" if own and ports else None
    for port in ports:
        for binding in (settings.get("Ports") or {}).get(port) or ():
            return f"127.0.0.1:{binding['HostPort']}"
    return None


def _network_address(settings: Json) -> str:
    addresses = (network.get("IPAddress") or "" for network in (settings.get("Networks") or {}).values())
    return next((address for address in addresses if address), "")
