"""Events come once, in order, and before what was answered after them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.client import (
    AttachSession,
    ResetEvents,
)
from fake_cluster import FakeCluster, batches, client_of, session_of


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(8) as simulation:
        yield simulation


@pytest.fixture
def cluster(simulation: Simulation) -> FakeCluster:
    return FakeCluster(simulation)


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
            assert batches(cluster)[-1].event_index == session.event_index
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
            assert attached[-1].event_index == session_of(cluster, client).event_index

    simulation.run(run())
