"""Queries keep their place among the commands of their session."""

import asyncio
from concurrent.futures import Future
from math import inf
from typing import Any

import pytest

from copycat.actors import NodeAddress
from copycat.actors.simulation import Simulation
from copycat.client.calls import CommandCall, QueryCall
from copycat.client.commands import Commands
from copycat.client.deadlines import Deadlines
from copycat.client.patience import OVERLOADED_LAST_S
from copycat.client.queries import Queries
from copycat.client.window import Room, Window
from copycat.errors import Overloaded
from copycat.protocol.client import (
    Consistency,
    KeepAlive,
    Refusal,
    SubmitQueries,
)
from fake_cluster import FakeCluster, client_of


def test_queries_follow_commands(simulation: Simulation, cluster: FakeCluster) -> None:
    """A query sees the commands submitted before it, and its sequence says so."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            client.submit_command(1, "append", "a")
            first = client.submit_query(1, "items")
            client.submit_command(1, "append", "b")
            await asyncio.sleep(0)
            client.submit_command(1, "append", "c")
            second = client.submit_query(1, "items", consistency=Consistency.SEQUENTIAL)
            return await asyncio.gather(first, second)

    first, second = simulation.run(run())
    assert "a" in first
    assert second == ["a", "b", "c"]
    sent = [message for message in cluster.received if type(message) is SubmitQueries]
    assert {message.consistency: message.sequence for message in sent} == {0: 2, 1: 3}


def test_every_attempt_of_a_query_has_its_own_number(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """After a refusal or a lost connection a new read is drawn, so late answers fit nothing."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            await client.submit_command(1, "append", "a")
            cluster.leader = ""
            query = client.submit_query(1, "items")
            await asyncio.sleep(0.5)
            cluster.elect("n1")
            return await query

    assert simulation.run(run()) == ["a"]
    reads = [message.read for message in cluster.received if type(message) is SubmitQueries]
    assert len(reads) > 2
    assert len(set(reads)) == len(reads)


def test_a_query_never_outruns_a_command(simulation: Simulation, cluster: FakeCluster) -> None:
    """An answer to a query waits for the missing answers to commands before it."""

    async def run() -> list[str]:
        async with client_of(cluster) as client:
            order: list[str] = []
            cluster.mute = True
            command = client.submit_command(1, "append", 1)
            query = client.submit_query(1, "items")
            command.add_done_callback(lambda _: order.append("command"))
            query.add_done_callback(lambda _: order.append("query"))
            await asyncio.sleep(0.5)
            assert not order
            cluster.mute = False
            await asyncio.gather(command, query)
            return order

    assert simulation.run(run()) == ["command", "query"]


def test_queries_alone_do_not_keep_a_session(simulation: Simulation, cluster: FakeCluster) -> None:
    """Only what reaches the log renews a session, so a session of readers sends keep-alives."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=3.0) as client:
            for _ in range(100):
                await client.submit_query(1, "items")
                await asyncio.sleep(0.1)

    simulation.run(run())
    assert cluster.count(KeepAlive) >= 7


def test_a_query_does_not_wait_for_a_withdrawn_command(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A read that waits for a sequence which was taken back is asked anew at once."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "")
            cluster.refuses_queries = False
            command = client.submit_command(1, "append", 1, timeout_s=0.5)
            query = client.submit_query(1, "items", timeout_s=5.0)
            with pytest.raises(Overloaded):
                await command
            cluster.refusal = None
            begin_s = simulation.now_s
            items = await query
            assert simulation.now_s - begin_s < 1.5 * OVERLOADED_LAST_S  # a back-off at most
            return items

    assert simulation.run(run()) == []


def test_joined_queries_see_all_that_each_of_them_would() -> None:
    """Queries that were refused in another order than sent still follow their commands."""
    sent: list[Any] = []
    room = Room(Window(), NodeAddress("c", 1, 1))

    def send(message: Any, _now_s: float) -> None:
        sent.append(message)

    commands = Commands(send, Deadlines(), room)
    queries = Queries(send, Deadlines(), commands, room)

    def call() -> QueryCall:
        return QueryCall((1, "items"), inf, Future(), Consistency.LINEARIZABLE)

    for _ in range(2):
        commands.submit([CommandCall((1, "append", 0), inf, Future())])
        commands.send_waiting(0.0, 5, 5)
        queries.submit([call()], Consistency.LINEARIZABLE, commands.last_ordinal)
        queries.send_waiting(0.0, 5, 5)
    assert queries.refused(1)
    assert queries.refused(2)
    queries.send_waiting(0.0, 5, 5)
    assert (sent[-1].count, sent[-1].sequence) == (2, 2)
