"""Bundles: commands of several sessions that come in one turn share a batch, and nothing else."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from copycat import AsyncClient
from copycat.actors import Actor, NodeAddress
from copycat.actors.codec import encode
from copycat.actors.simulation import Simulation
from copycat.protocol.client import Refusal
from copycat.protocol.raft import ProposalRefused, Propose
from copycat.server.roles import leader as leader_module
from copycat.server.server import Server
from copycat.storage.batch import Batch, BatchKind
from copycat.testing.limits import small_limits
from copycat.testing.violation import told_batch
from simulated_servers import ENDPOINTS, TallyHandle, start_servers

ADD = encode([[0, "add", 1]])  # for a resource that there is not: it is appended all the same


class Listener(Actor):
    """Who proposes."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Keep everything."""
        self.heard.append(message)


class Proposing:
    """Three servers with a leader that serves, and two sessions.

    Attributes:
        leader: the one that leads.
        servers: all of them.
        sessions: their ids.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.servers = list(start_servers(simulation).values())
        self.sessions: list[int] = []
        simulation.run(self._open(), timeout_s=60)
        (self.leader,) = [server for server in self.servers if server.role_title == "leader"]
        node = self.leader._myRef.node
        self._listener = node.actor_at(node.spawn(Listener).serial)

    async def _open(self) -> None:
        first = await AsyncClient(*ENDPOINTS, session_timeout_s=60).connect()
        second = await first.new_session()
        self.sessions = [first.session_id, second.session_id]

    def propose(self, session: int, sequence: int, operations: bytes = ADD, count: int = 1) -> None:
        """Propose commands of a session, as a connection does."""
        kind = int(BatchKind.COMMANDS)
        message = Propose(kind, self.sessions[session], sequence, count, 0, 0, operations)
        self.leader.asked_of_leader(message, self._listener.address)

    def refused(self) -> list[ProposalRefused]:
        """What was given back, a moment later."""
        self._simulation.run_for(0.5)
        return [each for each in self._listener.heard if type(each) is ProposalRefused]

    def appended(self, after: int) -> list[Batch]:
        """The batches of commands that were appended behind an index, a moment later."""
        self._simulation.run_for(0.5)
        log = self.leader.log
        batches = log.read_ahead(after + 1, log.last_index)
        return [batch for batch in batches if batch.kind in (BatchKind.COMMANDS, BatchKind.BUNDLE)]


@pytest.fixture
def proposing() -> Iterator[Proposing]:
    """A leader to propose to."""
    with Simulation(5) as simulation:
        yield Proposing(simulation)


def test_commands_of_several_sessions_share_a_batch_and_nothing_else() -> None:
    """Each has an index, an answer and a failure of its own, on every server."""
    with Simulation(6) as simulation, small_limits({"long_turns_s": 0.02}):
        servers = start_servers(simulation)

        async def story() -> list[Any]:
            async with AsyncClient(*ENDPOINTS) as first:
                second, third = await first.new_session(), await first.new_session()
                tallies = [await each.open(TallyHandle, "t") for each in (first, second, third)]
                calls = [tallies[0].command("add", 1), tallies[1].command("fail_after_publishing")]
                calls += [tallies[2].command("add", 10), tallies[2].command("add", 100)]
                ends = await asyncio.gather(*calls, return_exceptions=True)
                return [end if type(end) is int else str(end).partition(": ")[2] for end in ends]

        assert simulation.run(story(), timeout_s=60) == [1, "ValueError: as planned", 11, 111]
        simulation.run_for(1.0)
        for server in servers.values():
            (bundle,) = bundles_of(server)
            parts = bundle.commands()
            first = bundle.base_index
            assert [part.base_index for part in parts] == [first, first + 1, first + 2]
            assert [part.count for part in parts] == [1, 1, 2]
            assert len({part.session for part in parts}) == 3
            assert bundle.last_index == first + 3
            assert server.progress.applied_index >= bundle.last_index


def test_a_story_tells_what_is_in_a_bundle(proposing: Proposing) -> None:
    """The one who reads of a failure sees which commands share the record."""
    before = proposing.leader.log.last_index
    proposing.propose(0, 1)
    proposing.propose(1, 1)
    (bundle,) = proposing.appended(before)
    one, other = proposing.sessions
    told = f"{before + 1}..{before + 2} of term 1: BUNDLE of sessions {one} from 1, {other} from 1"
    assert told_batch(bundle) == told


def bundles_of(server: Server) -> list[Batch]:
    """The bundles in the log of a server."""
    batches = list(server.log.read_ahead(1, server.log.last_index))
    return [batch for batch in batches if batch.kind == BatchKind.BUNDLE]


def test_what_comes_alone_is_no_bundle(proposing: Proposing) -> None:
    """The commands of one message are a batch of their session."""
    before = proposing.leader.log.last_index
    proposing.propose(0, 1)
    (batch,) = proposing.appended(before)
    assert (batch.kind, batch.session) == (BatchKind.COMMANDS, proposing.sessions[0])


@pytest.mark.parametrize(("limit", "most"), [("COMMANDS_PER_BATCH_MAX", 5), ("BYTES", 2)])
def test_a_bundle_is_no_larger_than_a_batch_may_be(
    proposing: Proposing, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """What has no room in it goes into the next; nothing is lost or changes its place."""
    if limit == "BYTES":
        monkeypatch.setattr(leader_module, "OPERATIONS_BYTES_MAX", 2 * len(ADD))
    else:
        monkeypatch.setattr(leader_module, limit, most)
    before = proposing.leader.log.last_index
    for sequence in range(1, 8):
        proposing.propose(0, sequence)
        proposing.propose(1, sequence)
    batches = proposing.appended(before)
    assert [batch.count for batch in batches] == [*[most] * (14 // most), *[4] * (14 % most > 0)]
    places = [(part.session, part.first_sequence) for each in batches for part in each.commands()]
    assert places == [(session, at) for at in range(1, 8) for session in proposing.sessions]


def test_what_ends_a_session_is_appended_behind_its_commands(proposing: Proposing) -> None:
    """The order in which a session says things is the order of the log."""
    before = proposing.leader.log.last_index
    proposing.propose(0, 1)
    proposing.propose(1, 1)
    closing = Propose(int(BatchKind.CLOSE_SESSION), proposing.sessions[0], 0, 1, 0, 0, b"")
    proposing.leader.asked_of_leader(closing, proposing.leader.address)
    proposing.appended(before)
    log = proposing.leader.log
    kinds = [batch.kind for batch in log.read_ahead(before + 1, log.last_index)]
    assert kinds[:2] == [BatchKind.BUNDLE, BatchKind.CLOSE_SESSION]


def _is_deposed(leader: Server) -> None:
    leader.become_follower()


def _has_slept(leader: Server) -> None:
    role = leader._myRef.node.actor_at(leader.role.serial)
    role._ticked_s -= leader.options.election_timeout_max_s + 1


@pytest.mark.parametrize("happens", [_is_deposed, _has_slept])
def test_a_leader_that_steps_down_gives_back_what_it_has_not_appended(
    proposing: Proposing, happens: Callable[[Server], None]
) -> None:
    """It was refused and is not in the log, so that whoever sent it may try elsewhere."""
    before = proposing.leader.log.last_index
    proposing.propose(0, 1)
    proposing.propose(1, 1)
    happens(proposing.leader)
    refused = proposing.refused()
    assert [each.session for each in refused] == proposing.sessions
    assert {each.reason for each in refused} == {int(Refusal.NO_LEADER)}
    assert proposing.appended(before) == []
