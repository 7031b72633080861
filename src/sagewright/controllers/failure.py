"""FailureReason: what went wrong, in at most 1024 characters, the cause first. Pure.

Source: contract A.11; https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html tells of the
failure file. Where AWS leaves the detail empty (`AlgorithmError: , exit code: 1`) the container's last lines fill it.
Owns: the texts. Does not own: which end a job comes to (`training_steps`).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from sagewright.controllers.advice import advice
from sagewright.controllers.last_words import (
    NEAR,
    complaint,
    exceptions,
    has_windows_line_ends,
    passes_on,
    plain,
    raised,
)
from sagewright.workloads.observation import ExitCause, Observation

LIMIT: Final = 1024  # characters, as in the API model

_TOO_LITTLE_MEMORY: Final = (
    "ClientError: Please use an instance type with more memory, or reduce the size of job data processed on an "
    "instance."
)
_NO_WORDS: Final = "The program ended with an error and wrote no /opt/ml/output/failure."
_TOLD: Final = 400  # characters of an exception: the last log lines show it too, and what led to it
_ECHO: Final = 200  # characters of a failure file that only says that another program failed
HINTS: Final = {
    126: "The program was found but may not be executed: check its mode (chmod +x), its first line (#!) and that it "
    "is built for this machine.",
    127: "The program, or one that it calls, was not found in the container: check ENTRYPOINT and PATH.",
    128
    + signal.SIGKILL: "The container was killed from outside, and not by StopTrainingJob: by `docker kill`, or by the "
    "kernel when this machine's own memory is full.",
    128 + signal.SIGTERM: "The program was told to end from outside, and not by StopTrainingJob.",
    128
    + signal.SIGSEGV: "The program crashed: it touched memory that is not its own, or aborted as the first process of "
    "its container.",
    128 + signal.SIGABRT: "The program aborted itself: a check failed in it, or in a library.",
    128 + signal.SIGILL: "The program used an instruction that this processor does not have: it is built for another "
    "one.",
    128 + signal.SIGBUS: "The program crashed: often /dev/shm or a mapped file is full.",
}
_WINDOWS: Final = (
    "A shell script in the image has Windows line ends (CRLF), which the shell takes for parts of words: convert it "
    "with `sed -i 's/\\r$//' SCRIPT`, and let git keep it so with a line `*.sh text eol=lf` in .gitattributes."
)
_BY_THE_ENGINE: Final = (  # in the container's log: the program was found, and the kernel would not start it
    (
        re.compile(r"^exec \S+: no such file or directory$"),
        "The program's #! line names a program that is not in the image, or ends in CRLF, as on Windows; or the "
        "program needs a loader that the image does not have.",
    ),
    (
        re.compile(r"^exec \S+: exec format error$"),
        "The program is built for another processor, or is a script without a #! line.",
    ),
)


def of_exit(found: Observation, failure_file: str, tail: Sequence[str], channels: Collection[str] = ()) -> str:
    """Why a workload that has EXITED, and not with success, did so. `channels` are the names of the job's inputs."""
    if found.cause is ExitCause.OUT_OF_MEMORY:
        told = head(failure_file.strip(), LIMIT // 2)
        said = f" /opt/ml/output/failure says: {told}" if told else ""
        return _with_lines(f"{_TOO_LITTLE_MEMORY} {_killed_for_memory(found)}{said}", tail)
    if found.cause in {ExitCause.IMAGE, ExitCause.START} or (found.exit_code is None and found.cause is ExitCause.EXIT):
        return _with_lines(f"ClientError: {found.message or 'The container could not be started.'}", tail)
    if found.cause is ExitCause.LOST or found.exit_code is None:
        return _with_lines(f"InternalServerError: {_lost(found.message)}", tail)
    return of_algorithm(found.exit_code, failure_file, tail, found.message, channels)


def of_algorithm(
    exit_code: int, failure_file: str, tail: Sequence[str], noticed: str = "", channels: Collection[str] = ()
) -> str:
    """`AlgorithmError: <failure file, or hint and last log lines>, exit code: N`. The code survives the truncation.
    A file that only says that another program failed (the training toolkit's, those of SDK v3's drivers) comes after
    what that one said, and before the last log lines.
    `noticed` is what the backend saw about the image; it and the program's own words say more than the code does."""
    end = f", exit code: {exit_code}{signal_name(exit_code)}"
    start = "AlgorithmError: "
    room = LIMIT - len(start) - len(end)
    told = failure_file.strip()
    if told and not passes_on(told):
        return start + head(told, room) + end
    if told:
        cause = own_words(tail, channels)
        shown = f"{cause} {head(told, _ECHO)}" if cause else head(told, room)
        return start + shown + last_lines(tail, room - len(shown)) + end
    hint = head(noticed or own_words(tail, channels) or HINTS.get(exit_code, _NO_WORDS), room)
    return start + hint + last_lines(tail, room - len(hint)) + end


def own_words(tail: Sequence[str], channels: Collection[str] = ()) -> str:
    """The cause as the log itself tells it, in a sentence, and what to change; empty when it does not."""
    end = tail[-NEAR:]
    if has_windows_line_ends(end):
        return _WINDOWS
    if told := raised(tail):
        return _advised(told, advice(exceptions(tail), channels))
    if told := complaint(end):
        return _advised(told, advice([told], channels))
    for words, hint in _BY_THE_ENGINE:
        if any(words.match(line.rstrip()) for line in end):
            return hint
    return advice(end, channels)


def _advised(told: str, change: str) -> str:
    return f"{head(told, _TOLD).rstrip('.')}. {change}".rstrip()


def of_vanished(tail: Sequence[str]) -> str:
    """The workload ran, and then did not exist any more."""
    return _with_lines(f"InternalServerError: {_lost('')}", tail)


def of_staging(message: str) -> str:
    return head(f"ClientError: Data download failed: {message}", LIMIT)


def of_feeding(message: str) -> str:
    """Why a Pipe channel's data could not be streamed; the platform's own faults name themselves."""
    own = message.startswith("InternalServerError: ")
    return head(message if own else f"ClientError: Data download failed: {message}", LIMIT)


def of_collection(message: str) -> str:
    return head(f"ClientError: Artifact upload failed: {message}", LIMIT)


def on_host(reason: str, host: str) -> str:
    """`AlgorithmError: [algo-2] …` of a job with several hosts. What no longer fits is taken from the middle, so that
    the exit code stays."""
    name, _, detail = reason.partition(": ")
    start = f"{name}: [{host}] "
    room = LIMIT - len(start)
    if len(detail) > room:
        end = detail[-room // 2 :]
        detail = head(detail, room - len(end)) + end
    return start + detail


def with_collection(reason: str, message: str) -> str:
    """A failure whose outputs could not be saved either: the first cause stays first."""
    more = head(f" In addition: Artifact upload failed: {message}", LIMIT // 2)
    return head(reason, LIMIT - len(more)) + more


def of_missing_backend(message: str) -> str:
    """Nothing on this machine can run the workload: only the user can mend that."""
    return head(f"ClientError: {message}", LIMIT)


def of_unreachable_backend(message: str, waited: timedelta) -> str:
    minutes = max(1, round(waited.total_seconds() / 60))
    return head(f"InternalServerError: {message} Sagewright waited {minutes} min for it.", LIMIT)


def _lost(message: str) -> str:
    told = message or "somebody removed it, or the machine was reset."
    return f"The container was lost while the job ran: {told} It is not started again, because a job runs at most once."


def _killed_for_memory(found: Observation) -> str:
    told = found.message or "The container was killed at its memory limit"
    code = "" if found.exit_code is None else f", exit code: {found.exit_code}{signal_name(found.exit_code)}"
    return f"{told.rstrip('.')}{code}."


def _with_lines(cause: str, tail: Sequence[str]) -> str:
    text = head(cause, LIMIT)
    return text + last_lines(tail, LIMIT - len(text))


def last_lines(tail: Sequence[str], room: int) -> str:
    """The last log lines in `room` characters; what does not fit is cut at the front, because the end tells most."""
    text = "\n".join(plain(line).rstrip() for line in tail).strip()
    intro = " Last log lines:\n"
    space = room - len(intro)
    if not text or space < 16:
        return ""
    return intro + (text if len(text) <= space else "…" + text[-(space - 1) :])


def head(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def signal_name(exit_code: int) -> str:
    """` (SIGSEGV)` for 139: a death by signal n shows as 128+n."""
    try:
        return f" ({signal.Signals(exit_code - 128).name})"
    except ValueError:
        return ""
