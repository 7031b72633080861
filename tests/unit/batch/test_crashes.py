"""kill -9 of the driver's process at random instants, again and again: every object is done, none is half written."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from sagewright.batch.journal import Journal, Share
from support.small_disk import fill, small_disk
from support.transform_runs import BUCKET, Runs, container

KILLS = 12
SINGLE = {"BatchStrategy": "SingleRecord"}
WHOLE = {"MaxPayloadInMB": 0}  # with inference ids the answer is held


@pytest.mark.parametrize(
    ("seed", "asked", "pause", "ids"), [(1, SINGLE, 0.008, True), (2, WHOLE, 0.3, False), (3, WHOLE, 0.3, True)]
)
def test_any_instant_is_survived(runs: Runs, seed: int, asked: dict[str, Any], pause: float, ids: bool) -> None:
    chance = random.Random(seed)

    def slow(body: bytes) -> tuple[int, bytes]:
        time.sleep(random.random() * pause)
        return 200, body

    objects = {f"{n:03}": b"".join(b"%d,%d\n" % (n, i) for i in range(chance.choice((1, 9, 120)))) for n in range(40)}
    runs.put({f"in/{name}": data for name, data in objects.items()})
    expected = {f"{name}.out": data for name, data in objects.items()}
    capture = {"DestinationS3Uri": f"s3://{BUCKET}/cap", "GenerateInferenceId": ids}
    bare = _bare if ids else dict
    with container(slow) as address:
        output = {"AssembleWith": "Line"}
        job = runs.job(address, MaxConcurrentTransforms=4, DataCaptureConfig=capture, TransformOutput=output, **asked)
        published: dict[str, bytes] = {}
        kills = 0
        while True:
            with runs.process(job) as running:
                assert running.stdout is not None
                running.stdout.readline()  # it has begun
                time.sleep(chance.random() * 0.4)
                ended = running.poll() is not None
            outputs = runs.outputs()
            assert bare(outputs) == {name: expected[name] for name in outputs}, "what is there is whole"
            assert {name: outputs[name] for name in published} == published, "what was there is the same, ids too"
            published = outputs
            if ended or kills == KILLS:
                break
            kills += 1
        result = runs.run(job)
    assert (result["error"], result["progress"]["objects"]) == ("", 40)
    assert result["progress"]["records"] == sum(data.count(b"\n") for data in objects.values())
    assert bare(runs.outputs()) == expected
    (names,) = [json.loads(data) for key, data in runs.outputs("cap/").items() if key.startswith("output")]
    assert names[1:] == list(expected)
    assert kills > 2


def _bare(outputs: dict[str, bytes]) -> dict[str, bytes]:
    """Without inference ids."""
    return {
        name: b"".join(line.rsplit(b",", 2)[0] + b"\n" for line in data.splitlines()) for name, data in outputs.items()
    }


def test_what_is_in_the_journal_is_not_done_again(runs: Runs) -> None:
    runs.put({f"in/{number}": b"%d\n" % number for number in range(5)})
    bodies: list[bytes] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        bodies.append(body)
        return 200, body

    with container(answer) as address:
        job = runs.job(address)
        runs.run(job)
        path = job.root / "done.jsonl"
        kept = b"".join(path.read_bytes().splitlines(keepends=True)[:3])
        path.write_bytes(kept + b'{"item": 3, "rec')
        result = runs.run(job)
    assert result["progress"]["records"] == 5
    assert len(bodies) == 7
    with Journal(job.root, Share(0, 1)) as journal:
        assert len(list(journal.finished())) == 5


def test_a_failure_is_remembered(runs: Runs) -> None:
    runs.put({"in/a": b"bad\n", "in/b": b"1\n"})
    with container(lambda body: (400 if b"bad" in body else 200, body)) as address:
        job = runs.job(address)
        first: dict[str, Any] = runs.run(job)
        again = runs.run(job)
    assert first["error"] == again["error"] != ""
    assert again["progress"]["failed"] == 1


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48 << 20) as disk:
        runs = Runs(disk / "data")
        data = b"x" * 99 + b"\n"
        runs.put({f"in/{number}": data * 20_000 for number in range(4)})
        with container(lambda body: (200, body)) as address:
            job = runs.job(address)
            ballast = fill(disk, leave=3 << 20)
            result = runs.run(job)
            assert "space" in result["error"], result
            whole = runs.outputs()
            assert set(whole.values()) <= {data * 20_000}
            ballast.unlink()
            assert runs.run(job)["error"] == ""
        assert list(runs.outputs().values()) == [data * 20_000] * 4
        assert not list((disk / "data" / "blobs" / ".partial").glob("*"))
        runs.store.close()
