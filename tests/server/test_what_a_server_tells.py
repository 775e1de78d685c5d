"""What a server tells of itself is true when it is asked."""

import asyncio

import pytest

from copycat.actors import NodeAddress
from copycat.actors.simulation import Simulation
from copycat.protocol.raft import AppendEntries
from copycat.resources import AsyncDistributedCounter
from copycat.server.applier import Applier
from copycat.server.roles.follower import Follower
from copycat.server.status import status_of
from copycat.testing.cluster import SimulatedCluster


def test_a_server_says_for_how_long_it_has_applied_nothing() -> None:
    """Only while something is committed that it has not applied, and from that moment on."""
    with Simulation(41) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()

        def stood_ms() -> int:
            return status_of(cluster.server("n3"), 1).apply_stood_ms

        async def story() -> None:
            async with cluster.client() as client:
                counter = await client.open(AsyncDistributedCounter, "c")
                await counter.increment()
                await asyncio.sleep(5)
                assert stood_ms() == 0
                work = Applier._work
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(
                        Applier,
                        "_work",
                        lambda applier: None if applier.address.node == "n3" else work(applier),
                    )
                    await counter.increment()
                    await asyncio.sleep(0.5)
                    assert 0 < stood_ms() <= 500
                    await counter.increment()
                    await asyncio.sleep(2)
                    assert 2000 < stood_ms() <= 2500 + 100
                await counter.increment()
                await asyncio.sleep(0.2)
                assert stood_ms() == 0

        cluster.run(story(), timeout_s=60)


def test_a_leader_says_for_how_long_a_follower_has_taken_nothing_over() -> None:
    """It answers, and lacks what is committed: as one that has no memory for the next entry."""
    with Simulation(42) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        answer = Follower._take_over

        def take_nothing(follower: Follower, message: AppendEntries, sender: NodeAddress) -> None:
            if follower.address.node != behind or not message.batches:
                answer(follower, message, sender)

        behind = ""

        async def story() -> None:
            nonlocal behind
            async with cluster.client() as client:
                counter = await client.open(AsyncDistributedCounter, "c")
                await counter.increment()
                await asyncio.sleep(20)
                leader = cluster.leader()
                assert leader is not None
                behind = next(name for name in cluster.names if name != leader)

                def stood_ms() -> int | None:
                    peers = status_of(cluster.server(leader), 1).peers
                    return next(peer.match_stood_ms for peer in peers if peer.name == behind)

                assert stood_ms() == 0
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Follower, "_take_over", take_nothing)
                    await counter.increment()
                    await asyncio.sleep(3)
                    assert 2900 < (stood_ms() or 0) <= 3200
                    peers = status_of(cluster.server(behind), 1).peers
                    assert {peer.match_stood_ms for peer in peers} == {None}
                await asyncio.sleep(2)
                assert stood_ms() == 0

        simulation.run(story(), timeout_s=200)


def test_a_leader_serves_when_it_has_applied_what_was_before() -> None:
    """It says so only then, and others never do."""
    with Simulation(43) as simulation:
        cluster = SimulatedCluster(simulation)

        def serving() -> list[str]:
            return [name for name in cluster.names if status_of(cluster.server(name), 1).serves]

        async def story() -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Applier, "_work", lambda applier: None)
                cluster.start()
                await asyncio.sleep(5)
                assert cluster.leader() is not None
                assert serving() == []
                cluster.crash()
            cluster.start()
            async with cluster.client() as client:
                await client.open(AsyncDistributedCounter, "c")
                assert serving() == [cluster.leader()]

        simulation.run(story(), timeout_s=200)
