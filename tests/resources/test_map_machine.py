"""MapMachine against a dict, and its pages while others write."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import InvalidArgument, InvalidType
from copycat.machine import Commit
from copycat.resources.map import MapMachine
from copycat.resources.pages import PAGE_BYTES_MAX
from copycat.resources.values import KEY_BYTES_MAX
from copycat.types import VALUE_BYTES_MAX
from driven import Driver, Timers

keys = st.sampled_from(["", "a", "é", b"a", b"", 0, 1, -1, 2**63 - 1])
values = st.binary(max_size=2)
versions = st.one_of(st.none(), st.just("current"), st.integers(0, 5))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, values),
        st.tuples(st.just("put_if_absent"), keys, values),
        st.tuples(st.just("put_many"), st.lists(st.tuples(keys, values), max_size=3)),
        st.tuples(st.just("replace"), keys, values, versions),
        st.tuples(st.just("remove"), keys, versions),
        st.tuples(st.just("popitem")),
        st.tuples(st.just("clear")),
    ),
    max_size=60,
)


class Model:
    """What a map does, written down with a dict of version and value."""

    def __init__(self) -> None:
        self.entries: dict[Any, tuple[int, bytes]] = {}
        self.events: list[tuple[str, list[Any]]] = []

    def put(self, index: int, key: Any, value: bytes) -> bytes | None:
        previous = self.entries.get(key)
        self.entries[key] = (index, value)
        self.events.append(("put", [index, key, value]))
        return previous[1] if previous else None

    def put_if_absent(self, index: int, key: Any, value: bytes) -> bytes | None:
        if key in self.entries:
            return self.entries[key][1]
        return self.put(index, key, value)

    def put_many(self, index: int, pairs: list[tuple[Any, bytes]]) -> None:
        for key, value in pairs:
            self.put(index, key, value)

    def replace(self, index: int, key: Any, value: bytes, version: int | None) -> int | None:
        if key not in self.entries or version not in (None, self.entries[key][0]):
            return None
        self.put(index, key, value)
        return index

    def remove(self, index: int, key: Any, version: int | None) -> bytes | None:
        if key not in self.entries or version not in (None, self.entries[key][0]):
            return None
        self.events.append(("removed", [index, key]))
        return self.entries.pop(key)[1]

    def popitem(self, index: int) -> list[Any] | None:
        if not self.entries:
            return None
        key = list(self.entries)[-1]
        return [key, self.remove(index, key, None)]

    def clear(self, index: int) -> None:
        if self.entries:
            self.entries.clear()
            self.events.append(("cleared", [index]))


def apply(driver: Driver, model: Model, step: tuple[Any, ...]) -> None:
    """One step on machine and model, with equal answers."""
    name, *arguments = step
    if arguments and arguments[-1] == "current":
        arguments[-1] = model.entries.get(arguments[0], (0, b""))[0]
    expected = getattr(model, name)(driver.index + 1, *arguments)
    assert driver.command(1, name, *arguments) == expected


def read(driver: Driver, items_max: int, *, whole: bool) -> list[Any]:
    """All rows, page after page."""
    rows: list[Any] = []
    after, until = 0, None
    while after is not None:
        after, until, page = driver.query("page", after, until, items_max, whole)
        assert len(page) <= items_max
        rows += page
    return rows


@given(steps, st.integers(1, 4))
def test_it_does_what_a_dict_does(steps: list[tuple[Any, ...]], items_max: int) -> None:
    """Answers, contents, versions, order and events are those of the model."""
    driver, model = Driver(MapMachine), Model()
    driver.command(2, "subscribe", 1)
    for step in steps:
        apply(driver, model, step)
        assert driver.query("length") == len(model.entries)
    assert driver.take_events(2) == model.events
    rows = [[key, version, value] for key, (version, value) in model.entries.items()]
    assert read(driver, items_max, whole=True) == rows
    assert read(driver, items_max, whole=False) == list(model.entries)
    for key in ["", "a", b"a", 0, 1]:
        entry = model.entries.get(key)
        assert driver.query("get", key) == (entry and list(entry))
        assert driver.query("contains", key) == (entry is not None)
        assert driver.query("get_many", [key, key]) == [entry and list(entry)] * 2


@given(steps, st.lists(steps.map(lambda some: some[:3]), max_size=12), st.integers(1, 3))
def test_pages_hold_while_others_write(
    before: list[tuple[Any, ...]], between: list[list[tuple[Any, ...]]], items_max: int
) -> None:
    """What stays comes exactly once, in order and as it is; what is inserted later does not."""
    driver, model = Driver(MapMachine), Model()
    for step in before:
        apply(driver, model, step)
    first = list(model.entries)
    stayed = set(first)
    rows: list[Any] = []
    after, until = 0, None
    writes = iter(between)
    while after is not None:
        after, until, page = driver.query("page", after, until, items_max, True)
        for key, version, value in page:
            assert model.entries[key] == (version, value)
        rows += page
        for step in next(writes, []):
            kept = set(model.entries)
            was = dict(model.entries)
            apply(driver, model, step)
            stayed &= kept & set(model.entries)
            if step[0] == "clear" and was:
                stayed.clear()
    seen = [row[0] for row in rows]
    assert len(seen) == len(set(seen)), "no key comes twice"
    assert [key for key in first if key in stayed] == [key for key in seen if key in stayed]
    assert set(seen) <= set(first), "no key comes that was not there at the first page"


def test_many_removals_leave_no_trace() -> None:
    """Pages of a map used as a queue do not walk over all that was ever in it."""
    driver = Driver(MapMachine)
    for number in range(1_000):
        driver.command(1, "put", number, b"")
        if number >= 10:
            driver.command(1, "remove", number - 10, None)
    assert len(driver.machine._keys) < 200
    assert read(driver, 3, whole=False) == list(range(990, 1_000))


def test_a_large_map_is_tidied_up_in_slices() -> None:
    """No removal pays for all that were before it, and what is left is in its order."""
    machine = MapMachine()
    count, indexes = 40_000, itertools.count(1)

    def commit() -> Commit:
        return Commit(next(indexes), 0.0, 1, Timers(), [])

    for first in range(0, count, 1000):
        machine.put_many(commit(), [[key, b""] for key in range(first, first + 1000)])
    chance = random.Random(7)
    order = list(range(count))
    chance.shuffle(order)
    order.sort(
        key=lambda key: key // (count // 2)
    )  # one half first, so that it is all in one place
    for at, key in enumerate(order[: count - 10], 1):
        places = len(machine._keys)
        machine.remove(commit(), key, None)
        assert places - len(machine._keys) <= 2_048
        assert len(machine._keys) <= 2 * (count - at) + 64 + count // 100
    left = sorted(order[count - 10 :])
    assert machine.page(0, None, 1_000, False)[2] == left
    assert [key for key in machine._keys if key is not None] == left
    assert machine._numbers == sorted(machine._numbers)


def test_a_page_of_what_is_removed_is_bounded_too() -> None:
    """Few rows are left behind many removed ones: a page may be empty, and the next one goes on."""
    driver = Driver(MapMachine)
    machine = driver.machine
    count = 25_000
    for first in range(0, count, 1000):
        driver.command(1, "put_many", [[key, b""] for key in range(first, first + 1000)])
    replicas: Any = driver.replicas
    for replica in replicas:  # as if by so many commands, of which each would be compared
        for key in range(12_000):
            replica.machine._entries.pop(key)
            replica.machine._keys[key] = None
    after, until, rows = driver.query("page", 0, None, 10, False)
    assert rows == []
    assert after < machine._last_number == until
    after, _, rows = driver.query("page", after, until, 10, False)
    assert rows == list(range(12_000, 12_010))


def test_pages_are_bounded_in_bytes() -> None:
    """Few large values make a page, so that an answer always fits into a frame."""
    driver = Driver(MapMachine)
    for key in range(6):
        driver.command(1, "put", key, bytes(PAGE_BYTES_MAX // 2))
    after, _, page = driver.query("page", 0, None, 500, True)
    assert after is not None
    assert len(page) == 2
    assert [row[0] for row in read(driver, 500, whole=True)] == list(range(6))
    assert len(driver.query("get_many", list(range(6)))) == 2


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("put", [True, b""]),
        ("put", [1.0, b""]),
        ("put", [None, b""]),
        ("put", [["a"], b""]),
        ("put", ["a", "text"]),
        ("put", ["a", None]),
        ("put", [2**63, b""]),
        ("put", ["a" * (KEY_BYTES_MAX + 1), b""]),
        ("put", ["é" * (KEY_BYTES_MAX // 2 + 1), b""]),
        ("put", ["a", bytes(VALUE_BYTES_MAX + 1)]),
        ("put_many", [None]),
        ("put_many", [{"a": b""}]),
        ("put_many", [[["b", b""], ["a"]]]),
        ("put_many", [[["b", b""], "ab"]]),
        ("put_many", [[["b", b""], [1.5, b""]]]),
        ("put_many", [[["b", b""], ["a", 1]]]),
        ("put_if_absent", ["a", 1]),
        ("replace", ["a", b"", -1]),
        ("replace", ["a", b"", True]),
        ("replace", ["a", b"", "1"]),
        ("remove", [{}, None]),
        ("remove", ["a", 1.5]),
    ],
)
def test_wrong_arguments_change_nothing(name: str, arguments: list[Any]) -> None:
    """The machine checks everything before it changes anything, whoever sent it."""
    driver = Driver(MapMachine)
    driver.command(1, "put", "a", b"")
    driver.command(1, "subscribe", 1)
    with pytest.raises((InvalidArgument, InvalidType)):
        driver.command(1, name, *arguments)
    assert driver.take_events(1) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get", [None]),
        ("get_many", ["ab"]),
        ("get_many", [["a", 1.5]]),
        ("contains", [[]]),
        ("page", ["", None, 1, True]),
        ("page", [-1, None, 1, True]),
        ("page", [0, "", 1, True]),
        ("page", [0, None, None, True]),
    ],
)
def test_wrong_queries_are_refused(name: str, arguments: list[Any]) -> None:
    """A query that makes no sense is an error of its sender, not of the server."""
    with pytest.raises((InvalidArgument, InvalidType)):
        Driver(MapMachine).query(name, *arguments)
