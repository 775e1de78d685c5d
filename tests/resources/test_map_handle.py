"""The asyncio handles of map and counter: values in, copies out, mistakes found before sending."""

from typing import Any

import pytest

from copycat.actors.codec import encode
from copycat.errors import InvalidArgument, InvalidType, Rejected, TooLarge
from copycat.resources.counter import AsyncDistributedCounter, CounterMachine
from copycat.resources.map import AsyncDistributedMap, MapMachine, Versioned
from copycat.resources.pages import PAGE_BYTES_MAX
from copycat.resources.values import KEY_BYTES_MAX, KEYS_MAX
from copycat.types import OPERATION_BYTES_MAX, VALUE_BYTES_MAX
from driven import RESOURCE
from fake_client import FakeClient, FakeCluster, run


def a_map() -> tuple[FakeClient, AsyncDistributedMap[Any, Any]]:
    """A map and the client that uses it."""
    client = FakeCluster(MapMachine).client()
    return client, AsyncDistributedMap(client, RESOURCE, "users")


def test_values_come_back_as_they_went() -> None:
    """All kinds of values and keys; what was got is a copy, and a tuple becomes a list."""

    async def main() -> None:
        _, users = a_map()
        for key in ("", "é", b"\xff", 0, -(2**63)):
            for value in (None, True, 1.5, "", b"", [1, [2]], {"a": {1: b"x"}}):
                await users.put(key, value)
                assert await users.get(key) == value
        await users.put("a", (1, 2))
        got = await users.get("a")
        assert got == [1, 2]
        got.append(3)
        assert await users.get("a") == [1, 2]

    run(main())


def test_each_verb_answers_what_it_promises() -> None:
    """Previous values, versions, and None where there is nothing."""

    async def main() -> None:
        _, users = a_map()
        assert await users.get("a") is None
        assert await users.get("a", "default") == "default"
        assert await users.get_entry("a") is None
        assert await users.put("a", 1) is None
        assert await users.put("a", 2) == 1
        assert await users.put_if_absent("a", 3) == 2
        assert await users.put_if_absent("b", 4) is None
        entry = await users.get_entry("a")
        assert entry == Versioned(2, entry.version if entry else 0)
        assert entry is not None
        assert await users.replace("a", 5, version=entry.version - 1) is None
        newer = await users.replace("a", 5, version=entry.version)
        assert newer is not None
        assert newer > entry.version
        assert await users.replace("missing", 5) is None
        assert await users.remove("a", version=entry.version) is None
        assert await users.remove("a", version=newer) == 5
        assert await users.contains("b")
        assert await users.length() == 1
        assert await users.popitem() == ("b", 4)
        with pytest.raises(KeyError):
            await users.popitem()

    run(main())


def test_iteration_reads_pages() -> None:
    """All items come, with one query for each page, and what is deleted meanwhile does not."""

    async def main() -> None:
        client, users = a_map()
        await users.put_many({number: -number for number in range(10)})
        client.submitted.clear()
        assert [key async for key in users.keys(page_items=4)] == list(range(10))
        assert len(client.submitted) == 3
        assert [value async for value in users.values()] == [-number for number in range(10)]
        assert [key async for key, _ in users.items()] == list(range(10))
        assert await users.to_dict() == {number: -number for number in range(10)}
        seen = []
        async for key in users.keys(page_items=2):
            seen.append(key)
            await users.remove(key + 2)
        assert seen == [0, 1, 4, 5, 8, 9]
        pages = users.keys(page_items=3)
        assert [await pages.page(), await pages.page(), await pages.page()] == [
            [0, 1, 4],
            [5, 8, 9],
            [],
        ]
        with pytest.raises(InvalidArgument):
            users.keys(page_items=0)

    run(main())


def test_many_values_are_got_in_as_few_queries_as_fit() -> None:
    """Missing keys are left out, double ones asked for once, and large values take turns."""

    async def main() -> None:
        client, users = a_map()
        await users.put_many({"a": 1, "b": 2})
        client.submitted.clear()
        assert await users.get_many(["b", "a", "b", "c"]) == {"b": 2, "a": 1}
        assert await users.get_many([]) == {}
        assert len(client.submitted) == 1
        for key in "abc":
            await users.put(key, bytes(PAGE_BYTES_MAX))
        client.submitted.clear()
        assert len(await users.get_many("abc")) == 3
        assert len(client.submitted) == 3

    run(main())


def test_put_many_sets_all_or_none_and_says_how_many_it_takes() -> None:
    """What is atomic is bounded, as it keeps every server from all else while it is applied."""

    async def main() -> None:
        client, users = a_map()
        await users.put_many(dict.fromkeys(range(KEYS_MAX), 0))
        client.submitted.clear()
        with pytest.raises(TooLarge, match="put_many of 1,001 keys: 1,000 at most"):
            await users.put_many(dict.fromkeys(range(KEYS_MAX + 1), 1))
        assert not client.submitted
        assert set((await users.to_dict()).values()) == {0}

    run(main())


def test_an_update_takes_as_many_commands_as_it_needs() -> None:
    """Of at most 1,000 keys and of no more bytes than an operation may have, in order."""

    async def main() -> None:
        client, users = a_map()
        values: dict[Any, Any] = {number: number for number in range(2 * KEYS_MAX + 1)}
        values |= {"largest": bytes(VALUE_BYTES_MAX - 8), b"x" * KEY_BYTES_MAX: 1, "é": 2}
        values |= {f"large {number}": bytes(300_000) for number in range(5)}
        await users._update(values)
        parts = [arguments[0] for method, arguments, _ in client.submitted if method == "put_many"]
        assert max(map(len, parts)) == KEYS_MAX
        assert max(len(encode([7, "put_many", part])) for part in parts) <= OPERATION_BYTES_MAX
        assert len(parts) < 12
        assert await users.to_dict() == values
        client.submitted.clear()
        await users._update({})
        assert not client.submitted

    run(main())


def test_many_keys_are_asked_for_in_parts() -> None:
    """A query takes no more than 1,000 keys, and a page no more items, whatever is asked for."""

    async def main() -> None:
        client, users = a_map()
        values = {number: number for number in range(2 * KEYS_MAX + 1)}
        await users._update(values)
        client.submitted.clear()
        assert await users.get_many(values) == values
        assert len(client.submitted) == 3
        client.submitted.clear()
        assert [key async for key in users.keys(page_items=40_000)] == list(values)
        assert len(client.submitted) == 3

    run(main())


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (True, 1, InvalidType),
        (1.0, 1, InvalidType),
        (None, 1, InvalidType),
        (("a",), 1, InvalidType),
        (2**63, 1, InvalidArgument),
        ("\ud800", 1, InvalidArgument),
        ("a" * (KEY_BYTES_MAX + 1), 1, TooLarge),
        ("a", {1, 2}, InvalidType),
        ("a", [object()], InvalidType),
        ("a", 2**64, InvalidType),
        ("a", "\ud800", InvalidType),
        ("a", bytes(VALUE_BYTES_MAX), TooLarge),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(key: Any, value: Any, error: type) -> None:
    """Each verb that takes a key and a value refuses what cannot be stored, at once."""

    async def main() -> None:
        client, users = a_map()
        for call in (
            users.put(key, value),
            users.put_if_absent(key, value),
            users.replace(key, value),
            users.put_many({key: value}),
        ):
            with pytest.raises(error):
                await call
        with pytest.raises(InvalidType):
            await users.remove("a", version=1.5)  # type: ignore[arg-type]
        assert not client.submitted

    run(main())


def test_bytes_that_no_handle_wrote_are_an_error() -> None:
    """Whoever reads what a foreign program stored gets one of our errors."""

    async def main() -> None:
        client, users = a_map()
        await client.submit_command(RESOURCE, "put", "a", b"\xff")
        with pytest.raises(InvalidArgument, match="cannot be read"):
            await users.get("a")

    run(main())


def test_the_counter_counts() -> None:
    """Its verbs answer new and old values, and its range ends in an error."""

    async def main() -> None:
        client = FakeCluster(CounterMachine).client()
        hits = AsyncDistributedCounter(client, RESOURCE, "hits")
        assert await hits.value() == 0
        assert await hits.increment() == 1
        assert await hits.increment(-3) == -2
        assert await hits.set(2**63 - 1) == -2
        with pytest.raises(Rejected, match="64 bits"):
            await hits.increment()
        assert not await hits.compare_and_set(0, 1)
        assert await hits.compare_and_set(2**63 - 1, 1)
        with pytest.raises(InvalidType):
            await hits.increment(1.0)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            await hits.set(2**63)
        assert await hits.value() == 1
        assert repr(hits) == "<AsyncDistributedCounter 'hits'>"
        assert hits.name == "hits"

    run(main())
