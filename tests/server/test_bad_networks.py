"""A network that loses a third of what it carries, slowly: the cluster is led, if it is told so."""

import pytest

from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from copycat.errors import ConfigurationError
from copycat.resources import AsyncDistributedCounter
from copycat.server.options import ServerOptions
from copycat.testing.cluster import CATALOG, SimulatedCluster

BAD = NetworkFaults(delay_s=0.1, loss=0.3)  # of each message, each way
HEARTBEAT_S = 0.3
TIMEOUT_MIN_S, TIMEOUT_MAX_S = 3.0, 6.0
ELECTION_MAX_S = 5 * TIMEOUT_MAX_S
LED_S = 600


def alone(shortest_s: float, longest_s: float) -> ServerOptions:
    """A server with these election time-outs."""
    return ServerOptions(
        name="n1",
        peers={"n1": "n1:1"},
        catalog=CATALOG,
        election_timeout_min_s=shortest_s,
        election_timeout_max_s=longest_s,
    )


@pytest.mark.parametrize("world", range(3))
def test_a_bad_network_leaves_a_cluster_led(world: int) -> None:
    """Ten minutes without an election; then the leader crashes, and there is another one soon, who
    serves."""
    with Simulation(world, faults=BAD) as simulation:
        cluster = SimulatedCluster(
            simulation,
            heartbeat_s=HEARTBEAT_S,
            election_timeout_min_s=TIMEOUT_MIN_S,
            election_timeout_max_s=TIMEOUT_MAX_S,
        )
        cluster.start()
        leader = cluster.wait_for_leader(ELECTION_MAX_S)
        term = cluster.server(leader).ballot.term
        simulation.run_for(LED_S)
        assert cluster.leader() == leader
        assert [cluster.server(name).ballot.term for name in cluster.names] == [term] * 3
        assert cluster.server(leader).log.last_index == 1
        cluster.crash(leader)
        cluster.run_until(lambda: cluster.leader() not in (None, leader), ELECTION_MAX_S)

        async def count() -> int:
            async with cluster.client(timeout_s=60, session_timeout_s=60) as client:
                return await (await client.open(AsyncDistributedCounter, "hits")).increment()

        assert cluster.run(count(), timeout_s=120) == 1


def test_no_session_is_shorter_than_an_election() -> None:
    """The shortest session grows with the election time-out, and is a second for most."""
    assert alone(0.3, 0.6).session_timeout_min_s == 1.0
    assert alone(3.0, 6.0).session_timeout_min_s == 9.0
    with pytest.raises(ConfigurationError, match="the longest may be 2400 s"):
        alone(2000.0, 3000.0)
