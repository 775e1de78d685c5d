"""A follower that was away while a leader was elected is sent what it lacks, not the whole log."""

from typing import Any
from unittest.mock import patch

from copycat.actors.simulation import Simulation
from copycat.resources.counter import AsyncDistributedCounter
from copycat.server.replicator import Replicator
from copycat.storage.batch import Batch
from copycat.testing.cluster import SimulatedCluster

INCREMENTS = 100


def test_a_late_follower_is_not_sent_what_it_has() -> None:
    """The leader knew of no match yet when the link came up, and began with the first entry."""
    sent: list[tuple[str, int]] = []
    send = Replicator._send

    def count_and_send(
        replicator: Replicator, now_s: float, records: list[bytes], last_index: int
    ) -> None:
        bases = [Batch.decode(record).base_index for record in records]
        sent.extend((replicator._peer.name, base) for base in bases)
        send(replicator, now_s, records, last_index)

    async def work(cluster: SimulatedCluster) -> None:
        async with cluster.client() as client:
            hits: Any = await client.open(AsyncDistributedCounter, "hits")
            for _ in range(INCREMENTS):
                await hits.increment()

    with Simulation(1) as simulation, patch.object(Replicator, "_send", count_and_send):
        cluster = SimulatedCluster(simulation)
        cluster.start()
        first = cluster.wait_for_leader()
        cluster.run(work(cluster), timeout_s=60)
        cluster.settle()
        late = next(name for name in cluster.names if name != first)
        had = cluster.server(late).log.last_index
        cluster.crash(late)
        cluster.restart(first)
        cluster.wait_for_leader()
        cluster.simulation.run_for(1)
        sent.clear()
        cluster.start(late)
        cluster.settle()
        lacked = [index for name, index in sent if name == late]
        assert lacked, "the new leader's first entry, at least"
        assert min(lacked) > had
