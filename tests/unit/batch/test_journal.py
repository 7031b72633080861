"""What is done stays done, whatever cut the run off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagewright.batch.inputs import Item
from sagewright.batch.journal import Journal, Share
from sagewright.core.errors import BlobStoreFull
from support.small_disk import fill, small_disk

ITEMS = [Item("b", f"in/{number}", number, f"out/{number}.out") for number in range(7)]


@pytest.mark.parametrize("instances", [1, 2, 3, 9])
def test_every_object_belongs_to_one_instance(tmp_path: Path, instances: int) -> None:
    found: list[Item] = []
    for instance in range(instances):
        with Journal(tmp_path / "job" / str(instance), Share(instance, instances)) as journal:
            count, size = journal.plan(ITEMS)
            mine = list(journal.items())
        assert [number for number, _ in mine] == list(range(count))
        assert size == sum(item.size for _, item in mine)
        found += [item for _, item in mine]
    assert sorted(found) == ITEMS


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    for items in (ITEMS, ITEMS[:1]):
        with Journal(tmp_path / "job" / "0", Share(0, 1)) as journal:
            assert journal.plan(items) == (7, 21)


def test_a_plan_that_was_cut_off_is_none(tmp_path: Path) -> None:
    def cut() -> Iterator[Item]:
        yield ITEMS[0]
        raise KeyboardInterrupt

    with Journal(tmp_path / "job" / "0", Share(0, 1)) as journal, pytest.raises(KeyboardInterrupt):
        journal.plan(cut())
    with Journal(tmp_path / "job" / "0", Share(0, 1)) as journal:
        assert journal.plan(ITEMS) == (7, 21)


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    with Journal(tmp_path / "job" / "0", Share(0, 1)) as journal:
        journal.note({"item": 0})
        journal.note({"item": 1})
    path = tmp_path / "job" / "0" / "done.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    with Journal(tmp_path / "job" / "0", Share(0, 1)) as journal:
        assert list(journal.finished()) == [{"item": 0}]
        journal.note({"item": 2})
        assert list(journal.finished()) == [{"item": 0}, {"item": 2}]


SUCCESSOR = """
import sys
from pathlib import Path
from sagewright.batch.journal import Journal, Share
print("waits", flush=True)
with Journal(Path(sys.argv[1]), Share(0, 1)) as journal:
    print([line["item"] for line in journal.finished()], flush=True)
"""


def test_a_successor_waits_for_its_predecessor(tmp_path: Path) -> None:
    root = tmp_path / "job" / "0"
    command = [sys.executable, "-c", SUCCESSOR, str(root)]
    with Journal(root, Share(0, 1)) as journal:
        successor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert successor.stdout is not None
        assert successor.stdout.readline() == "waits\n"
        journal.note({"item": 5})
    assert successor.communicate(timeout=30)[0] == "[5]\n"


def test_a_line_without_room_is_not_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk, Journal(disk / "job" / "0", Share(0, 1)) as journal:
        journal.note({"item": 0})
        ballast = fill(disk)
        with pytest.raises(BlobStoreFull, match="No space"):
            journal.note({"item": 1, "padding": "x" * 10_000})
        ballast.unlink()
        journal.note({"item": 2})
        assert list(journal.finished()) == [{"item": 0}, {"item": 2}]
