"""What a cluster does when one thing goes wrong: no chance but the seed's, step by step."""

import asyncio
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from copycat import AsyncClient
from copycat.actors.simulation import Simulation
from copycat.errors import IdentityRefused, NotApplied, OutcomeUnknown
from copycat.protocol import client as protocol
from copycat.protocol.client import KeepAlive
from copycat.resources.changes import Put, Resync
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.lock import AsyncDistributedLock
from copycat.resources.map import AsyncDistributedMap
from copycat.server import session as session_module
from copycat.testing.cluster import SimulatedCluster

ELECTION_S = 3.0  # an election takes less, with its time-out


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Three servers, one of which leads."""
    with Simulation(1) as simulation:
        three = SimulatedCluster(simulation)
        three.start()
        three.wait_for_leader()
        yield three


def leader_of(cluster: SimulatedCluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def others(cluster: SimulatedCluster, *names: str) -> list[str]:
    return [name for name in cluster.names if name not in names]


def value_of(cluster: SimulatedCluster) -> int:
    """The counter, as a fresh client reads it."""

    async def read() -> int:
        async with cluster.client() as client:
            return await (await client.open(AsyncDistributedCounter, "hits")).value()

    return cluster.run(read(), timeout_s=30)


def increment(cluster: SimulatedCluster, times: int = 1) -> int:
    """Count with a fresh client."""

    async def count() -> int:
        async with cluster.client() as client:
            hits = await client.open(AsyncDistributedCounter, "hits")
            value = 0
            for _ in range(times):
                value = await hits.increment()
            return value

    return cluster.run(count(), timeout_s=60)


async def counter_beside(
    cluster: SimulatedCluster, server: str, **options: Any
) -> tuple[AsyncClient, AsyncDistributedCounter]:
    """A connected client that a cut around this server leaves on the server's side."""
    client = cluster.client(name=f"beside-{server}", **options)
    await client.connect()
    return client, await client.open(AsyncDistributedCounter, "hits")


def isolate_with(cluster: SimulatedCluster, server: str, client: str) -> None:
    cluster.partition([server, client], others(cluster, server))


def test_a_cut_off_leader_neither_commits_nor_answers_reads(cluster: SimulatedCluster) -> None:
    """While it still thinks that it leads, what it is asked is not answered from its old state."""
    old = leader_of(cluster)
    client, hits = cluster.run(counter_beside(cluster, old), timeout_s=10)
    assert cluster.run(hits.increment(), timeout_s=10) == 1
    isolate_with(cluster, old, f"beside-{old}")
    committed = cluster.server(old).commit_index

    async def ask() -> list[Any]:
        calls = [hits.increment(timeout_s=2.0), hits.value(timeout_s=2.0)]
        return await asyncio.gather(*calls, return_exceptions=True)

    written, read = cluster.run(ask(), timeout_s=10)
    assert isinstance(written, OutcomeUnknown)
    assert isinstance(read, NotApplied)
    assert cluster.server(old).commit_index == committed
    assert cluster.leader() != old
    cluster.heal()
    cluster.run(client.close(), timeout_s=10)


def test_what_a_deposed_leader_has_not_committed_is_dropped(cluster: SimulatedCluster) -> None:
    """It appended alone; when it comes back its log becomes that of the new leader."""
    increment(cluster)
    old = leader_of(cluster)
    _, hits = cluster.run(counter_beside(cluster, old), timeout_s=10)
    isolate_with(cluster, old, f"beside-{old}")
    term = cluster.server(old).ballot.term
    kept = cluster.server(old).log.last_index

    async def write() -> None:
        with pytest.raises(OutcomeUnknown):
            await hits.increment(timeout_s=0.1)

    cluster.run(write(), timeout_s=5)
    assert cluster.server(old).log.last_index > kept
    cluster.run_until(lambda: cluster.leader() not in (None, old), ELECTION_S)
    increment(cluster)
    simulation = cluster.simulation
    simulation.crash(f"beside-{old}")  # or it would send its command again
    cluster.heal()
    cluster.settle()
    assert cluster.server(old).log.term_at(kept + 1) > term
    assert value_of(cluster) == 2


def test_a_restart_of_all_servers_keeps_what_was_acknowledged(cluster: SimulatedCluster) -> None:
    """Power is cut everywhere at once, right after an answer; then every answered call is there."""
    for acknowledged in range(1, 6):
        assert increment(cluster) == acknowledged
        cluster.crash()
        cluster.start()
        assert value_of(cluster) == acknowledged


def test_a_server_that_was_cut_off_does_not_depose_the_leader(cluster: SimulatedCluster) -> None:
    """It asked in vain whether it could win, so it comes back in the term it left (§9.6)."""
    leader = leader_of(cluster)
    term = cluster.server(leader).ballot.term
    away = others(cluster, leader)[0]
    cluster.isolate(away)
    cluster.simulation.run_for(60)
    increment(cluster, 3)
    assert cluster.server(away).ballot.term == term
    cluster.heal()
    cluster.settle()
    cluster.simulation.run_for(5)
    assert cluster.leader() == leader
    assert cluster.server(leader).ballot.term == term


def test_a_leader_whom_nobody_answers_steps_down(cluster: SimulatedCluster) -> None:
    """Its heartbeats arrive, the answers do not: it must not keep the others from electing."""
    old = leader_of(cluster)
    for name in others(cluster, old):
        cluster.simulation.network.cut_one_way(name, old)
    cluster.run_until(lambda: cluster.leader() not in (None, old), 2 * ELECTION_S)
    assert cluster.server(old).role_title != "leader"


def test_a_cut_between_two_servers_leaves_a_leader(cluster: SimulatedCluster) -> None:
    """Two of three do not see each other; the third sees both, and work goes on."""
    old = leader_of(cluster)
    one, other = others(cluster, old)
    cluster.simulation.network.cut(old, one)
    increment(cluster, 3)
    cluster.simulation.network.heal()
    cluster.simulation.network.cut(one, other)
    assert increment(cluster, 3) == 6
    terms = {cluster.server(name).ballot.term for name in cluster.running}
    cluster.simulation.run_for(30)
    assert max(terms) + 2 >= max(cluster.server(name).ballot.term for name in cluster.running)


def test_a_wiped_server_is_refused_under_its_old_name(cluster: SimulatedCluster) -> None:
    """It has forgotten its votes; the others say so, and it stops. They go on without it."""
    increment(cluster)
    wiped = others(cluster, leader_of(cluster))[0]
    cluster.crash(wiped)
    cluster.wipe(wiped)
    errors: list[BaseException] = []
    cluster.start(wiped)
    cluster.node(wiped).on_failure = errors.append
    cluster.run_until(lambda: errors, 10)
    assert isinstance(errors[0], IdentityRefused)
    assert wiped in str(errors[0])
    assert not cluster.is_running(wiped)
    assert increment(cluster) == 2


def test_a_server_of_another_cluster_is_refused() -> None:
    """Its disk says that it belongs to others of the same names: it is never let in."""
    with Simulation(2) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        cluster.wait_for_leader()
        increment(cluster)
        foreign = cluster.crash("n1")[0]
        image = cluster.disks[foreign].image()
    with Simulation(3) as simulation:
        cluster = SimulatedCluster(simulation, monitored=False)
        cluster.start()
        cluster.wait_for_leader()
        increment(cluster, 3)
        cluster.settle()
        cluster.crash(foreign)
        cluster.disks[foreign].restore(image)
        cluster.start(foreign)
        cluster.node(foreign).on_failure = lambda error: None
        simulation.run_for(10)
        stranger = simulation.nodes[foreign]
        assert stranger.stopped or cluster.server(foreign).commit_index == 0
        assert all(
            not cluster.server(name).peers[foreign].connected
            for name in cluster.running
            if name != foreign
        )
        assert increment(cluster) == 4


def test_a_session_expires_while_nobody_does_anything(cluster: SimulatedCluster) -> None:
    """The client dies with the lock; log time passes by ticks, and the lock is free again."""

    async def die_holding() -> None:
        client = cluster.client(name="holder", session_timeout_s=2.0)
        await client.connect()
        await (await client.open(AsyncDistributedLock, "nightly")).acquire()

    cluster.run(die_holding(), timeout_s=10)
    cluster.settle()
    cluster.simulation.crash("holder")
    began_s = cluster.simulation.now_s
    server = cluster.server(leader_of(cluster))
    assert len(server.progress.sequences) == 1
    cluster.run_until(lambda: not server.progress.sequences, 10)
    # Its last sign of life was the lock it asked for, a moment before it died.
    assert 1.9 < cluster.simulation.now_s - began_s < 4.0

    async def take() -> int:
        async with cluster.client() as client:
            nightly = await client.open(AsyncDistributedLock, "nightly")
            grant = await nightly.try_acquire()
            assert grant is not None
            return grant.token

    assert cluster.run(take(), timeout_s=10) > 0


def test_a_sign_of_life_that_comes_too_late_revives_nobody(cluster: SimulatedCluster) -> None:
    """The client is cut off until its session has expired; what it sent then changes nothing."""
    states: list[str] = []

    async def live() -> AsyncClient:
        client = cluster.client(name="late", session_timeout_s=2.0, timeout_s=inf)
        await client.connect()
        await client.open(AsyncDistributedCounter, "hits")
        client.on_session(lambda state, session: states.append(state))
        return client

    client = cluster.run(live(), timeout_s=10)
    expired = client.session_id
    cluster.partition(["late"], list(cluster.names))
    cluster.run_until(
        lambda: expired not in cluster.server(leader_of(cluster)).progress.sequences, 20
    )
    client._node.tell(client._session, KeepAlive(expired, 1, 0, 0))  # type: ignore[union-attr]
    cluster.heal()
    cluster.run_until(lambda: client.session_id not in (0, expired), 60)
    assert states[:2] == ["suspended", "lost"]
    assert expired not in cluster.server(leader_of(cluster)).progress.sequences
    hits = cluster.run(client.open(AsyncDistributedCounter, "hits"), timeout_s=10)
    assert cluster.run(hits.increment(), timeout_s=10) == 1


def test_a_new_leader_gives_every_session_its_time_again(cluster: SimulatedCluster) -> None:
    """Without a leader for longer than the session's time-out nobody is expired for it."""

    async def live() -> AsyncClient:
        client = cluster.client(session_timeout_s=1.0, timeout_s=inf)
        return await client.connect()

    client = cluster.run(live(), timeout_s=10)
    session = client.session_id
    cluster.crash()
    cluster.simulation.run_for(10)
    cluster.start()
    cluster.wait_for_leader()
    cluster.run_until(lambda: client.state == "connected", 10)
    cluster.simulation.run_for(5)
    assert client.session_id == session


def test_a_watcher_that_acknowledges_nothing_is_ended(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears, and is not heard: when too many events wait for it, its session ends on all
    servers, its lock goes to the next, and who listens properly misses nothing."""
    monkeypatch.setattr(session_module, "EVENTS_BYTES_MAX", 64 << 10)
    monkeypatch.setattr(protocol, "EVENTS_WINDOW_BYTES", 32 << 10)
    writes = 100  # of 1 KiB each
    states: list[str] = []

    async def story() -> None:
        async with (
            cluster.client(name="watcher", session_timeout_s=60.0, timeout_s=inf) as watcher,
            cluster.client(name="listener") as listener,
            cluster.client(name="writer") as writer,
        ):
            grant = await (await watcher.open(AsyncDistributedLock, "nightly")).acquire()
            missed, heard = [
                await (await client.open(AsyncDistributedMap, "users")).watch().__aenter__()
                for client in (watcher, listener)
            ]
            session = watcher.session_id
            watcher.on_session(lambda state, _: states.append(state))
            for name in cluster.names:
                cluster.simulation.network.cut_one_way("watcher", name)
            unsure = watcher.submit_command(1, "never arrives")
            users = await writer.open(AsyncDistributedMap, "users")
            for number in range(writes):
                await users.put(f"key {number}", bytes(1024))
                event = await anext(heard)
                assert isinstance(event, Put)
                assert event.key == f"key {number}"
            with pytest.raises(OutcomeUnknown, match="64 MiB of events unacknowledged"):
                await unsure
            assert states[:2] == ["lost", "connecting"]
            assert grant.lost.is_set()
            other = await (await listener.open(AsyncDistributedLock, "nightly")).try_acquire()
            assert other is not None
            assert other.token > grant.token
            servers = [cluster.server(name) for name in cluster.names]
            await cluster.until(
                lambda: all(session not in server.progress.sequences for server in servers)
            )
            cluster.heal()
            while isinstance(event := await anext(missed), Put):
                pass
            assert isinstance(event, Resync)

    cluster.run(story(), timeout_s=120)
    cluster.settle()
    assert cluster.monitors is not None
    cluster.monitors.applied.check_all()


def test_monitors_look_once_after_each_event(cluster: SimulatedCluster) -> None:
    """Also when a server has stopped; or the look at everything, every 1,000 events, might be
    skipped."""
    monitors = cluster.monitors
    assert monitors is not None
    events, checks = cluster.simulation.loop.events, monitors.checks
    cluster.crash(leader_of(cluster))
    cluster.wait_for_leader()
    cluster.settle()
    assert monitors.checks - checks == cluster.simulation.loop.events - events > 0


def test_five_servers_go_on_without_two() -> None:
    """Two of five stop, the leader among them; nothing is lost, and all catch up when they return."""
    with Simulation(5) as simulation:
        cluster = SimulatedCluster(simulation, servers=5)
        cluster.start()
        leader = cluster.wait_for_leader()
        assert increment(cluster, 3) == 3
        cluster.crash(leader, others(cluster, leader)[0])
        assert increment(cluster, 3) == 6
        cluster.crash(leader_of(cluster))
        with pytest.raises(TimeoutError):
            cluster.run_until(cluster.leader, 10)
        cluster.start()
        cluster.settle()
        assert value_of(cluster) == 6


def test_one_server_alone_is_a_cluster() -> None:
    """It acknowledges what its own disk has, and has it after a crash."""
    with Simulation(6) as simulation:
        cluster = SimulatedCluster(simulation, servers=1)
        cluster.start()
        assert increment(cluster, 5) == 5
        cluster.restart()
        assert value_of(cluster) == 5
