"""What a server keeps of a connection goes with it, at a cost of what the connection itself had."""

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from copycat.actors import NodeAddress
from copycat.actors.environment import NodeDisconnected
from copycat.actors.simulation import Simulation
from copycat.protocol.client import (
    SERVER,
    AttachSession,
    Consistency,
    OpenSession,
    SubmitQueries,
)
from copycat.server import reading
from copycat.server.server import Server
from simulated_servers import start_servers

TIMEOUT_MS = 600_000
QUERY = b"\x81\x82\x01\x65value"


class Door:
    """The mailbox of one server, into which clients that do not exist put their messages."""

    def __init__(self, simulation: Simulation, server: Server) -> None:
        self.server = server
        self._simulation = simulation
        self._node = simulation.nodes[server.address.node]
        self._to = NodeAddress.well_known(server.address.node, SERVER)

    def tell(self, client: str, message: Any, life: int = 1, place: int = 0) -> None:
        """A client node says something, by one of its actors."""
        to = self.server.connections.get(client, self._to)
        self._node.deliver(to, message, NodeAddress(client, life, 17 + place))

    def gone(self, client: str, life: int = 1) -> None:
        """The link to a client node has ended."""
        self._node.deliver(self._to, NodeDisconnected(client, life, "", "gone"), self._to)

    def run(self) -> None:
        """Let what was said be done."""
        self._simulation.run_for(1)

    def open_sessions(self, client: str, nonces: range) -> None:
        """Ask for sessions."""
        for place, nonce in enumerate(nonces):
            self.tell(client, OpenSession(nonce.to_bytes(16, "big"), "x", TIMEOUT_MS), place=place)


@pytest.fixture
def door() -> Iterator[Door]:
    """That of one server of a cluster that has a leader."""
    with Simulation(41) as simulation:
        servers = start_servers(simulation)
        simulation.run_for(3)
        yield Door(simulation, servers["n1"])


def test_nothing_is_attached_to_a_connection_that_is_gone(door: Door) -> None:
    """A link ends right after it has brought OpenSession, AttachSession or a query: the Applier
    finds out later than the Server, and neither keeps anything of it."""
    attachments = door.server.attachments
    door.open_sessions("c", range(1))
    door.run()
    (session,) = attachments.sessions
    door.gone("c")
    door.run()
    assert not attachments.sessions
    door.tell("c", AttachSession(session, bytes(16), 0), life=2)
    door.tell("c", OpenSession(bytes([1] * 16), "x", TIMEOUT_MS), life=2)
    door.gone("c", life=2)
    door.run()
    assert len(door.server.progress.sequences) == 2
    assert not attachments.sessions
    assert not attachments.opening
    assert not door.server.connections

    door.tell("c", AttachSession(session, bytes(16), 0), life=3)
    door.run()
    door.tell("c", SubmitQueries(session, 1, 1, Consistency.SEQUENTIAL, 0, 0, QUERY), life=3)
    door.gone("c", life=3)
    door.run()
    assert not _reads(door)._held


def test_a_session_that_moves_to_another_connection_stays_with_it(door: Door) -> None:
    """What the connection that it left had before is no matter when that one ends."""
    attachments = door.server.attachments
    door.open_sessions("a", range(1))
    door.run()
    (session,) = attachments.sessions
    door.tell("b", AttachSession(session, bytes(16), 0))
    door.run()
    door.gone("a")
    door.run()
    assert attachments.sessions[session].client.node == "b"
    door.gone("b")
    door.run()
    assert not attachments.sessions


class _OnlyLookedUp(dict[Any, Any]):
    """A dictionary that nobody goes through."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("the sessions of others are no matter")

    items = keys = values = __iter__


def test_a_connection_that_ends_costs_nothing_but_its_own_sessions(door: Door) -> None:
    """However many sessions others have, none of them is looked at."""
    for place in range(5):
        door.open_sessions(f"c{place}", range(10 * place, 10 * place + 10))
        door.run()
    attachments = door.server.attachments
    attachments.sessions = _OnlyLookedUp(attachments.sessions)
    attachments.opening = _OnlyLookedUp(attachments.opening)
    door.open_sessions("c4", range(50, 60))
    door.gone("c4")
    door.gone("c1")
    door.run()
    assert len(attachments.sessions) == 30
    assert len(attachments.opening) == 0


def test_reads_that_wait_are_gone_through_seldom(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 connections with 50 waiting reads each all go, one by one: what they asked is let go
    of at once, and its places are swept when they have become half of all."""
    monkeypatch.setattr(reading, "SKIPPED_MAX", 10)
    sweeps = 0
    still_held = reading._still_held

    def counted(order: Any) -> Any:
        nonlocal sweeps
        sweeps += 1
        return still_held(order)

    monkeypatch.setattr(reading, "_still_held", counted)
    clients = [f"c{place}" for place in range(40)]
    for place, client in enumerate(clients):
        door.open_sessions(client, range(place, place + 1))
    door.run()
    for session, at in door.server.attachments.sessions.items():
        for read in range(50):
            index = 1 << 60 if read % 2 else 0
            query = SubmitQueries(session, read, 1, Consistency.SEQUENTIAL, 1 << 60, index, QUERY)
            door.tell(at.client.node, query)
    door.run()
    reads = _reads(door)
    assert reads._places == 2_000
    for gone, client in enumerate(clients, 1):
        door.gone(client)
        door.run()
        assert sum(len(held.reads) for held in reads._held.values()) == 2_000 - 50 * gone
        assert reads._skipped <= max(10, reads._places // 2)
    assert reads._places <= 10
    assert sweeps < 400  # of up to 41 orders each; 40 sweeps would be over 800


def _reads(door: Door) -> reading.ReadQueue:
    node = door._node
    applier: Any = node.actor_at(door.server.applier.serial)
    reads = applier._reads
    assert type(reads) is reading.ReadQueue
    return reads
