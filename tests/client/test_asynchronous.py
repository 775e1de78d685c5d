"""The asyncio client refuses what it cannot do, before anything is sent."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf, nan
from typing import Any

import pytest

from copycat.actors.frame import FrameReader
from copycat.client.asynchronous import AsyncClient
from copycat.errors import InvalidArgument
from fake_cluster import AsyncBag
from real_cluster import real_cluster


@pytest.mark.parametrize("endpoint", [["127.0.0.1:7401"], 7401, None, b"127.0.0.1:7401"])
def test_an_endpoint_that_is_no_text_is_refused(endpoint: Any) -> None:
    """A list of endpoints in the place of one, or a port, is told in a line."""
    with pytest.raises(InvalidArgument, match="an endpoint is a str, host:port, and each"):
        AsyncClient(endpoint)


@pytest.mark.parametrize(
    "options", [{"session_timeout_s": "5"}, {"session_timeout_s": None}, {"name": 5}]
)
def test_an_option_of_a_wrong_type_is_refused(options: dict[str, Any]) -> None:
    """It is one of copycat's errors, as for an option that is out of range."""
    with pytest.raises(InvalidArgument):
        AsyncClient("127.0.0.1:7401", **options)


@pytest.mark.parametrize("timeout_s", [-1, -inf, nan, "5", -(10**400)])
def test_a_timeout_that_is_none_is_refused(timeout_s: Any) -> None:
    """Neither less than nothing nor what is no number is a time-out."""
    with pytest.raises(InvalidArgument, match="a timeout is a number of seconds"):
        AsyncClient("127.0.0.1:7401", timeout_s=timeout_s)


def test_a_timeout_that_is_larger_than_any_float_is_for_ever() -> None:
    """An int has no largest value; one that is too long for the clock waits for ever."""
    assert AsyncClient("127.0.0.1:7401", timeout_s=10**400).timeout_s == inf


def test_a_client_in_another_loop_is_refused() -> None:
    """What another loop asks for is not sent, as the answer could not reach it; the client goes on
    in its own."""
    with real_cluster() as cluster, asyncio.Runner() as runner:

        async def connect() -> tuple[AsyncClient, AsyncBag]:
            client = await AsyncClient(*cluster.endpoints).connect()
            return client, await client.open(AsyncBag, "bag")

        client, bag = runner.run(connect())

        async def elsewhere(call: Callable[[], Awaitable[Any]]) -> None:
            with pytest.raises(InvalidArgument, match="belongs to the event loop"):
                await call()

        asyncio.run(elsewhere(lambda: bag.add("never")))
        asyncio.run(elsewhere(lambda: client.open(AsyncBag, "another")))
        asyncio.run(elsewhere(client.close))

        async def go_on() -> None:
            assert client.state == "connected"
            assert await bag.add("first") == 1
            await client.close()

        runner.run(go_on())


def test_a_client_that_has_no_memory_for_an_answer_asks_again() -> None:
    """Nobody hears of a client's node that stops: its calls would wait for ever, past their time-outs,
    and it would go on to rely on its session. The link ends instead, and the next one brings it."""
    feed = FrameReader.feed

    async def main() -> None:
        async with AsyncClient(*cluster.endpoints, timeout_s=10) as client:
            bag = await client.open(AsyncBag, "bag")
            assert client._household is not None
            links = client._household.node.links  # type: ignore[attr-defined]
            own = {id(link._reader) for link in links._dialled.values()}

            def feed_once_without_memory(reader: FrameReader, data: bytes) -> list[bytes]:
                if id(reader) in own:
                    own.clear()
                    raise MemoryError
                return feed(reader, data)

            patch.setattr(FrameReader, "feed", feed_once_without_memory)
            assert await asyncio.wait_for(bag.add("first"), 20) == 1
            assert not own

    with real_cluster() as cluster, pytest.MonkeyPatch.context() as patch:
        asyncio.run(main())
