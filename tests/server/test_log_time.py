"""Log time is time under leaders that serve: none of it is lost, and nothing else is counted."""

import asyncio
from collections.abc import Iterator

import pytest

from copycat.actors.simulation import Simulation
from copycat.machine import Catalog
from copycat.resources import AsyncDistributedLock
from copycat.testing.cluster import CATALOG, SimulatedCluster
from simulated_servers import Tally, TallyHandle

TYPES = Catalog({**CATALOG, "tally": Tally})
HEARTBEAT_S = 0.05
NO_LEADER_MAX_S = 3.0  # an election takes less, with its time-out


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Three servers, one of which leads."""
    with Simulation(3) as simulation:
        three = SimulatedCluster(simulation, catalog=TYPES)
        three.start()
        three.wait_for_leader()
        yield three


def arm(cluster: SimulatedCluster, delay_s: float) -> None:
    """Set a timer; its client goes away, so that nothing else is appended."""

    async def story() -> None:
        async with cluster.client() as client:
            await (await client.open(TallyHandle, "alarm")).command("later", delay_s)

    cluster.run(story(), timeout_s=10)


def has_fired(cluster: SimulatedCluster) -> bool:
    """Whether the timer has fired, by the state of the server that leads."""
    leader = cluster.leader()
    if leader is None:
        return False
    server = cluster.server(leader)
    if "alarm" not in server.progress.resources:
        return False
    resource, _, _ = server.progress.resources["alarm"]
    applier = cluster.node(leader).actor_at(server.applier.serial)
    tally = cluster.node(leader).actor_at(applier._router.resources[resource].serial).machine
    assert isinstance(tally, Tally)
    return bool(tally.fired)


def change_leader(cluster: SimulatedCluster) -> None:
    old = cluster.wait_for_leader()
    cluster.crash(old)
    cluster.run_until(lambda: cluster.leader() not in (None, old))
    cluster.start(old)


def test_time_without_entries_outlives_its_leader(cluster: SimulatedCluster) -> None:
    """A timer of 60 s, an idle cluster, and three changes of leader: it fires when it is due,
    but for the time without a leader."""
    arm(cluster, 60.0)
    armed_s = cluster.simulation.now_s
    for _ in range(3):
        cluster.simulation.run_for(15)
        change_leader(cluster)
    cluster.run_until(lambda: has_fired(cluster), timeout_s=60)
    took_s = cluster.simulation.now_s - armed_s
    assert 60 - HEARTBEAT_S <= took_s <= 60 + 3 * NO_LEADER_MAX_S


def test_little_time_is_lost_when_all_servers_start_again(cluster: SimulatedCluster) -> None:
    """Nobody is left who has heard of it, but while a timer is pending it is in the log once a
    minute: a timer of ten minutes does not begin anew after nine."""
    arm(cluster, 600.0)
    armed_s = cluster.simulation.now_s
    cluster.simulation.run_for(540)
    cluster.restart()
    cluster.run_until(lambda: has_fired(cluster), timeout_s=600)
    took_s = cluster.simulation.now_s - armed_s
    assert 600 - HEARTBEAT_S <= took_s <= 600 + 60 + NO_LEADER_MAX_S


def test_an_idle_cluster_with_nothing_pending_appends_nothing(cluster: SimulatedCluster) -> None:
    """Ticks are for what waits."""
    last_index = cluster.server(cluster.wait_for_leader()).log.last_index
    cluster.simulation.run_for(1000)
    assert cluster.server(cluster.wait_for_leader()).log.last_index == last_index


def test_time_without_a_leader_is_none(cluster: SimulatedCluster) -> None:
    """Half an hour in which two of three servers are down ages no session and no timer."""
    arm(cluster, 60.0)
    armed_s = cluster.simulation.now_s
    cluster.crash("n1", "n2")
    cluster.simulation.run_for(1800)
    cluster.start("n1", "n2")
    cluster.wait_for_leader()
    cluster.simulation.run_for(50)
    assert not has_fired(cluster)
    cluster.run_until(lambda: has_fired(cluster), timeout_s=20)
    assert cluster.simulation.now_s - armed_s >= 1800 + 55


@pytest.mark.parametrize("by_s", [-0.5, -5.0, -86_400.0])
def test_a_clock_that_is_set_back_stops_nothing(cluster: SimulatedCluster, by_s: float) -> None:
    """The leader goes on saying that it leads, its timers fire, its sessions live and end in time;
    and it says what has happened, once."""
    leader = cluster.wait_for_leader()
    term = cluster.server(leader).ballot.term

    async def story() -> float:
        async with cluster.client(session_timeout_s=5) as client:
            tally = await client.open(TallyHandle, "alarm")
            lock = await client.open(AsyncDistributedLock, "lock")
            grant = await lock.acquire()
            await tally.command("later", 10.0)
            armed_s = cluster.simulation.now_s
            await asyncio.sleep(1)
            cluster.node(leader).clock.jump_monotonic(by_s)
            await tally.command("add")
            await cluster.until(lambda: has_fired(cluster))
            assert not grant.lost.is_set()
            return cluster.simulation.now_s - armed_s

    took_s = cluster.run(story(), timeout_s=40)
    assert 10 - HEARTBEAT_S <= took_s <= 10 + 3 * HEARTBEAT_S
    server = cluster.server(leader)
    assert (cluster.leader(), server.ballot.term) == (leader, term)
    assert len([note for note in server.notes.all() if "set its monotonic clock back" in note]) == 1
