"""What type checkers infer from handles: mypy reads this file, and nothing in it runs but a test."""

from collections.abc import ItemsView, KeysView
from typing import TYPE_CHECKING, Any, assert_type

from copycat.resources import (
    AsyncDistributedCounter,
    AsyncDistributedLock,
    AsyncDistributedMap,
    AsyncDistributedTopic,
    AsyncLockGrant,
    Cleared,
    DistributedCounter,
    DistributedLock,
    DistributedMap,
    DistributedTopic,
    Gap,
    Holder,
    LockGrant,
    MapEvent,
    Put,
    Removed,
    Resync,
    Versioned,
)

if TYPE_CHECKING:
    from copycat.client.asynchronous import AsyncClient
    from copycat.client.blocking import Client
    from copycat.resources.handle import HandleClient

User = dict[str, Any]


def the_client_is_what_handles_ask_for(client: "AsyncClient") -> "HandleClient":
    """The client keeps the contract of the handles, as far as types tell."""
    return client


async def opened(client: "AsyncClient") -> None:
    """``open`` returns what it was asked for, with its parameters."""
    assert_type(await client.open(AsyncDistributedCounter, "hits"), AsyncDistributedCounter)
    users = await client.open(AsyncDistributedMap[str, User], "users")
    assert_type(users, AsyncDistributedMap[str, User])
    topic: AsyncDistributedTopic[str] = await client.open(AsyncDistributedTopic, "news")
    assert_type(topic, AsyncDistributedTopic[str])


def opened_blocking(client: "Client") -> None:
    """So does the blocking one."""
    assert_type(client.open(DistributedLock, "nightly"), DistributedLock)
    assert_type(client.open(DistributedMap[str, User], "users"), DistributedMap[str, User])


async def asynchronous_map(users: AsyncDistributedMap[str, User]) -> None:
    """Keys and values keep their types through every verb."""
    assert_type(await users.get("ann"), User | None)
    assert_type(await users.get("ann", 1), User | int | None)
    assert_type(await users.get_entry("ann"), Versioned[User] | None)
    assert_type(await users.get_many(["ann"]), dict[str, User])
    assert_type(await users.put("ann", {}), User | None)
    assert_type(await users.replace("ann", {}, version=1), int | None)
    assert_type(await users.remove("ann"), User | None)
    assert_type(await users.popitem(), tuple[str, User])
    assert_type(await users.to_dict(), dict[str, User])
    async for key, value in users.items():
        assert_type(key, str)
        assert_type(value, User)
    async with users.watch() as events:
        async for event in events:
            assert_type(event, MapEvent[str, User])
            match event:
                case Put():
                    assert_type(event.value, User)
                case Removed(key):
                    assert_type(key, str)
                case Cleared() | Resync():
                    assert_type(event.version, int)


async def asynchronous_others(
    hits: AsyncDistributedCounter, lock: AsyncDistributedLock, topic: AsyncDistributedTopic[str]
) -> None:
    """So do those of the other handles."""
    assert_type(await hits.increment(), int)
    assert_type(await lock.try_acquire(), AsyncLockGrant | None)
    assert_type(await lock.holder(), Holder | None)
    async with await lock.acquire(timeout_s=5) as grant:
        assert_type(grant, AsyncLockGrant)
    async with topic.subscribe() as messages:
        async for message in messages:
            assert_type(message, str | Gap)


def blocking(
    users: DistributedMap[str, User],
    hits: DistributedCounter,
    lock: DistributedLock,
    topic: DistributedTopic[str],
) -> None:
    """The blocking handles have the types of the asyncio ones, without the waiting."""
    assert_type(users["ann"], User)
    assert_type(users.get("ann"), User | None)
    assert_type(users.get("ann", 1), User | int | None)
    assert_type(users.pop("ann", None), User | None)
    assert_type(users.keys(), KeysView[str])
    assert_type(users.items(), ItemsView[str, User])
    assert_type(list(users), list[str])
    assert_type(users.get_entry("ann"), Versioned[User] | None)
    assert_type(hits.increment(2), int)
    assert_type(lock.try_acquire(), LockGrant | None)
    with lock.acquire(timeout_s=5) as grant:
        assert_type(grant, LockGrant)
    with users.watch() as events:
        for event in events:
            assert_type(event, MapEvent[str, User])
    with topic.subscribe() as messages:
        assert_type(next(messages), str | Gap)


def test_parameters_are_for_type_checkers_only() -> None:
    """A handle's class with parameters still tells ``open`` what it is."""
    assert AsyncDistributedMap[str, int].resource_type == "map"
    assert DistributedMap[str, int].asynchronous is AsyncDistributedMap
