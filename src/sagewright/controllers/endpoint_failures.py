"""FailureReason of endpoints: AWS's sentence, then the cause, in at most 1024 characters. Pure.

Source: contract B.3, B.6. Owns: the texts. Does not own: what is a failure (`endpoint_fleets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sagewright.controllers.controller import Health
from sagewright.controllers.failure import HINTS, LIMIT, head, last_lines, own_words, signal_name
from sagewright.workloads.observation import ExitCause, Observation

_SHOWN: Final = 3  # pings of a transcript
_SIGKILL: Final = 137


def of_start(container: str, variant: str, cause: str, tail: Sequence[str] = ()) -> str:
    """The container did not become healthy. `cause` is what is known of why."""
    named = "primary container" if container == "primary" else f"{container} container"
    said = (
        f"The {named} for production variant {variant} did not pass the ping health check. Please check CloudWatch "
        f"logs for this endpoint."
    )
    text = head(" ".join(filter(None, (said, cause, own_words(tail)))), LIMIT)
    return text + last_lines(tail, LIMIT - len(text))


def of_model(variant: str, message: str) -> str:
    return head(f"Failed to download model data for production variant {variant}. {message}", LIMIT)


def of_slow_model(variant: str, seconds: int, progress: str) -> str:
    """`progress` is how far it was, in words."""
    so_far = f" It had {progress}." if progress else ""
    return head(
        f"Failed to download model data for production variant {variant}: it took longer than {seconds} s.{so_far} "
        "Give more time with ModelDataDownloadTimeoutInSeconds (60 to 3600).",
        LIMIT,
    )


def of_backend(message: str) -> str:
    return head(f"ClientError: {message}", LIMIT)


def waited(message: str, time: timedelta) -> str:
    return f"{message} Sagewright waited {max(1, round(time.total_seconds() / 60))} min for it."


def exit_cause(found: Observation | None) -> str:
    """How a container came to its end, in a sentence or two. None: it vanished."""
    if found is None:
        return "The container vanished: somebody removed it, or the machine was reset."
    if found.cause in {ExitCause.IMAGE, ExitCause.START}:
        return found.message or "The container could not be started."
    if found.cause is ExitCause.LOST or found.exit_code is None:
        return f"The container was lost: {found.message or 'the machine was reset.'}"
    code = f"exit code {found.exit_code}{signal_name(found.exit_code)}"
    if found.cause is ExitCause.OUT_OF_MEMORY:
        return f"The container was killed at its memory limit ({code}): use an instance type with more memory."
    if found.exit_code == _SIGKILL:
        return f"The container was killed from outside ({code})."
    hint = found.message or HINTS.get(found.exit_code) or "It must keep running and serve GET /ping."
    return f"The container ended by itself with {code}. {hint}"


def ping_cause(health: Health | None, port: str, seconds: int, *, several: bool) -> str:
    """Why a container that runs is not healthy: what its pings came to, and a hint."""
    if health is None or not health.transcript:
        return f"The container runs, but in {seconds} s there was no address at which it could be pinged."
    last = health.transcript[-1]
    told = _transcript([_row(ping.status, ping.error, ping.body) for ping in health.transcript])
    hint = _hint(last.status, last.error, health.listening, port, several=several)
    return f"In {seconds} s GET /ping on port {port} never gave 200; the last pings: {told}. {hint}".rstrip()


def _row(status: int | None, error: str, body: str) -> str:
    if status is None:
        return error
    start = " ".join(body.split())[:80]
    return f"{status} {start!r}" if start else str(status)


def _transcript(rows: Sequence[str]) -> str:
    """`connection refused (8 times), 503`: equal ones on end told once."""
    runs: list[tuple[str, int]] = []
    for row in rows:
        if runs and runs[-1][0] == row:
            runs[-1] = (row, runs[-1][1] + 1)
        else:
            runs.append((row, 1))
    return ", ".join(f"{row} ({count} times)" if count > 1 else row for row, count in runs[-_SHOWN:])


def _hint(status: int | None, error: str, listening: Sequence[int], port: str, *, several: bool) -> str:
    if status == 404:
        return "The server runs, but has no /ping: add a route GET /ping that answers 200."
    if status is not None:
        return "" if status < 500 else "Its own log tells why."
    if error.startswith("no answer"):
        return "The server accepts connections and does not answer within 2 s: is it still loading the model?"
    if error != "connection refused":
        return ""
    where = ", ".join(map(str, listening))
    found = f" Something listens on port {where}: the server must listen on {port}." if listening else ""
    bind = " With several containers each must use the port in SAGEMAKER_BIND_TO_PORT." if several else ""
    return f"Nothing listens there: a server must bind 0.0.0.0:{port}, not 127.0.0.1.{found}{bind}"


def transcript_rows(health: Health) -> tuple[Mapping[str, Any], ...]:
    """The transcript as it is kept in a row."""
    return tuple(
        {"time": ping.time, "status": ping.status, "error": ping.error, "body": ping.body, "ms": ping.ms}
        for ping in health.transcript
    )
