"""After a failed sync the system takes what was not saved for saved; a restart makes it good.

Found by seeds with failing syncs: the process stopped, was started again, read what it had written,
synced it, which did nothing, acknowledged more behind it, and lost all of it with the power.
"""

import pytest

from copycat.actors.simulation import Simulation
from copycat.errors import OutcomeUnknown
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.map import AsyncDistributedMap
from copycat.testing.cluster import SimulatedCluster

SEVERAL_PAGES_BYTES = 4_096  # so that not every page is written again by what comes after


async def increment(cluster: SimulatedCluster) -> int:
    async with cluster.client() as client:
        return await (await client.open(AsyncDistributedCounter, "hits")).increment()


async def doubtful_put(cluster: SimulatedCluster) -> None:
    client = await cluster.client(name="doubtful").connect()
    users = await client.open(AsyncDistributedMap[str, bytes], "users")
    cluster.disks["n1"].fail_next_sync()
    with pytest.raises(OutcomeUnknown):
        await users.put("some", bytes(SEVERAL_PAGES_BYTES), timeout_s=1.0)
    cluster.simulation.crash("doubtful")


def test_what_a_failed_sync_left_is_written_again(seed: int) -> None:
    """Killed by a failed sync, started again without a loss of power, then the power goes."""
    with Simulation(seed) as simulation:
        cluster = SimulatedCluster(simulation, servers=1)
        cluster.start()
        assert cluster.run(increment(cluster), timeout_s=20) == 1
        cluster.run(doubtful_put(cluster), timeout_s=20)
        assert cluster.disk_failures == 1
        cluster.start("n1")
        acknowledged = cluster.run(increment(cluster), timeout_s=20)
        cluster.restart("n1")
        assert cluster.run(increment(cluster), timeout_s=20) == acknowledged + 1
