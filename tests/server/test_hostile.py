"""What strangers, odd clients and unlucky links send stops no server, and nobody else's work."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from copycat import AsyncClient
from copycat.actors import Actor, Identity, NodeAddress
from copycat.actors.environment import NodeConnected, NodeDisconnected, NodeUnreachable
from copycat.actors.simulation import Simulation
from copycat.errors import OperationFailed
from copycat.machine import Catalog, Commit, StateMachine, command
from copycat.protocol.client import (
    SERVER,
    SPARE_VALUES,
    AttachSession,
    AttachSessionReply,
    CommandsReply,
    Consistency,
    OpenResource,
    QueriesReply,
    Refusal,
    Refused,
    SessionEnded,
    SubmitCommands,
    SubmitQueries,
)
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    ProposalRefused,
    Propose,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from copycat.server.options import ServerOptions
from copycat.server.retained import Retained
from copycat.server.server import Server
from copycat.server.session import ANSWER_BYTES, ANSWERS_BYTES_MAX, Session
from copycat.server.steps import (
    Acknowledged,
    Advance,
    AnswerAgain,
    CommandsAnswered,
    Flush,
    LeaderNews,
    PeerLinked,
    Reached,
    SessionAttached,
    TermSeen,
    Tick,
)
from copycat.types import OPERATION_VALUES_MAX
from simulated_servers import CATALOG, ENDPOINTS, PEERS, Tally, TallyHandle, start_servers

HUGE = 2**64 - 1
SERIALS = range(40)

OF_SERVERS = [
    PreVote(HUGE, 1, HUGE, HUGE, HUGE),
    PreVoteReply(2, 1, True, 1),
    RequestVote(HUGE, 1, HUGE, HUGE),
    RequestVoteReply(HUGE, 1, True),
    AppendEntries(HUGE, 1, 0, 0, HUGE, 1, (b"",), HUGE, 1),
    AppendEntries(1, 1, HUGE, 0, HUGE, 1, (b"",), HUGE, 1),
    AppendEntriesReply(1, True, HUGE, 1, HUGE, True),
    AppendEntriesReply(HUGE, False, 0, 1, 0, True),
    ReadIndex(1),
    ReadIndexReply(1, HUGE),
    Propose(77, 0, 0, 1, 0, 0, b""),
    Propose(2, 1, 1, 0, 0, 0, b""),
    Propose(3, 0, 0, 1, 0, 0, b"\xff"),
    ProposalRefused(77, 1, 1, b"", 99, ""),
]
INSIDE_A_SERVER = [
    TermSeen(HUGE),
    Advance(HUGE),
    Flush(),
    Reached(),
    LeaderNews(),
    Tick(0.0),
    PeerLinked("nobody"),
    AnswerAgain(HUGE, 1, NodeAddress("n1", 1, 1)),
    Acknowledged(HUGE, HUGE),
    SessionAttached(1),
]


class Sender(Actor):
    """Sends what it is given once a server is connected; keeps what comes back."""

    def __init__(self, endpoint: str, say: Callable[[str], list[Any]], heard: list[Any]) -> None:
        self._say = say
        self._heard = heard
        self.environment.links.watch(self.address)
        self.environment.links.dial(endpoint)

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Send when the link is up."""
        if isinstance(message, NodeConnected):
            for serial, words in self._say(message.node):
                incarnation = message.incarnation if serial != SERVER else 0
                self.send(NodeAddress(message.node, incarnation, serial), words)
        elif not isinstance(message, NodeDisconnected | NodeUnreachable):
            self._heard.append(message)


class Attached(Actor):
    """Goes on with a session as its client would, but says what it is given."""

    def __init__(self, session: int, nonce: bytes, words: list[Any], heard: list[Any]) -> None:
        self._attach = AttachSession(session, nonce, session)
        self._words = words
        self._heard = heard
        self.environment.links.watch(self.address)
        self.environment.links.dial(ENDPOINTS[0])

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Attach, then speak."""
        if isinstance(message, NodeConnected):
            self.send(NodeAddress.well_known(message.node, SERVER), self._attach)
        elif isinstance(message, AttachSessionReply):
            for words in self._words:
                self.send(sender, words)
        self._heard.append(message)


def to_everybody(messages: list[Any]) -> Callable[[str], list[Any]]:
    """Each message to every actor that a server may have."""
    return lambda _: [(serial, words) for words in messages for serial in SERIALS]


async def counts(client: AsyncClient) -> None:
    """The cluster works."""
    tally = await client.open(TallyHandle, "tally")
    before = await tally.query("value")
    assert await tally.command("add", 1) == before + 1


@pytest.mark.parametrize("messages", [OF_SERVERS, INSIDE_A_SERVER], ids=["raft", "inside"])
def test_words_of_servers_are_taken_from_servers_only(messages: list[Any]) -> None:
    """A client tells every actor what only members may say: nothing happens, no term is raised,
    nobody is elected."""
    with Simulation(11) as simulation:
        servers = start_servers(simulation)
        heard: list[Any] = []

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)
                terms = {server.ballot.term for server in servers.values()}
                node = simulation.node(Identity("stranger"))
                for endpoint in ENDPOINTS:
                    node.spawn(Sender, endpoint, to_everybody(messages), heard)
                await asyncio.sleep(2)
                await counts(client)
                assert {server.ballot.term for server in servers.values()} == terms

        simulation.run(story(), timeout_s=60)
        assert heard == []
        noted = [note for server in servers.values() for note in server.notes.all()]
        expected = messages is OF_SERVERS
        assert any("dropped Propose of stranger" in note for note in noted) == expected


def test_a_false_server_by_the_name_of_the_leader_is_not_believed() -> None:
    """Whoever has the name of a peer and not its id is refused: its words and the loss of its
    links mean nothing."""
    with Simulation(12) as simulation:
        servers = start_servers(simulation)

        async def settle() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)

        simulation.run(settle(), timeout_s=30)
        server = next(server for server in servers.values() if server.leader != server.options.name)
        term, leader = server.ballot.term, server.leader
        assert leader is not None
        false = NodeAddress(leader, 12345, 20)
        assert not server.membership.is_server(false)
        assert not server.admits(AppendEntries(HUGE, 1, 0, 0, 0, 1, (), 0, 1), false)
        assert server.membership.is_server(servers[leader].address)
        assert server.hears_leader()
        server.receiveMessage(NodeDisconnected(leader, 12345, "", "closed"), server.address)
        assert server.hears_leader()
        assert server.ballot.term == term


def test_answers_cannot_be_forged_for_another_client() -> None:
    """What a server's own actors say to a connection is not taken from a stranger."""
    with Simulation(13) as simulation:
        start_servers(simulation)
        heard: list[Any] = []

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                tally = await client.open(TallyHandle, "tally")
                session = client.session_id
                forged = [
                    SessionEnded(session, "as planned"),
                    QueriesReply(session, 1, HUGE, b""),
                    CommandsReply(session, 1, HUGE, b""),
                    Refused(session, 3, 1, 2, ""),
                ]
                node = simulation.node(Identity("stranger"))
                for endpoint in ENDPOINTS:
                    node.spawn(Sender, endpoint, to_everybody(forged), heard)
                await asyncio.sleep(1)
                assert await tally.command("add", 1) == 1
                assert client.session_id == session

        simulation.run(story(), timeout_s=30)


def test_odd_requests_of_an_attached_client_are_refused_or_wait() -> None:
    """Huge numbers, odd names and reads of the future stop nothing and are let go with the link."""
    with Simulation(14) as simulation:
        servers = start_servers(simulation)
        heard: list[Any] = []

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)
                session = client.session_id
                query = b"\x81\x82\x01\x65value"
                words = [
                    SubmitCommands(session, HUGE, 512, HUGE, HUGE, b"\x80"),
                    SubmitCommands(session, HUGE, HUGE, 0, 0, b""),
                    SubmitQueries(session, 1, 1, Consistency.SEQUENTIAL, HUGE, 0, query),
                    SubmitQueries(session, 2, 1, Consistency.SEQUENTIAL, 0, HUGE, query),
                    SubmitQueries(session, 3, 1, Consistency.LINEARIZABLE, HUGE, HUGE, query),
                    SubmitQueries(session, 4, 1, 77, 0, 0, query),
                    SubmitQueries(session, 5, HUGE, 0, 0, 0, query),
                    OpenResource(session, 1, "x", "y" * 256, 1),
                    OpenResource(session, 2, "x", "\n", HUGE),
                    OpenResource(session, 3, "", "tally", 1),
                ]
                node = simulation.node(Identity("odd"))
                nonce = servers["n1"].progress.nonces[session]
                node.spawn(Attached, session, nonce, words, heard)
                await asyncio.sleep(0.5)
                node.stop()
                await asyncio.sleep(2)
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)

        simulation.run(story(), timeout_s=60)
        refused = [message for message in heard if isinstance(message, Refused)]
        assert {message.number for message in refused if message.reason == Refusal.TOO_LARGE} >= {
            1, 2, 3, 5, HUGE,
        }  # fmt: skip
        reads = _reads_of(simulation, servers["n1"])
        assert not any(held.reads for held in reads._held.values())


def test_operations_of_too_many_values_do_not_get_into_the_log() -> None:
    """They would be decoded on every server, whenever it starts; their sender is told."""
    with Simulation(22) as simulation:
        servers = start_servers(simulation)
        heard: list[Any] = []
        taken = OPERATION_VALUES_MAX + SPARE_VALUES  # by a batch of one
        many, just_as_many = (
            b"\x9a" + count.to_bytes(4, "big") + b"\x80" * count for count in (taken, taken - 1)
        )

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                session = client.session_id
                words = [
                    SubmitCommands(session, 1, 1, 0, 0, many),
                    SubmitQueries(session, 2, 1, Consistency.SEQUENTIAL, 0, 0, many),
                    SubmitQueries(session, 3, 1, Consistency.LINEARIZABLE, 0, 0, many),
                    SubmitCommands(session, 1, 1, 0, 0, just_as_many),
                ]
                node = simulation.node(Identity("odd"))
                nonce = servers["n1"].progress.nonces[session]
                node.spawn(Attached, session, nonce, words, heard)
                await asyncio.sleep(1)

        simulation.run(story(), timeout_s=30)
        refused = [message for message in heard if isinstance(message, Refused)]
        assert [(message.number, message.reason) for message in refused] == [
            (number, Refusal.TOO_LARGE) for number in (1, 2, 3)
        ]
        answered = [message for message in heard if isinstance(message, CommandsReply)]
        assert [message.first_sequence for message in answered] == [1]


def test_a_session_is_not_given_to_who_does_not_know_its_nonce() -> None:
    """A stranger who guesses the number of a session gets told that there is none."""
    with Simulation(18) as simulation:
        start_servers(simulation)
        heard: list[Any] = []

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                tally = await client.open(TallyHandle, "tally")
                session = client.session_id
                words = [SubmitCommands(session, 1, 1, 0, 0, b"\x80")]
                simulation.node(Identity("thief")).spawn(Attached, session, bytes(16), words, heard)
                await asyncio.sleep(1)
                assert await tally.command("add", 1) == 1
                assert any(isinstance(message, SessionEnded) for message in heard)
                assert not any(isinstance(message, AttachSessionReply) for message in heard)

        simulation.run(story(), timeout_s=30)


def _reads_of(simulation: Simulation, server: Server) -> Any:
    return server._myRef.node.actor_at(server.applier.serial)._reads


def test_reads_that_were_lost_on_the_way_to_the_leader_are_given_up() -> None:
    """A group whose ReadIndex no leader has got does not stay in the table for ever."""
    with Simulation(15) as simulation:
        servers = start_servers(simulation)

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)
                server = next(s for s in servers.values() if s.leader != s.options.name)
                reads = server._myRef.node.actor_at(server.reads.serial)
                reads._asked[HUGE] = (server.now_s(), [])
                await asyncio.sleep(3)
                reads._arrived = []
                reads.flush_reads(None, server.address)
                assert HUGE not in reads._asked

        simulation.run(story(), timeout_s=30)


def test_a_leader_that_has_not_applied_a_session_does_not_call_it_unknown() -> None:
    """A server ahead of the leader's Applier has opened the session; the leader asks to wait."""
    with Simulation(16) as simulation:
        servers = start_servers(simulation)

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)

        simulation.run(story(), timeout_s=30)
        leader = next(s for s in servers.values() if s.leader == s.options.name)
        role = leader._myRef.node.actor_at(leader.role.serial)
        answers: list[Any] = []
        role.send = lambda _, message: answers.append(message)
        applied = leader.progress.applied_index
        for session in (applied + 1, applied):
            role.propose(Propose(2, session, 1, 1, 0, 0, b"\x80"), leader.address)
        assert [answer.reason for answer in answers] == [
            Refusal.OVERLOADED,
            Refusal.UNKNOWN_SESSION,
        ]


def test_a_client_that_came_before_the_servers_knew_themselves_gets_its_session() -> None:
    """A link made while a server had no id yet is given up, and made again until it has one."""
    with Simulation(20) as simulation:
        nodes = {
            name: simulation.node(Identity(name), endpoint=endpoint, disk=simulation.disk(name))
            for name, endpoint in PEERS.items()
        }

        async def story() -> None:
            async def begin() -> None:
                await asyncio.sleep(1)
                for name, node in nodes.items():
                    options = ServerOptions(name=name, peers=PEERS, catalog=CATALOG)
                    node.spawn(Server, options, serial=SERVER)

            starting = asyncio.get_running_loop().create_task(begin())
            async with AsyncClient(*ENDPOINTS, timeout_s=30) as client:
                await counts(client)
            await starting

        simulation.run(story(), timeout_s=60)


def test_two_servers_of_one_id_are_not_taken_for_two() -> None:
    """At the founding, an id that somebody has already is refused, and nothing stops."""
    with Simulation(21) as simulation:
        servers = start_servers(simulation)
        server = servers["n1"]
        own = server.identity.server_id
        link = NodeConnected("n2", 7, "", 0, own, ())
        assert not server.membership.peer_connected(server.peers["n2"], link)
        assert server.peers["n2"].server_id == 0

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                await counts(client)

        simulation.run(story(), timeout_s=30)


class Unruly(StateMachine):
    """Breaks what a machine may not."""

    @command
    def raise_unspeakable(self, commit: Commit) -> None:
        """Raise what cannot be written down."""

        class Unspeakable(Exception):
            def __str__(self) -> str:
                raise ValueError("again")

        raise Unspeakable

    @command
    def raise_surrogate(self, commit: Commit) -> None:
        """Raise what no message can carry."""
        raise ValueError("\ud800")

    @command
    def schedule_stranger(self, commit: Commit) -> None:
        """Plan a call of something that is no method."""
        commit.schedule(0.1, lambda _: None)


class UnrulyHandle(TallyHandle):
    """Its handle."""

    resource_type: ClassVar[str] = "unruly"


def test_what_a_machine_does_wrong_stops_no_server() -> None:
    """Exceptions that cannot be told and calls of what is no method are survived by all."""
    with Simulation(19) as simulation:
        start_servers(simulation, Catalog({"tally": Tally, "unruly": Unruly}))

        async def story() -> None:
            async with AsyncClient(*ENDPOINTS) as client:
                unruly = await client.open(UnrulyHandle, "unruly")
                for method in ("raise_unspeakable", "raise_surrogate"):
                    with pytest.raises(OperationFailed):
                        await unruly.command(method)
                await unruly.command("schedule_stranger")
                await asyncio.sleep(1)
                await counts(client)

        simulation.run(story(), timeout_s=30)


def test_answers_that_nobody_acknowledges_are_bounded() -> None:
    """A session keeps the latest answers of a client that acknowledges none, and no more."""
    with Simulation(17) as simulation:
        node = simulation.node(Identity("n"))
        session = node.actor_at(node.spawn(Session, 1, bytes(16), "odd", Retained()).serial)
        results = bytes(1 << 20)
        for sequence in range(1, 101):
            answered = CommandsAnswered(
                sequence, sequence, sequence + 1, results, 1 << 20, (), 0, 0
            )
            session.commands_answered(answered, node)
        kept = [answer[2] for answer in session._answers.values()]
        kept_bytes = sum(ANSWER_BYTES + len(results) for results in kept)
        assert kept_bytes == session._answers_bytes <= ANSWERS_BYTES_MAX
        assert 100 in session._answers
        session.acknowledged(Acknowledged(100, 0), node)
        assert session._answers_bytes == 0
