"""Subscriptions of maps and topics: what is told, what is skipped, and where the gaps are."""

import asyncio
from typing import Any

import pytest

from copycat.errors import ClientClosed, InvalidArgument, NoLeader
from copycat.resources.changes import Cleared, Put, Removed, Resync
from copycat.resources.map import AsyncDistributedMap, MapMachine
from copycat.resources.subscription import READ_IN_A_TURN
from copycat.resources.topic import AsyncDistributedTopic, Gap, TopicMachine
from driven import RESOURCE
from fake_client import FakeClient, FakeCluster, run, settle


def topics(count: int) -> tuple[FakeCluster, list[FakeClient], list[AsyncDistributedTopic[Any]]]:
    """A topic as several clients see it."""
    cluster = FakeCluster(TopicMachine)
    clients = [cluster.client() for _ in range(count)]
    return cluster, clients, [AsyncDistributedTopic(one, RESOURCE, "news") for one in clients]


async def waiting_for(messages: Any) -> asyncio.Task[Any]:
    """A task that waits for the next message."""

    async def following() -> Any:
        return await anext(messages)

    task = asyncio.create_task(following())
    await settle()
    return task


def test_subscribers_get_what_is_published_after_they_came() -> None:
    """Nothing from before, everything from then on, in order, and nothing after they left."""

    async def main() -> None:
        cluster, clients, (one, two) = topics(2)
        await one.publish("before")
        async with two.subscribe() as early:
            await one.publish({"n": 1})
            async with two.subscribe() as late:
                assert await one.subscriptions() == 2
                index = await one.publish([2])
                assert [await anext(early), await anext(early)] == [{"n": 1}, [2]]
                assert await anext(late) == [2]
                assert index == cluster.driver.index
        await settle()
        assert await one.subscriptions() == 0
        await one.publish("after")
        assert [message async for message in early] == []
        assert not clients[1].listeners
        assert not clients[1].session_listeners

    run(main())


def test_a_reader_waits_for_the_next_message() -> None:
    """It wakes when one comes, and when its subscription is closed by another task."""

    async def main() -> None:
        _, _, (topic,) = topics(1)
        async with topic.subscribe() as messages:
            waiting = await waiting_for(messages)
            assert not waiting.done()
            with pytest.raises(InvalidArgument, match="already"):
                await anext(messages)
            await topic.publish("now")
            assert await waiting == "now"
            waiting = await waiting_for(messages)
        with pytest.raises(StopAsyncIteration):
            await waiting

    run(main())


def test_a_reader_that_never_waits_lets_others_go_on() -> None:
    """While its buffer is never empty the loop has its turns; who is cancelled in one loses nothing."""

    async def main() -> None:
        _, _, (topic,) = topics(1)
        async with topic.subscribe() as messages:
            for number in range(1_000):
                await topic.publish(number)
            turns = 0
            read: list[Any] = []

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async def reader() -> None:
                while len(read) < 1_000:
                    read.append(await anext(messages))

            beside = asyncio.create_task(other())
            first = asyncio.create_task(reader())
            while not read:
                await asyncio.sleep(0)
            first.cancel()
            await reader()
            beside.cancel()
            assert read == list(range(1_000))
            assert turns >= 1_000 // READ_IN_A_TURN

    run(main())


def test_a_cancelled_reader_loses_nothing() -> None:
    """The next one to read gets what the cancelled one would have got."""

    async def main() -> None:
        _, _, (topic,) = topics(1)
        async with topic.subscribe() as messages:
            waiting = await waiting_for(messages)
            publishing = asyncio.create_task(topic.publish("kept"))
            waiting.cancel()
            await publishing
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await anext(messages) == "kept"

    run(main())


def test_a_lost_session_makes_a_gap() -> None:
    """First what had arrived, then the gap, then what is published after the new beginning."""

    async def main() -> None:
        _, (client, _), (topic, other) = topics(2)
        async with topic.subscribe() as messages:
            await other.publish("arrived")
            client.lose_session()
            await other.publish("missed")
            assert await anext(messages) == "arrived"
            gap = await anext(messages)
            index = await other.publish("seen")
            assert await anext(messages) == "seen"
            assert gap == Gap(index - 1)
            assert await other.subscriptions() == 1

    run(main())


def test_two_subscriptions_of_a_lost_session_skip_alike() -> None:
    """One that comes back later is not told what the other brought to their session."""

    async def main() -> None:
        _, (client, _), (topic, other) = topics(2)
        async with topic.subscribe() as first, topic.subscribe() as second:
            client.lose_session()
            assert type(await anext(first)) is Gap
            await other.publish("for the first")
            gap = await anext(second)
            assert type(gap) is Gap
            await other.publish("for both")
            assert [await anext(first), await anext(first)] == ["for the first", "for both"]
            assert await anext(second) == "for both"

    run(main())


def test_sessions_lost_one_after_the_other_end_in_a_subscription() -> None:
    """A session that is lost while the subscription returns is followed by the next."""

    async def main() -> None:
        _, (client, _), (topic, other) = topics(2)
        async with topic.subscribe() as messages:
            client.lose_session()
            client.silent = True
            waiting = await waiting_for(messages)
            client.lose_session()
            assert type(await waiting) is Gap
            while await other.publish("seen") and await anext(messages) != "seen":
                pass
            assert await other.subscriptions() == 1

    run(main())


def test_a_reader_that_is_too_slow_gets_a_gap() -> None:
    """The buffer is bounded; what runs over is replaced by one gap, not dropped in silence."""

    async def main() -> None:
        _, _, (topic,) = topics(1)
        async with topic.subscribe(buffered_max=3) as messages:
            for number in range(4):
                await topic.publish(number)
            gap = await anext(messages)
            assert type(gap) is Gap
            await topic.publish("next")
            assert await anext(messages) == "next"

    run(main())


def test_a_failed_return_can_be_tried_again() -> None:
    """A reader that was told an error gets its gap when it reads on."""

    async def main() -> None:
        _, (client,), (topic,) = topics(1)
        async with topic.subscribe() as messages:
            client.lose_session()
            client.silent = True
            waiting = await waiting_for(messages)
            client.fail(NoLeader("none"))
            with pytest.raises(NoLeader):
                await waiting
            client.speak()
            assert type(await anext(messages)) is Gap

    run(main())


def test_a_closed_client_ends_its_readers() -> None:
    """They are told why nothing comes any more."""

    async def main() -> None:
        _, (client,), (topic,) = topics(1)
        async with topic.subscribe() as messages:
            waiting = await waiting_for(messages)
            client.close()
            with pytest.raises(ClientClosed):
                await waiting

    run(main())


def test_a_subscription_that_cannot_open_leaves_nothing() -> None:
    """An error on entering is the caller's, and nobody listens afterwards."""

    async def main() -> None:
        _, (client,), (topic,) = topics(1)
        client.silent = True

        async def enter() -> None:
            async with topic.subscribe():
                pytest.fail("it did not open")

        entering = asyncio.create_task(enter())
        await settle()
        client.fail(NoLeader("none"))
        with pytest.raises(NoLeader):
            await entering
        assert not client.listeners
        assert not client.session_listeners

    run(main())


def test_a_subscription_is_opened_by_its_block() -> None:
    """Reading without it, or entering twice, is a mistake that is named."""

    async def main() -> None:
        _, _, (topic,) = topics(1)
        messages = topic.subscribe()
        with pytest.raises(InvalidArgument, match="async with"):
            await anext(messages)
        async with messages:
            pass
        with pytest.raises(InvalidArgument, match="once"):
            await messages.__aenter__()
        with pytest.raises(InvalidArgument):
            topic.subscribe(buffered_max=0)

    run(main())


def test_a_map_tells_its_changes() -> None:
    """Every kind of change arrives as its own kind of event, with the index of the change."""

    async def main() -> None:
        cluster = FakeCluster(MapMachine)
        client = cluster.client()
        users: AsyncDistributedMap[str, Any] = AsyncDistributedMap(client, RESOURCE, "users")
        await users.put("a", 1)
        async with users.watch() as events:
            await users.put("a", [2])
            await users.remove("a")
            await users.remove("a")
            await users.put_many({"b": None, "c": 3})
            await users.clear()
            index = cluster.driver.index
            assert [await anext(events) for _ in range(5)] == [
                Put("a", [2], index - 4),
                Removed("a", index - 3),
                Put("b", None, index - 1),
                Put("c", 3, index - 1),
                Cleared(index),
            ]
            client.lose_session()
            assert await anext(events) == Resync(cluster.driver.index)

    run(main())
