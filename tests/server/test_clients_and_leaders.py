"""Clients go on soon when the leader, or all servers, are others than before."""

import asyncio
from collections.abc import Iterator

import pytest

from copycat.actors import Identity
from copycat.actors.budget import Budget
from copycat.actors.simulation import Simulation
from copycat.client.loop_inbox import LoopInbox
from copycat.client.options import SessionOptions
from copycat.client.servers import SharedLinks
from copycat.client.session import ClientSession
from copycat.resources import AsyncDistributedCounter
from copycat.testing.cluster import SimulatedCluster

SOON_S = 0.2
WITHIN_S = 0.5
CLIENTS = 20


def worlds(*seeds: int) -> Iterator[SimulatedCluster]:
    """Three servers each, one of which leads."""
    for seed in seeds:
        with Simulation(seed) as simulation:
            cluster = SimulatedCluster(simulation, monitored=False)
            cluster.start()
            cluster.wait_for_leader()
            yield cluster


def is_led_anew(cluster: SimulatedCluster, old: str | None) -> bool:
    """Whether another leader than before serves."""
    leader = cluster.leader()
    if leader in (None, old):
        return False
    assert leader is not None
    server = cluster.server(leader)
    return server.progress.applied_index == server.log.last_index


def test_who_has_asked_for_a_session_asks_the_next_leader_at_once() -> None:
    """A server hands the question on to a leader that has just died without a word; when it knows
    another one it says so, and nobody waits for an answer that cannot come."""
    for cluster in worlds(*range(5)):
        old = cluster.wait_for_leader()

        async def story(cluster: SimulatedCluster = cluster, old: str = old) -> float:
            cluster.crash(old, silent=True)
            client = cluster.client(timeout_s=60, server_selection="any")
            connecting = asyncio.ensure_future(client.connect())
            await cluster.until(lambda: is_led_anew(cluster, old))
            ready_s = cluster.simulation.now_s
            await connecting
            return cluster.simulation.now_s - ready_s

        assert cluster.run(story(), timeout_s=60) < SOON_S


@pytest.mark.parametrize("down_s", [0.1, 2.0, 20.0])
def test_a_client_is_back_soon_when_all_servers_are(down_s: float) -> None:
    """However long they were away, its next command is taken well within a second after
    there is a leader that serves."""
    for cluster in worlds(*range(10)):

        async def story(cluster: SimulatedCluster = cluster) -> float:
            async with cluster.client(timeout_s=60, session_timeout_s=60) as client:
                hits = await client.open(AsyncDistributedCounter, "hits")
                await hits.increment()
                cluster.crash()
                waiting = asyncio.ensure_future(hits.increment())
                await asyncio.sleep(down_s)
                cluster.start()
                await cluster.until(lambda: is_led_anew(cluster, None))
                ready_s = cluster.simulation.now_s
                await waiting
                return cluster.simulation.now_s - ready_s

        assert cluster.run(story(), timeout_s=90) < WITHIN_S


def test_all_sessions_of_a_connection_are_told_who_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in one turn, when they are many; here each turn has time for one."""
    for cluster in worlds(1):
        old = cluster.wait_for_leader()
        endpoints = tuple(cluster.peers[name] for name in cluster.names if name != old)[:1]
        node, links = cluster.simulation.node(Identity("clients")), SharedLinks()
        sessions: list[ClientSession] = []
        for place in range(CLIENTS):
            options = SessionOptions(endpoints, f"c{place}", 60.0, "any")
            inbox = LoopInbox(cluster.simulation.loop, node.call_after_turn)
            sessions.append(node.actor_at(node.spawn(ClientSession, options, inbox, links).serial))
        while not all(session.session for session in sessions):
            cluster.simulation.run_for(SOON_S)
        defaults = Budget.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "time_s", -1.0)
        cluster.crash(old)
        while not is_led_anew(cluster, old):
            cluster.simulation.run_for(SOON_S)
        cluster.simulation.run_for(SOON_S)
        term = cluster.server(cluster.wait_for_leader()).ballot.term
        assert [session._servers.leader_term for session in sessions] == [term] * CLIENTS
