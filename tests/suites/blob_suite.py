"""What every blob store does: `blobs.base` as tests. A binding gives the fixture `blobs`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagewright.blobs import paths
from sagewright.blobs.base import BlobPath, BlobStat, BlobStore
from sagewright.core.errors import BlobNotFound, InvalidBlobPath

A = BlobPath("objects/aa/one")
GOOD = ("a", "a/b", "objects/0f/0f3a", "a-b_c.d=e+f@g:h,i~j/k", "x" * 255, "/".join(["y" * 100] * 10))
BAD = (
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/..", "./a", "a/.", ".hidden", "a/.hidden",
    "a\x00b", "a\nb", "a\n", "a b", "a\\b", "ü", "x" * 256, "/".join(["y" * 100] * 11), "~\u2028",
)  # fmt: skip


def put(blobs: BlobStore, path: BlobPath, data: bytes = b"data") -> None:
    with blobs.open_write(path) as writer:
        writer.write(data)
        writer.commit()


def content(blobs: BlobStore, path: BlobPath, offset: int = 0) -> bytes:
    with blobs.open_read(path, offset) as file:
        return file.read()


class BlobSuite:
    @pytest.mark.parametrize("path", GOOD)
    def test_a_legal_path_holds_a_blob(self, blobs: BlobStore, path: str) -> None:
        put(blobs, BlobPath(path), b"x")
        assert content(blobs, BlobPath(path)) == b"x"

    @pytest.mark.parametrize("path", BAD)
    def test_an_illegal_path_is_refused_by_every_method(self, blobs: BlobStore, path: str) -> None:
        illegal = BlobPath(path)
        for method in (blobs.open_write, blobs.open_read, blobs.stat, blobs.list, blobs.delete, blobs.local_path):
            with pytest.raises(InvalidBlobPath, match="blob path"):
                method(illegal)

    @pytest.mark.parametrize("data", [b"", b"x", b"\x00\xff\n" * 100_000])
    def test_what_was_written_is_what_is_read(self, blobs: BlobStore, data: bytes) -> None:
        put(blobs, A, data)
        assert content(blobs, A) == data
        assert blobs.stat(A) == BlobStat(A, len(data))

    def test_any_bytes_like_data_is_written_in_order(self, blobs: BlobStore) -> None:
        with blobs.open_write(A) as writer:
            for part in (b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3], b""):
                writer.write(part)
            assert writer.size == 6
            writer.commit()
        assert content(blobs, A) == b"abcdef"

    @pytest.mark.parametrize(("offset", "rest"), [(0, b"data"), (1, b"ata"), (4, b""), (100, b"")])
    def test_reading_begins_at_the_offset(self, blobs: BlobStore, offset: int, rest: bytes) -> None:
        put(blobs, A)
        assert content(blobs, A, offset) == rest

    def test_a_negative_offset_is_an_error(self, blobs: BlobStore) -> None:
        put(blobs, A)
        with pytest.raises(ValueError):
            blobs.open_read(A, -1)

    def test_what_is_not_there_is_not_found(self, blobs: BlobStore) -> None:
        put(blobs, A)
        for missing in ("objects/aa/two", "objects/aa", "objects", "nowhere/x", f"{A}/inside"):
            with pytest.raises(BlobNotFound):
                blobs.open_read(BlobPath(missing))
            with pytest.raises(BlobNotFound):
                blobs.stat(BlobPath(missing))

    def test_nothing_is_visible_before_the_commit(self, blobs: BlobStore) -> None:
        with blobs.open_write(A) as writer:
            writer.write(b"data")
            with pytest.raises(BlobNotFound):
                blobs.stat(A)
            assert list(blobs.list(BlobPath("objects"))) == []
            writer.commit()
            assert content(blobs, A) == b"data"
            writer.cancel()
        assert content(blobs, A) == b"data"

    @pytest.mark.parametrize("way", ["cancel", "leave", "error"])
    def test_without_a_commit_nothing_is_left(self, blobs: BlobStore, way: str) -> None:
        def write() -> None:
            with blobs.open_write(A) as writer:
                writer.write(b"data")
                if way == "cancel":
                    writer.cancel()
                    writer.cancel()
                if way == "error":
                    raise KeyError

        if way == "error":
            with pytest.raises(KeyError):
                write()
        else:
            write()
        with pytest.raises(BlobNotFound):
            blobs.open_read(A)

    @pytest.mark.parametrize("end", ["commit", "cancel"])
    def test_a_finished_writer_takes_nothing_more(self, blobs: BlobStore, end: str) -> None:
        writer = blobs.open_write(A)
        getattr(writer, end)()
        with pytest.raises(ValueError):
            writer.write(b"late")
        with pytest.raises(ValueError):
            writer.commit()

    def test_overwriting_shows_the_old_or_the_new_and_a_reader_keeps_what_it_opened(self, blobs: BlobStore) -> None:
        put(blobs, A, b"old")
        with blobs.open_read(A) as reader, blobs.open_write(A) as writer:
            writer.write(b"longer new")
            assert content(blobs, A) == b"old"
            writer.commit()
            assert content(blobs, A) == b"longer new"
            assert reader.read() == b"old"

    def test_deleting_is_success_twice_and_does_not_disturb_a_reader(self, blobs: BlobStore) -> None:
        put(blobs, A)
        with blobs.open_read(A) as reader:
            blobs.delete(A)
            blobs.delete(A)
            assert reader.read() == b"data"
        with pytest.raises(BlobNotFound):
            blobs.stat(A)
        blobs.delete(BlobPath("never/was"))

    def test_deleting_a_folder_deletes_nothing(self, blobs: BlobStore) -> None:
        put(blobs, A)
        blobs.delete(BlobPath("objects"))
        blobs.delete(BlobPath("objects/aa"))
        assert content(blobs, A) == b"data"

    def test_a_list_is_what_lies_in_the_folder(self, blobs: BlobStore) -> None:
        for path, size in (("up/1/a", 1), ("up/1/b", 2), ("up/1/deep/er", 3), ("up/10/a", 4), ("other", 5)):
            put(blobs, BlobPath(path), b"x" * size)
        listed = {str(each.path): each.size for each in blobs.list(BlobPath("up/1"))}
        assert listed == {"up/1/a": 1, "up/1/b": 2, "up/1/deep/er": 3}
        assert list(blobs.list(BlobPath("nowhere"))) == []
        assert list(blobs.list(BlobPath("other"))) == []

    def test_everything_listed_can_be_deleted_while_listing(self, blobs: BlobStore) -> None:
        for number in range(20):
            put(blobs, paths.upload_part("u", f"p{number}"))
        for each in blobs.list(paths.upload("u")):
            blobs.delete(each.path)
        assert list(blobs.list(paths.upload("u"))) == []

    @pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c"), ("a/b/c", "a")])
    def test_a_path_is_a_blob_or_a_folder(self, blobs: BlobStore, first: str, second: str) -> None:
        put(blobs, BlobPath(first), b"first")
        with pytest.raises(InvalidBlobPath, match="inside"):
            put(blobs, BlobPath(second))
        assert content(blobs, BlobPath(first)) == b"first"

    def test_writers_of_one_path_do_not_mix(self, blobs: BlobStore) -> None:
        start = threading.Barrier(8)

        def write(number: int) -> None:
            start.wait()
            with blobs.open_write(A) as writer:
                for _ in range(50):
                    writer.write(bytes([number]) * 1000)
                writer.commit()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        found = content(blobs, A)
        assert found == found[:1] * 50_000

    def test_blobs_come_and_go_in_one_folder_without_harm(self, blobs: BlobStore) -> None:
        """A folder may vanish with its last blob just while another is moved in."""

        def churn(name: int) -> None:
            path = BlobPath(f"fold/er/{name}")
            for _ in range(60):
                put(blobs, path)
                assert content(blobs, path) == b"data"
                blobs.delete(path)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(churn, range(4)))
        assert list(blobs.list(BlobPath("fold"))) == []
