"""Events come once, in order, and before what was answered after them."""

import asyncio
from typing import Any

import pytest

from copycat.actors.codec import encode
from copycat.actors.simulation import Simulation
from copycat.client.event_order import MANY_MESSAGES, many_bytes
from copycat.protocol.client import (
    AttachSession,
    Events,
    KeepAlive,
    KeepAliveReply,
    Refusal,
    ResetEvents,
    ResetEventsReply,
)
from fake_cluster import FakeCluster, FakeSession, batches, client_of, session_of


def test_events_come_once_and_in_order(simulation: Simulation, cluster: FakeCluster) -> None:
    """A gap makes the client ask once; what comes twice is dropped; acknowledgements follow."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            told: list[Any] = []
            client.listen(5, lambda event, values, index: told.append((event, values[0])))
            session = session_of(cluster, client)
            cluster.publish(session, [5, "said", [1]])
            cluster.publish(session, [5, "said", [2]], [5, "said", [3]], lose=True)
            cluster.publish(session, [5, "said", [4]], [6, "said", [0]])
            cluster.publish(session, [5, "said", [5]])
            await asyncio.sleep(0.1)
            assert session.connection is not None
            session.connection.say_events_after(0)
            await asyncio.sleep(0.1)
            await client.submit_command(1, "append", 1)
            assert batches(cluster)[-1].event_sequence == session.event_sequence
            return told

    assert simulation.run(run()) == [("said", number) for number in range(1, 6)]
    assert cluster.count(ResetEvents) == 1


def test_events_go_on_after_a_move(simulation: Simulation, cluster: FakeCluster) -> None:
    """The new server sends what the old one could not, and the client drops what it has."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            told: list[int] = []
            client.listen(5, lambda event, values, index: told.append(values[0]))
            session = session_of(cluster, client)
            cluster.publish(session, [5, "said", [1]])
            await asyncio.sleep(0.1)
            simulation.crash("n1", silent=False)
            cluster.publish(session, [5, "said", [2]])
            cluster.elect("n2")
            await asyncio.sleep(1.0)
            cluster.publish(session, [5, "said", [3]])
            await asyncio.sleep(0.1)
            return told

    assert simulation.run(run()) == [1, 2, 3]


def test_events_come_before_the_answers_of_later_commands(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Who awaits a command has been told what was published before it."""

    async def run() -> list[str]:
        async with client_of(cluster) as client:
            order: list[str] = []
            client.listen(1, lambda *_: order.append("event"))
            for _ in range(5):
                await client.submit_command(1, "publish", 1)
                await client.submit_command(1, "append", 1)
                order.append("answer")
            return order

    assert simulation.run(run()) == ["event", "answer"] * 5


def test_a_failing_listener_does_not_stop_the_others(
    simulation: Simulation, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exception is logged, and the next listener is told."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            told: list[Any] = []

            def fail(event: str, values: list[Any], index: int) -> None:
                raise ZeroDivisionError

            def note(event: str, values: list[Any], index: int) -> None:
                told.append(values)
                client.unlisten(1, note)

            client.listen(1, fail)
            client.listen(1, note)
            await client.submit_command(1, "publish", 1)
            await client.submit_command(1, "publish", 2)
            await client.submit_command(1, "append", 2)
            return told

    assert simulation.run(run()) == [[1]]
    assert "listener failed" in caplog.text


def test_attaching_asks_for_the_last_event(simulation: Simulation, cluster: FakeCluster) -> None:
    """A new connection starts where the old one stopped."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.publish(session_of(cluster, client), [5, "said", [1]])
            await asyncio.sleep(0.1)
            simulation.network.reset("n1", client._household.node.name)  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            attached = [message for message in cluster.received if type(message) is AttachSession]
            assert attached[-1].event_sequence == session_of(cluster, client).event_sequence

    simulation.run(run())


def test_a_question_is_repeated_only_for_what_was_lost_again(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """What was on its way before the answer to a question proves nothing: however many gaps there
    are, and however late the answer comes, it is the same question; behind it there is a next."""

    async def run() -> Any:
        async with client_of(cluster, session_timeout_s=SESSION_TIMEOUT_S) as client:
            told: list[Any] = []
            client.listen(5, lambda event, values, index: told.append(values[0]))
            session = session_of(cluster, client)
            cluster.ignores_resets = True
            cluster.publish(session, [5, "said", [1]], lose=True)
            for number in range(2, 9):
                cluster.publish(session, [5, "said", [number]])
                await asyncio.sleep(0.5)
            assert session.connection is not None
            session.connection.say(ResetEventsReply(session.number, 1))
            await asyncio.sleep(2)
            assert [message.number for message in questions(cluster)] == [1, 1, 1, 1]
            cluster.ignores_resets = False
            cluster.publish(session, [5, "said", [9]])
            await asyncio.sleep(2)
            assert [message.number for message in questions(cluster)][4:] == [2]
            return told

    assert simulation.run(run()) == [*range(1, 10)]


def test_the_last_events_are_missed_by_what_a_keep_alive_is_answered(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """No event comes behind a lost one; but its server has sent it before the keep-alive's answer."""

    async def run() -> Any:
        async with client_of(cluster, session_timeout_s=6) as client:
            told: list[Any] = []
            client.listen(5, lambda event, values, index: told.append(values[0]))
            cluster.publish(session_of(cluster, client), [5, "said", [1]], lose=True)
            await asyncio.sleep(1)
            assert told == []
            await asyncio.sleep(2)
            return told

    assert simulation.run(run()) == [1]
    assert cluster.count(ResetEvents) == 1


def test_of_a_part_that_has_come_already_the_rest_is_new(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Another server may divide the events of an entry in another way."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            told: list[Any] = []
            client.listen(5, lambda event, values, index: told.append((values[0], index)))
            session = session_of(cluster, client)
            cluster.publish(session, [5, "said", [1]], [5, "said", [2]])
            whole = (*session.events[0].events, encode([5, "said", [3]]))
            assert session.connection is not None
            session.connection.say(Events(session.number, 1, cluster.index, whole))
            session.connection.say(Events(session.number, 2, cluster.index, whole[1:]))
            await asyncio.sleep(0.1)
            return told, cluster.index

    told, index = simulation.run(run())
    assert told == [(1, index), (2, index), (3, index)]
    assert cluster.count(ResetEvents) == 0


SESSION_TIMEOUT_S = 60.0  # its keep-alives come every 20 s, and after 10 s once more


async def publish_many(cluster: FakeCluster, session: FakeSession, messages: int) -> None:
    for number in range(messages):
        cluster.publish(session, [5, "said", [number]])
    await asyncio.sleep(0.1)


def questions(cluster: FakeCluster) -> list[ResetEvents]:
    """For events that the client misses."""
    return [message for message in cluster.received if type(message) is ResetEvents]


def acknowledged(cluster: FakeCluster) -> list[int]:
    """The events up to which keep-alives have acknowledged."""
    return [message.event_sequence for message in cluster.received if type(message) is KeepAlive]


def test_many_events_are_acknowledged_at_once(simulation: Simulation, cluster: FakeCluster) -> None:
    """A client that only listens says what it has after many messages or bytes, and not before."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=SESSION_TIMEOUT_S) as client:
            session = session_of(cluster, client)
            await publish_many(cluster, session, MANY_MESSAGES - 1)
            assert acknowledged(cluster) == []
            expected = []
            for _ in range(2):
                await publish_many(cluster, session, 1)
                expected.append(session.event_sequence)
                assert acknowledged(cluster) == expected
                await publish_many(cluster, session, MANY_MESSAGES - 1)
                assert acknowledged(cluster) == expected
            await client.submit_command(1, "append", 1)  # acknowledges, too
            await publish_many(cluster, session, MANY_MESSAGES - 1)
            assert acknowledged(cluster) == expected
            cluster.publish(session, [5, "said", [bytes(many_bytes())]])
            await asyncio.sleep(0.1)
            assert acknowledged(cluster) == [*expected, session.event_sequence]

    simulation.run(run())


def test_one_acknowledgement_is_on_its_way(simulation: Simulation, cluster: FakeCluster) -> None:
    """While a keep-alive is unanswered no more are sent for events; with its answer the next is."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=SESSION_TIMEOUT_S) as client:
            session = session_of(cluster, client)
            cluster.swallows = True
            await publish_many(cluster, session, 5 * MANY_MESSAGES)
            assert len(acknowledged(cluster)) == 1
            assert session.connection is not None
            session.connection.say(KeepAliveReply(session.number, 1, session.event_sequence))
            await asyncio.sleep(0.1)
            assert acknowledged(cluster)[1:] == [session.event_sequence]
            await publish_many(cluster, session, MANY_MESSAGES)
            assert len(acknowledged(cluster)) == 2
            await asyncio.sleep(SESSION_TIMEOUT_S / 6)
            assert acknowledged(cluster)[2:] == [session.event_sequence]  # the second, once more

    simulation.run(run())


def test_a_refused_acknowledgement_is_repeated_in_peace(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Refusals do not make a client send more than a few keep-alives each second."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=SESSION_TIMEOUT_S) as client:
            session = session_of(cluster, client)
            cluster.refusal = (Refusal.OVERLOADED, "")
            for _ in range(10):
                await publish_many(cluster, session, 2 * MANY_MESSAGES)
            assert 4 <= len(acknowledged(cluster)) <= 6  # one each 0.2 s
            cluster.refusal = None
            await asyncio.sleep(0.5)
            assert acknowledged(cluster)[-1] == session.event_sequence

    simulation.run(run())
