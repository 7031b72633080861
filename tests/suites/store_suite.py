"""What every store does: `store.resources` as tests. A binding gives the fixture `open_store`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from sagewright.core.clock import to_text
from sagewright.core.errors import AlreadyExists, NotFound, Stale, StoreUnavailable
from sagewright.core.ids import Account, Key, Kind, Region, ResourceName
from sagewright.store import tables
from sagewright.store.db import Database
from sagewright.store.resources import Resource, Tx

OpenStore = Callable[..., Database]
T0 = datetime(2026, 1, 1, tzinfo=UTC)
KIND, OTHER_KIND = Kind("training-job"), Kind("endpoint")
ACCOUNT, REGION = Account("000000000000"), Region("us-east-1")


def key(name: str, kind: Kind = KIND, account: Account = ACCOUNT, region: Region = REGION) -> Key:
    return Key(kind, account, region, ResourceName(name))


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def add(
    store: Database, name: str | Key, *, state: str = "InProgress", second: float = 0, wake: bool = False
) -> Resource:
    wanted = name if isinstance(name, Key) else key(name)
    return store.write(lambda tx: tx.insert(wanted, {"a": 1}, {}, state, now=at(second), wake=wake))


class StoreSuite:
    @pytest.fixture
    def store(self, open_store: OpenStore) -> Database:
        return open_store()

    # -- rows

    def test_what_was_inserted_is_what_is_got(self, store: Database) -> None:
        spec = {"text": "ü\x00\n'\"", "deep": {"list": [1, 2.5, None, True, {}]}, "": ""}
        made = store.write(lambda tx: tx.insert(key("a"), spec, {"s": 1}, "InProgress", now=at(1), wake=True))
        got = store.read(lambda tx: tx.get(key("a")))
        assert got == made
        assert (got.spec, got.status, got.state) == (spec, {"s": 1}, "InProgress")
        assert (got.created_at, got.changed_at, got.wake_at) == (at(1), at(1), at(1))

    def test_a_row_that_is_not_there_is_not_found(self, store: Database) -> None:
        add(store, "a")
        for missing in (key("A"), key("b"), key("a", OTHER_KIND), key("a", account=Account("1" * 12))):
            assert store.read(lambda tx, missing=missing: tx.find(missing)) is None
            with pytest.raises(NotFound, match=str(missing)):
                store.read(lambda tx, missing=missing: tx.get(missing))

    def test_a_taken_name_is_refused_and_the_transaction_can_go_on(self, store: Database) -> None:
        first = add(store, "a")

        def again(tx: Tx) -> None:
            with pytest.raises(AlreadyExists):
                tx.insert(key("a"), {"other": 1}, {}, "X", now=at(9), wake=False)
            tx.insert(key("b"), {}, {}, "X", now=at(9), wake=False)

        store.write(again)
        assert store.read(lambda tx: (tx.get(key("a")), tx.get(key("b")).state)) == (first, "X")

    def test_moments_are_kept_as_text_and_what_json_does_not_know_is_refused(self, store: Database) -> None:
        made = store.write(lambda tx: tx.insert(key("a"), {"at": at(1.5)}, {}, "X", now=T0, wake=False))
        assert made.spec == {"at": to_text(at(1.5))} == store.read(lambda tx: tx.get(key("a"))).spec
        with pytest.raises(TypeError):
            store.write(lambda tx: tx.update_spec(made, {"blob": b"x"}, now=at(2)))
        assert store.read(lambda tx: tx.get(key("a"))) == made

    def test_a_spec_changes_and_wakes(self, store: Database) -> None:
        made = add(store, "a")
        changed = store.write(lambda tx: tx.update_spec(made, {"a": 2}, now=at(5)))
        assert changed == store.read(lambda tx: tx.get(key("a")))
        assert (changed.spec, changed.wake_at, changed.status) == ({"a": 2}, at(5), made.status)

    def test_last_modified_moves_only_when_something_a_client_sees_did(self, store: Database) -> None:
        made = store.write(lambda tx: tx.insert(key("a"), {}, {"l": ({"x": 1},)}, "X", now=at(1), wake=True))
        same = store.write(lambda tx: tx.update_status(made, {"l": ({"x": 1},)}, "X", now=at(2), wake_at=at(7)))
        assert (same.changed_at, same.wake_at) == (at(1), at(7))
        status = store.write(lambda tx: tx.update_status(same, {"l": []}, "X", now=at(3), wake_at=None))
        assert (status.changed_at, status.wake_at) == (at(3), None)
        state = store.write(lambda tx: tx.update_status(status, {"l": []}, "Y", now=at(4), wake_at=None))
        assert (state.changed_at, state.state) == (at(4), "Y")
        assert store.read(lambda tx: tx.get(key("a"))) == state

    def test_a_clock_that_was_set_back_never_puts_a_change_before_the_creation(self, store: Database) -> None:
        made = add(store, "a", second=100)
        changed = store.write(lambda tx: tx.update_status(made, {"n": 1}, "Y", now=at(5), wake_at=None))
        assert changed.changed_at == made.created_at

    @pytest.mark.parametrize("change", ["spec", "status", "remove"])
    def test_an_old_version_changes_nothing(self, store: Database, change: str) -> None:
        old = add(store, "a")
        new = store.write(lambda tx: tx.update_status(old, {"n": 1}, "Y", now=at(1), wake_at=None))
        with pytest.raises(Stale):
            store.write(lambda tx: _change(tx, old, change))
        assert store.read(lambda tx: tx.get(key("a"))) == new

    @pytest.mark.parametrize("change", ["spec", "status", "remove"])
    def test_a_row_made_again_is_not_taken_for_the_one_that_was_removed(self, store: Database, change: str) -> None:
        old = add(store, "a")
        store.write(lambda tx: tx.remove(old))
        new = add(store, "a")
        with pytest.raises(Stale):
            store.write(lambda tx: _change(tx, old, change))
        assert store.read(lambda tx: tx.get(key("a"))) == new

    def test_a_removed_row_is_gone(self, store: Database) -> None:
        made = add(store, "a", wake=True)
        store.write(lambda tx: tx.remove(made))
        assert store.read(lambda tx: (tx.find(key("a")), list(tx.due([KIND], at(9))))) == (None, [])
        with pytest.raises(Stale):
            store.write(lambda tx: tx.remove(made))

    # -- transactions

    @pytest.mark.parametrize("error", [NotFound("x"), ValueError("x"), KeyboardInterrupt()])
    def test_an_error_undoes_everything_and_the_store_goes_on(self, store: Database, error: BaseException) -> None:
        def work(tx: Tx) -> None:
            tx.insert(key("a"), {}, {}, "X", now=T0, wake=True)
            tx.set_tags("arn", {"k": "v"})
            raise error

        with pytest.raises(type(error)):
            store.write(work)
        assert store.read(lambda tx: (tx.find(key("a")), tx.tags("arn"))) == (None, {})
        add(store, "a")

    def test_a_read_transaction_cannot_write(self, store: Database) -> None:
        with pytest.raises(RuntimeError, match=r"Store\.write"):
            store.read(lambda tx: tx.insert(key("a"), {}, {}, "X", now=T0, wake=False))
        statement = insert(tables.meta).values(key="a", value="b")
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            store.read(lambda tx: tx.connection.execute(statement))
        assert store.read(lambda tx: tx.connection.execute(select(tables.meta)).all()) == []

    def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_itself(self, store: Database) -> None:
        with pytest.raises(RuntimeError, match="inside a write"):
            store.write(lambda tx: store.write(lambda inner: None))
        add(store, "a")

    def test_statements_on_the_connection_are_part_of_the_transaction(self, store: Database) -> None:
        def work(tx: Tx) -> None:
            tx.connection.execute(insert(tables.meta).values(key="a", value="b"))
            tx.insert(key("a"), {}, {}, "X", now=T0, wake=False)
            assert tx.connection.execute(select(tables.meta.c.value)).scalars().all() == ["b"]
            raise ValueError

        with pytest.raises(ValueError):
            store.write(work)
        assert store.read(lambda tx: tx.connection.execute(select(tables.meta)).all()) == []
        assert store.read(lambda tx: tx.find(key("a"))) is None

    def test_a_reader_sees_one_state_and_never_waits_for_a_writer(self, store: Database) -> None:
        made = add(store, "a")
        entered, leave = threading.Event(), threading.Event()

        def slow(tx: Tx) -> None:
            tx.update_spec(made, {"a": 2}, now=at(1))
            entered.set()
            assert leave.wait(30)

        writer = threading.Thread(target=store.write, args=(slow,))

        def reader(tx: Tx) -> None:
            assert tx.get(key("a")).spec == {"a": 1}
            writer.start()
            assert entered.wait(30)
            assert store.read(lambda other: other.get(key("a"))).spec == {"a": 1}
            leave.set()
            writer.join(30)
            assert tx.get(key("a")).spec == {"a": 1}

        store.read(reader)
        assert store.read(lambda tx: tx.get(key("a"))).spec == {"a": 2}

    def test_no_update_is_lost_among_threads_and_stores(self, open_store: OpenStore) -> None:
        stores = [open_store(), open_store()]
        add(stores[0], "a")
        staled: list[int] = []

        def count_to_25(store: Database) -> None:
            for _ in range(25):
                while True:
                    seen = store.read(lambda tx: tx.get(key("a")))
                    number = seen.status.get("n", 0) + 1
                    try:
                        store.write(lambda tx: tx.update_status(seen, {"n": number}, "X", now=T0, wake_at=None))  # noqa: B023 - runs at once
                        break
                    except Stale:
                        staled.append(1)

        threads = [threading.Thread(target=count_to_25, args=(stores[n % 2],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stores[1].read(lambda tx: tx.get(key("a"))).status == {"n": 100}

    def test_what_one_store_commits_another_sees_at_once(self, open_store: OpenStore) -> None:
        one, other = open_store(), open_store()
        for number in range(20):
            add(one if number % 2 else other, f"j{number}")
            assert (other if number % 2 else one).read(lambda tx, n=number: tx.get(key(f"j{n}"))).key == key(
                f"j{number}"
            )

    def test_a_closed_store_says_so(self, store: Database) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            store.read(lambda tx: tx.find(key("a")))
        with pytest.raises(StoreUnavailable, match="closed"):
            add(store, "a")

    # -- waking

    def test_the_listener_hears_of_woken_keys_after_the_commit_and_of_nothing_else(self, open_store: OpenStore) -> None:
        heard: list[Key] = []
        seen: list[bool] = []

        def listen(keys: Collection[Key]) -> None:
            heard.extend(keys)
            seen.extend(store.read(lambda tx, each=each: tx.find(each)) is not None for each in keys)

        store = open_store(listener=listen)
        made = add(store, "asleep")
        add(store, "awake", wake=True)
        store.write(lambda tx: tx.update_status(made, {"n": 1}, "X", now=T0, wake_at=at(1)))
        with pytest.raises(AlreadyExists):
            add(store, "awake", wake=True)
        assert (heard, seen) == ([key("awake")], [True])
        store.write(lambda tx: tx.update_spec(tx.get(key("asleep")), {}, now=T0))
        assert heard == [key("awake"), key("asleep")]

    def test_due_keys_come_oldest_first_and_only_of_the_kinds_asked_for(self, store: Database) -> None:
        for name, second in (("c", 3), ("a", 1), ("b", 2)):
            add(store, name, second=second, wake=True)
        add(store, key("e", OTHER_KIND), second=0.5, wake=True)
        add(store, "asleep")

        def look(tx: Tx) -> list[object]:
            return [
                tx.due([KIND], at(2)),
                tx.due([KIND, OTHER_KIND], at(9), limit=2),
                tx.due([], at(9)),
                tx.next_wake([KIND]),
                tx.next_wake([OTHER_KIND, KIND]),
                tx.next_wake([Kind("model")]),
                tx.next_wake([]),
            ]

        assert store.read(look) == [
            [key("a"), key("b")],
            [key("e", OTHER_KIND), key("a")],
            (),
            at(1),
            at(0.5),
            None,
            None,
        ]

    # -- tags

    def test_tags_keep_the_order_in_which_they_were_set(self, store: Database) -> None:
        store.write(lambda tx: tx.set_tags("arn", {"z": "1", "a": "2"}))
        store.write(lambda tx: tx.set_tags("arn", {"m": "3", "z": "4"}))
        store.write(lambda tx: tx.set_tags("other", {"x": ""}))
        assert list(store.read(lambda tx: tx.tags("arn")).items()) == [("z", "4"), ("a", "2"), ("m", "3")]
        store.write(lambda tx: tx.remove_tags("arn", ["a", "unknown"]))
        assert list(store.read(lambda tx: tx.tags("arn"))) == ["z", "m"]
        store.write(lambda tx: tx.remove_tags("arn"))
        assert store.read(lambda tx: (tx.tags("arn"), tx.tags("other"))) == ({}, {"x": ""})


def _change(tx: Tx, resource: Resource, change: str) -> None:
    match change:
        case "spec":
            tx.update_spec(resource, {"a": 3}, now=at(9))
        case "status":
            tx.update_status(resource, {"n": 3}, "Z", now=at(9), wake_at=None)
        case "remove":
            tx.remove(resource)
