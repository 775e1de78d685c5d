"""A session is opened, kept alive, lost, replaced and closed."""

import asyncio
from typing import Any

import pytest

from copycat.actors.simulation import Simulation
from copycat.client.contact import Contact
from copycat.errors import (
    NoLeader,
    OutcomeUnknown,
    SessionExpired,
    WrongResourceType,
)
from copycat.protocol.client import (
    KeepAlive,
    Refusal,
)
from fake_cluster import AsyncBag, AsyncSack, FakeCluster, batches, client_of


def test_a_lost_session_is_replaced(simulation: Simulation, cluster: FakeCluster) -> None:
    """Handles are told of the loss before the new session, and calls work again."""

    async def run() -> list[tuple[str, bool]]:
        async with client_of(cluster) as client:
            told: list[tuple[str, int]] = []
            old = client.session_id
            client.on_session(lambda state, session: told.append((state, session)))
            await client.submit_command(1, "append", 1)
            cluster.expire()
            await asyncio.sleep(1.0)
            assert await client.submit_command(1, "append", 2) == 2
            assert client.session_id not in (0, old)
            return [(state, session == old) for state, session in told]

    assert simulation.run(run()) == [("lost", True), ("connecting", False), ("connected", False)]
    assert batches(cluster)[-1].first_sequence == 1


def test_the_only_copy_was_refused_with_the_session(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A command whose only copy met an ended session was not applied; one with two may have been."""

    async def run() -> None:
        async with client_of(cluster) as client:
            for session in cluster.sessions.values():
                session.connection = None  # nobody is told
            cluster.expire()
            with pytest.raises(SessionExpired):
                await client.submit_command(1, "append", 1)
            await client.submit_command(1, "append", 2)
            cluster.mute = True
            twice = client.submit_command(1, "append", 3, timeout_s=60)
            await asyncio.sleep(1.2)  # it was sent again
            for session in cluster.sessions.values():
                session.connection = None
            cluster.expire()
            with pytest.raises(OutcomeUnknown):
                await twice

    simulation.run(run())


def test_unsent_calls_of_a_lost_session_expire(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """What had not been sent in the old session is not sent in the new one by itself."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "")
            sent = client.submit_command(1, "append", 1)
            await asyncio.sleep(0.004)
            unsent = client.submit_command(1, "append", 2)
            query = client.submit_query(1, "items")
            await asyncio.sleep(0)
            cluster.expire()
            cluster.refusal = None
            return await asyncio.gather(sent, unsent, query, return_exceptions=True)

    results = simulation.run(run())
    assert [type(result) for result in results] == [SessionExpired] * 3
    assert all(str(result).startswith("as planned: this was not applied") for result in results)
    assert 1 not in cluster.lists


def test_keep_alives_keep_a_session_and_silence_makes_it_doubtful(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Idle sessions are kept alive; 80 % of the timeout without contact is told, and recovery."""

    async def run() -> list[str]:
        async with client_of(cluster, session_timeout_s=6.0) as client:
            told: list[str] = []
            client.on_session(lambda state, _: told.append(state))
            await asyncio.sleep(30.0)
            assert client.state == "connected"
            assert 10 <= cluster.count(KeepAlive) <= 20
            cluster.silent.update(cluster.names)
            begin_s = simulation.now_s
            while client.state == "connected":
                await asyncio.sleep(0.1)
            assert 2.7 < simulation.now_s - begin_s < 5.0
            cluster.silent.clear()
            await asyncio.sleep(6.0)
            return list(told)

    assert simulation.run(run()) == ["suspended", "connected"]


def test_a_late_answer_is_not_taken_for_that_of_a_later_keep_alive() -> None:
    """The cluster may have heard of the first one only, and ends the session that much earlier."""
    contact = Contact(lambda _: None)
    contact.begin(6.0, 0.0, 0.0)
    first, second = contact.keep_alive_sent(2.0), contact.keep_alive_sent(3.0)
    contact.keep_alive_answered(first, 3.5)
    assert contact.doubtful_at_s == pytest.approx(2.0 + 0.8 * 6.0)
    contact.keep_alive_sent(4.5)
    contact.keep_alive_answered(first, 4.6)
    assert contact.doubtful_at_s == pytest.approx(2.0 + 0.8 * 6.0)
    contact.keep_alive_answered(second, 4.7)
    assert contact.doubtful_at_s == pytest.approx(3.0 + 0.8 * 6.0)


def test_a_session_that_took_long_to_open_is_known_at_once(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """It may have ended before its client heard of it, and so it is doubtful; but it has an id."""

    async def run() -> None:
        cluster.leader = ""
        client = client_of(cluster, session_timeout_s=1.0)
        connecting = asyncio.ensure_future(client.connect())
        await asyncio.sleep(2.0)
        cluster.elect("n1")
        await connecting
        assert [client.session_id] == list(cluster.sessions)
        assert client.state == "suspended"
        await asyncio.sleep(0.1)
        assert client.state == "connected"
        await client.close()

    simulation.run(run())


def test_opening_resources(simulation: Simulation, cluster: FakeCluster) -> None:
    """Opening finds or makes, waits for a leader, is remembered, and refuses another type."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.leader = ""
            opening = asyncio.ensure_future(client.open(AsyncBag, "things"))
            await asyncio.sleep(0.5)
            cluster.elect("n2")
            bag = await opening
            assert (await client.open(AsyncBag, "things")).id == bag.id
            with pytest.raises(WrongResourceType, match="things"):
                await client.open(AsyncSack, "things")
            cluster.leader = ""
            with pytest.raises(NoLeader):
                await client.open(AsyncBag, "others", timeout_s=0.5)

    simulation.run(run())
