"""What a server tells of itself is true when it is asked."""

import asyncio

import pytest

from copycat.actors.simulation import Simulation
from copycat.resources import AsyncDistributedCounter
from copycat.server.applier import Applier
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
