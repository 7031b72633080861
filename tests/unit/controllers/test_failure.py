"""FailureReason texts (contract A.11)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.controllers import endpoint_failures, failure
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Observation, Phase


def ended(code: int | None, cause: ExitCause = ExitCause.EXIT, message: str = "") -> Observation:
    return Observation(WorkloadId("w"), Phase.EXITED, exit_code=code, cause=cause, message=message)


def test_the_failure_file_comes_first_and_the_exit_code_survives_its_length() -> None:
    text = failure.of_exit(ended(1), "x" * 5000, ["line"])
    assert len(text) == 1024
    assert text.startswith("AlgorithmError: xxx")
    assert text.endswith("…, exit code: 1")


def test_without_a_failure_file_the_end_of_the_log_tells() -> None:
    text = failure.of_exit(ended(1), " \n", [f"line {n} " + "y" * 200 for n in range(20)])
    assert len(text) == 1024
    assert text.startswith("AlgorithmError: The program ended with an error and wrote no /opt/ml/output/failure.")
    assert "line 19" in text
    assert "line 0" not in text
    assert text.endswith(", exit code: 1")


@pytest.mark.parametrize(
    ("code", "name"),
    [(139, " (SIGSEGV)"), (137, " (SIGKILL)"), (143, " (SIGTERM)"), (134, " (SIGABRT)"), (1, ""), (128, ""), (255, "")],
)
def test_a_death_by_signal_is_named(code: int, name: str) -> None:
    assert failure.of_exit(ended(code), "", []).endswith(f", exit code: {code}{name}")


def test_a_program_that_was_not_found_gets_a_hint() -> None:
    assert "check ENTRYPOINT and PATH" in failure.of_exit(ended(127), "", ["sh: train: not found"])


def test_out_of_memory_starts_with_the_words_of_aws() -> None:
    text = failure.of_exit(ended(137, ExitCause.OUT_OF_MEMORY, "It used more than 8 GiB."), "", ["epoch 1"])
    assert text.startswith(
        "ClientError: Please use an instance type with more memory, or reduce the size of job data processed on an "
        "instance. It used more than 8 GiB, exit code: 137 (SIGKILL)."
    )
    assert text.endswith("Last log lines:\nepoch 1")


def test_what_a_program_wrote_follows_too_little_memory() -> None:
    """As when a part of it was killed, and the rest could tell."""
    text = failure.of_exit(ended(1, ExitCause.OUT_OF_MEMORY, "It was killed."), "worker 3 died " * 100, ["epoch 1"])
    assert "It was killed, exit code: 1. /opt/ml/output/failure says: worker 3 died " in text
    assert text.endswith("…" + " Last log lines:\nepoch 1")
    assert len(text) <= failure.LIMIT


@given(
    st.integers(0, 255) | st.none(),
    st.sampled_from(ExitCause),
    st.text(max_size=1500),
    st.text(max_size=1500),
    st.lists(st.text(max_size=300), max_size=20),
)
@settings(max_examples=200, deadline=None)
def test_every_reason_has_a_kind_a_cause_and_fits(
    code: int | None, cause: ExitCause, message: str, file: str, tail: list[str]
) -> None:
    text = failure.of_exit(ended(code, cause, message), file, tail)
    assert len(text) <= 1024
    kind, _, detail = text.partition(": ")
    assert kind in {"AlgorithmError", "ClientError", "InternalServerError"}
    assert detail
    assert len(failure.with_collection(text, message)) <= 1024


def test_what_the_backend_saw_of_the_image_is_told_and_the_failure_file_still_comes_first() -> None:
    found = ended(1, message="The image's ENTRYPOINT is in shell form, so `train` never reached it.")
    assert failure.of_exit(found, "", []).startswith("AlgorithmError: The image's ENTRYPOINT is in shell form")
    assert failure.of_exit(found, "my own words", []) == "AlgorithmError: my own words, exit code: 1"


@pytest.mark.parametrize(
    "line",
    [
        "/t.sh: set: line 1: illegal option -\r",
        "/t.sh: line 1: set: -\r: invalid option",
        "env: can't execute 'sh\r': No such file or directory",
        "/usr/bin/env: ‘sh\\r’: No such file or directory",
        "/train: line 3: $'python\\r': command not found",
    ],
)
def test_windows_line_endings_are_recognised_in_what_shells_say(line: str) -> None:
    assert "CRLF" in failure.of_algorithm(127, "", ["before", line])


@pytest.mark.parametrize("line", ["epoch 1: 50%\r100%\r", "C:\\runs: not found", "no such file: x"])
def test_other_lines_are_not_taken_for_windows_line_endings(line: str) -> None:
    assert "CRLF" not in failure.of_algorithm(127, "", [line])


@pytest.mark.parametrize(
    "told",
    [
        "Traceback …\nsubprocess.CalledProcessError: Command 'train.py' returned non-zero exit status 1.",
        'ExecuteUserScriptError:\nExitCode 1\nErrorMessage ""',
    ],
)
def test_a_failure_file_that_only_passes_a_failure_on_is_followed_by_the_end_of_the_log(told: str) -> None:
    reason = failure.of_algorithm(1, told, ["ValueError: no such column"])
    assert reason == f"AlgorithmError: {told} Last log lines:\nValueError: no such column, exit code: 1"
    reason = failure.of_algorithm(1, told * 9, TRACEBACK)
    assert reason.startswith(f"AlgorithmError: {CAUSE} {told[:60]}")
    assert "Last log lines:" in reason
    assert len(reason) <= failure.LIMIT
    own = failure.of_algorithm(1, "the rate must be positive", ["ValueError: no such column"])
    assert own == "AlgorithmError: the rate must be positive, exit code: 1"


TRACEBACK = (
    "epoch 1",
    "Traceback (most recent call last):",
    '  File "/app/app.py", line 4, in <module>',
    "    open('/opt/ml/model/digits.joblib')",
    "\x1b[31mFileNotFoundError\x1b[0m: [Errno 2] No such file or directory: '/opt/ml/model/digits.joblib'",
)
CAUSE = "FileNotFoundError: [Errno 2] No such file or directory: '/opt/ml/model/digits.joblib' (app.py, line 4)."


def test_an_exception_comes_before_what_the_exit_code_means_and_loses_its_colours() -> None:
    text = failure.of_exit(ended(126), "", TRACEBACK)
    assert text.startswith(f"AlgorithmError: {CAUSE} Last log lines:\nepoch 1\n")
    assert "\x1b" not in text
    assert failure.of_exit(ended(1), "my own words", TRACEBACK) == "AlgorithmError: my own words, exit code: 1"


def test_an_exception_of_a_server_is_told_before_its_last_lines() -> None:
    text = endpoint_failures.of_start("primary", "v", endpoint_failures.exit_cause(ended(1)), TRACEBACK)
    assert "exit code 1. It must keep running and serve GET /ping. " + CAUSE + " Last log lines:" in text


def test_a_shell_that_reads_windows_line_ends_is_told_of() -> None:
    text = failure.of_exit(ended(2), "", ["run.sh: 3: set: Illegal option -\r"])
    assert text.startswith("AlgorithmError: A shell script in the image has Windows line ends (CRLF)")


def test_a_long_exception_leaves_room_for_what_led_to_it() -> None:
    text = failure.of_exit(ended(1), "", [*TRACEBACK[:-1], "ValueError: " + "x" * 5000])
    assert len(text) <= 1024
    assert "Last log lines" in text
    assert text.endswith(", exit code: 1")
