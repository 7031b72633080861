"""Folder images: what is stored, what makes two of them the same, and what is refused with a mend."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sagewright.core.errors import SettingsError
from sagewright.workloads import folder_images
from sagewright.workloads.folder_images import add_folder_image, from_row, to_row
from sagewright.workloads.workload import FolderImage

SCRIPT = "#!/usr/bin/env python3\nprint('hello')\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "lib").mkdir(parents=True)
    write(folder / "program", SCRIPT, executable=True)
    write(folder / "lib" / "data.txt", "data")
    (folder / "link").symlink_to("lib/data.txt")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


def write(path: Path, content: str, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    path.chmod(0o755 if executable else 0o644)


def add(images: Path, source: Path, *entrypoint: str, requirements: str = "") -> FolderImage:
    return add_folder_image(images, source, "digits", entrypoint or ("./program",), requirements)


def test_the_stored_copy_is_whole_read_only_and_independent(images: Path, source: Path) -> None:
    image = add(images, source)
    write(source / "lib" / "data.txt", "changed")
    assert image.path == images / image.digest.removeprefix("sha256:")
    assert (image.path / "lib" / "data.txt").read_text() == "data"
    assert (image.path / "link").readlink() == Path("lib/data.txt")
    assert (image.path / "program").stat().st_mode & 0o777 == 0o555
    assert (image.path / "lib" / "data.txt").stat().st_mode & 0o777 == 0o444
    assert image.path.stat().st_mode & 0o777 == 0o555
    assert [path.name for path in images.iterdir()] == [image.path.name]


def test_the_same_content_is_stored_once_under_any_name(images: Path, source: Path, tmp_path: Path) -> None:
    first = add(images, source)
    other = tmp_path / "elsewhere"
    (other / "lib").mkdir(parents=True)
    (other / "link").symlink_to("lib/data.txt")
    write(other / "lib" / "data.txt", "data")  # made in another order, at another time
    write(other / "program", SCRIPT, executable=True)
    for junk in (".git/HEAD", "lib/__pycache__/x.pyc", ".venv/pyvenv.cfg", "my-venv/pyvenv.cfg"):
        write(other / junk, "junk")
    second = add_folder_image(images, other, "another-name", ("./program",), "")
    assert (second.digest, second.path, second.name) == (first.digest, first.path, "another-name")
    assert len(list(images.iterdir())) == 1
    assert not (first.path / ".git").exists()


def test_everything_that_matters_changes_the_digest(images: Path, source: Path) -> None:
    digests = [add(images, source).digest]
    digests.append(add(images, source, "python", "program").digest)
    digests.append(add(images, source, requirements="numpy").digest)
    write(source / "lib" / "data.txt", "datb")
    digests.append(add(images, source).digest)
    (source / "lib" / "data.txt").chmod(0o755)
    digests.append(add(images, source).digest)
    (source / "lib" / "data.txt").rename(source / "lib" / "data2.txt")
    digests.append(add(images, source).digest)
    (source / "empty").mkdir()
    digests.append(add(images, source).digest)
    (source / "link").unlink()
    (source / "link").symlink_to("lib/data2.txt")
    digests.append(add(images, source).digest)
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 71 for digest in digests)


def test_names_cannot_run_into_contents(images: Path, tmp_path: Path) -> None:
    """Two folders whose names and bytes concatenate alike are two images."""
    digests = set()
    for name, content in (("ab", "c"), ("a", "bc")):
        folder = tmp_path / name
        write(folder / name, content)
        digests.add(add(images, folder, "python", "-c", "1").digest)
    assert len(digests) == 2


def test_adding_at_the_same_time_gives_one_image(images: Path, source: Path) -> None:
    together = threading.Barrier(4)

    def one() -> FolderImage:
        together.wait()
        return add(images, source)

    with ThreadPoolExecutor(4) as pool:
        added = {future.result() for future in [pool.submit(one) for _ in range(4)]}
    assert len(added) == 1
    assert len(list(images.iterdir())) == 1


def test_a_row_gives_the_image_back(images: Path, source: Path) -> None:
    import json

    image = add(images, source, requirements="numpy\n")
    assert from_row(json.loads(json.dumps(to_row(image)))) == image


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ((), ("entrypoint",)),
        (("",), ("entrypoint",)),
        (("./missing",), ("./missing", "not a file")),
        (("./Program.py",), ("./Program.py", "Did you mean 'program'")),
        (("lib",), ("not a file",)),
        (("no-such-command",), ("no-such-command", "neither a file of the folder nor a command")),
        (("/no/such/command",), ("/no/such/command", "not a program of this machine")),
        (("../outside",), ("leads out of the folder",)),
        (("/opt/program/../../etc/passwd",), ("leads out of the folder",)),
        (("./plain",), ("not executable", "chmod +x ./plain")),
        (("./windows",), ("CRLF", "sed")),
        (("sh", "windows.sh"), ("CRLF", "sed")),
        (("./no-interpreter",), ("interpreter", "#!/usr/bin/env python")),
        (("python", "missing.py"), ("missing.py", "not a file")),
        (("train",), ("Did you mean 'scripts/train.py'",)),
        (("python", "train.py"), ("Did you mean 'scripts/train.py'",)),
    ],
)
def test_an_entrypoint_that_could_not_start_is_refused_with_its_mend(
    images: Path, source: Path, entrypoint: tuple[str, ...], words: tuple[str, ...]
) -> None:
    write(source / "plain", SCRIPT)
    write(source / "windows", SCRIPT.replace("\n", "\r\n"), executable=True)
    write(source / "windows.sh", "echo 1\r\n")
    write(source / "no-interpreter", "print(1)\n", executable=True)
    write(source / "scripts" / "train.py", SCRIPT)
    with pytest.raises(SettingsError) as refused:
        add_folder_image(images, source, "digits", entrypoint, "")
    for word in words:
        assert word in str(refused.value)
    assert list(images.iterdir()) == []


@pytest.mark.parametrize(
    ("entrypoint", "requirements"),
    [
        (("./program",), ""),
        (("program", "--fast"), ""),
        (("/opt/program/program",), ""),
        (("python", "program"), ""),
        (("python3", "-m", "anything"), ""),
        (("python", "windows.py"), ""),  # Python reads such files
        (("/bin/sh", "-c", "exec ./program"), ""),
        (("sh",), ""),
        (("gunicorn", "app:app"), "gunicorn"),
        (("link-to-program",), ""),
    ],
)
def test_an_entrypoint_that_can_start_is_taken(
    images: Path, source: Path, entrypoint: tuple[str, ...], requirements: str
) -> None:
    write(source / "windows.py", SCRIPT.replace("\n", "\r\n"))
    (source / "link-to-program").symlink_to("program")
    assert add(images, source, *entrypoint, requirements=requirements).entrypoint == entrypoint


@pytest.mark.parametrize(
    "line",
    ["-r base.txt", "--requirement=base.txt", "-c constraints.txt", "-e .", "./wheels/x.whl", "../package", "x.whl"],
)
def test_requirements_that_refer_to_files_are_refused(images: Path, source: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="refers to a file"):
        add(images, source, requirements=f"numpy\n# {line}\n  {line}\n")


@pytest.mark.parametrize(
    "line", ["numpy>=1; python_version > '3'", "--extra-index-url https://x/simple", "a @ https://x/a.whl"]
)
def test_other_requirements_are_taken(images: Path, source: Path, line: str) -> None:
    assert add(images, source, requirements=line).requirements == line


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../lib/../../outside", "../../source/program"])
def test_a_link_out_of_the_folder_is_refused(images: Path, source: Path, target: str) -> None:
    (source / "lib" / "escape").symlink_to(target)
    with pytest.raises(SettingsError, match="lib/escape leads out of the folder"):
        add(images, source)
    assert list(images.iterdir()) == []


def test_a_pipe_is_refused(images: Path, source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(SettingsError, match="pipe"):
        add(images, source)


def test_what_is_not_a_folder_or_has_no_name_is_refused(images: Path, source: Path) -> None:
    with pytest.raises(SettingsError, match="not a folder"):
        add(images, source / "program")
    with pytest.raises(SettingsError, match="not a folder"):
        add(images, source / "missing")
    with pytest.raises(SettingsError, match="name"):
        add_folder_image(images, source, " ", ("./program",), "")


def test_a_folder_full_of_data_is_refused_before_it_is_copied(
    images: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (source / "lib" / "huge").open("wb") as file:
        file.truncate(folder_images.MOST_BYTES + 1)  # sparse: takes no room
    with pytest.raises(SettingsError, match="5 GiB"):
        add(images, source)
    (source / "lib" / "huge").unlink()
    monkeypatch.setattr(folder_images, "MOST_FILES", 2)
    with pytest.raises(SettingsError, match="S3 channel"):
        add(images, source)
    assert not images.exists()


def test_a_failing_disk_leaves_nothing_behind(images: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sync", full)
    with pytest.raises(OSError, match="No space"):
        add(images, source)
    assert list(images.iterdir()) == []
