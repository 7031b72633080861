"""Which object becomes which file (container contract A.8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagewright.core.errors import TransferError
from sagewright.staging.plan import ChannelPlan, plan_channel
from suites.plain_objects import PlainObject


def plan(prefix: str, *keys: str, size: int = 1) -> ChannelPlan:
    found = [PlainObject(key, 0 if key.endswith("/") else size, Path("/nowhere")) for key in keys]
    return plan_channel("train", "b", prefix, found)


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("data/iris", "data/iris/a.csv", "a.csv"),
        ("data/iris/", "data/iris/a.csv", "a.csv"),
        ("data/iris", "data/iris/deep/er/a.csv", "deep/er/a.csv"),
        ("data/iris", "data/iris-2/a.csv", "iris-2/a.csv"),
        ("data/iris", "data/iris.csv", "iris.csv"),
        ("data/iris.csv", "data/iris.csv", "iris.csv"),
        ("iris.csv", "iris.csv", "iris.csv"),
        ("", "a/b.csv", "a/b.csv"),
        ("tr", "train/en-ja/train.en", "train/en-ja/train.en"),
        ("data/", "data/a//b", "a/b"),
        ("data/", "data//a", "a"),
        ("data", "data//a", "a"),
        ("", "/etc/passwd", "etc/passwd"),
    ],
)
def test_a_key_becomes_the_path_below_the_prefix_folder(prefix: str, key: str, path: str) -> None:
    assert list(plan(prefix, key).files) == [path]


def test_an_empty_key_with_a_slash_is_a_folder_and_parents_come_first() -> None:
    made = plan("data/", "data/", "data/x/y/", "data/z/a")
    assert list(made.folders) == ["x", "x/y", "z"]
    assert list(made.files) == ["z/a"]
    assert made.size == 1


@pytest.mark.parametrize(
    "key",
    ["data/../secret", "data/./a", "data//../a", "data/x/../../../a", "data/" + "n" * 256, "data/a\0b"],
)
def test_a_key_that_would_leave_its_folder_is_refused_by_name(key: str) -> None:
    with pytest.raises(TransferError, match=r"channel 'train'.*Rename it") as raised:
        plan("data/", key)
    assert key in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [("data/a", "data/a/b"), ("data/a/b", "data/a"), ("data/a/", "data/a"), ("data/a/b", "data/a//b")],
)
def test_two_keys_that_need_the_same_place_are_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(TransferError, match="Rename one of them"):
        plan("data/", *keys)


def test_two_prefix_matches_of_one_name_are_refused() -> None:
    with pytest.raises(TransferError, match="same file"):
        plan("d/iris", "d/iris/iris-2/a", "d/iris-2/a")


def test_a_folder_key_with_content_is_refused() -> None:
    with pytest.raises(TransferError, match="ends with '/' and has content"):
        plan_channel("train", "b", "", [PlainObject("x/", 3, Path("/nowhere"))])


def test_a_path_longer_than_the_kernel_takes_is_refused() -> None:
    with pytest.raises(TransferError, match="too long"):
        plan("", "/".join(["segment"] * 600))
