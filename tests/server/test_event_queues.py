"""The events that wait in a session are bounded, and a session that passes the bound ends."""

from collections.abc import Iterator
from typing import Any

import pytest

from copycat.actors import Actor, Identity, NodeAddress
from copycat.actors.codec import decode, encode
from copycat.actors.simulation import Simulation
from copycat.machine import Catalog, Commit, StateMachine, command
from copycat.protocol.client import CommandsReply, Events, SessionEnded
from copycat.server import session as session_module
from copycat.server.applier import Applier
from copycat.server.progress import Attachment, Attachments, Progress
from copycat.server.session import EVENTS_BYTES_MAX, REPLAY_BYTES_MAX, Session
from copycat.server.steps import Acknowledged, Advance, EventsAfter, EventsPublished
from copycat.storage.batch import Batch, BatchKind
from copycat.testing.replicated_state import text_of

MEBIBYTE = 1 << 20
TIMEOUT_MS = 60_000


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """The world."""
    with Simulation(23) as simulation:
        yield simulation


@pytest.fixture
def session(simulation: Simulation) -> Session:
    """The session with the id 1, on a node of its own."""
    node = simulation.node(Identity("n"))
    actor: Session = node.actor_at(node.spawn(Session, 1, bytes(16), "odd").serial)
    return actor


def publish(session: Session, index: int, *events: bytes) -> Events | None:
    return session.events_published(EventsPublished(index, events), session.address)


def acknowledge(session: Session, index: int) -> None:
    session.acknowledged(Acknowledged(0, index), session.address)


def missing(session: Session, index: int) -> list[int]:
    """The indexes of what is sent again to a client that has everything up to this one."""
    messages = session.events_after(EventsAfter(index), session.address)
    return [message.event_index for message in messages]


@pytest.mark.parametrize("size_bytes", [0, MEBIBYTE])
def test_events_that_nobody_acknowledges_are_bounded(session: Session, size_bytes: int) -> None:
    """What does not fit is not queued, small events count too, and acknowledging makes room."""
    together = tuple(bytes(size_bytes) for _ in range(1 if size_bytes else 4096))
    index = 2
    while publish(session, index, *together) is not None:
        index += 1
        assert index < 100
    kept = [message.size_bytes for message in session._events]
    assert sum(kept) == session._events_bytes
    assert EVENTS_BYTES_MAX - kept[0] < session._events_bytes <= EVENTS_BYTES_MAX
    assert session._events[-1].event_index == index - 1
    acknowledge(session, 2)
    assert publish(session, index, *together) is not None
    assert publish(session, index + 1, *together) is None
    acknowledge(session, index)
    assert session._events_bytes == session.events_waiting == 0


def test_what_one_batch_publishes_is_one_message(session: Session) -> None:
    """Events that come later at the same index join the first, behind them in the chain."""
    publish(session, 5, b"1")
    publish(session, 8, b"2", b"3")
    assert publish(session, 8, b"4") == Events(1, 8, 5, (b"2", b"3", b"4"))
    assert publish(session, 9, b"5") == Events(1, 9, 8, (b"5",))
    acknowledge(session, 8)
    assert session._events_bytes == session._events[0].size_bytes


def test_no_more_is_sent_again_than_a_link_can_buffer(session: Session) -> None:
    """A client that misses much gets it in parts, each of which brings it forward."""
    for index in range(2, 52):
        assert publish(session, index, bytes(MEBIBYTE)) is not None
    assert publish(session, 52, *(bytes(MEBIBYTE) for _ in range(9))) is not None
    received, parts = 1, 0
    while part := missing(session, received):
        assert part == list(range(received + 1, part[-1] + 1))
        received, parts = part[-1], parts + 1
        sent = [message.size_bytes for message in session._events if message.event_index in part]
        assert sum(sent) <= REPLAY_BYTES_MAX or len(part) == 1
    assert received == 52
    assert parts == 9


class Club(StateMachine):
    """Tells its members what somebody shouts, and who has left."""

    def __init__(self) -> None:
        self.members: dict[int, None] = {}

    @command
    def join(self, commit: Commit) -> None:
        """Be told from now on."""
        self.members[commit.session] = None

    @command
    def shout(self, commit: Commit, size_bytes: int) -> None:
        """Tell all members something of this size."""
        commit.publish(self.members, "shouted", bytes(size_bytes))

    def session_ended(self, commit: Commit, session: int) -> None:
        """A member that leaves makes the others hear of it."""
        self.members.pop(session, None)
        commit.publish(self.members, "left", session)


class Log:
    """The batches that are to be applied."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self.last_index = 0

    def read_ahead(self, index: int, last_index: int) -> Iterator[Batch]:
        """Those from one index to another."""
        return iter([self._batches[place] for place in range(index, last_index + 1)])

    def append(self, kind: BatchKind, session: int = 0, **fields: Any) -> int:
        """Add a batch of one index; returns that."""
        self.last_index += 1
        self._batches[self.last_index] = Batch.encode(
            kind=kind,
            base_index=self.last_index,
            count=1,
            term=1,
            log_time_us=self.last_index,
            wall_time_us=0,
            session=session,
            **fields,
        )
        return self.last_index


class Listener(Actor):
    """A connection, or what an Applier takes for one."""

    def __init__(self, heard: list[Any]) -> None:
        self._heard = heard

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Keep everything."""
        self._heard.append(message)


class Clubhouse:
    """A log with a club in it, and two servers that apply it, the first with all the clients."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.log = Log()
        self.heard: list[Any] = []
        self._sequences: dict[int, int] = {}
        node = simulation.node(Identity("n"))
        self._attachments = Attachments()
        self._connection = node.spawn(Listener, self.heard)
        self._attachments.begin(self._connection)
        self.appliers: list[Applier] = []
        for attachments in (self._attachments, Attachments()):
            arguments = (self._connection, self.log, Catalog({"club": Club}), Progress())
            self.appliers.append(node.actor_at(node.spawn(Applier, *arguments, attachments).serial))
        founder = self.open_session()
        self.club = self.log.append(
            BatchKind.OPEN_RESOURCE,
            founder,
            first_sequence=1,
            operations=encode(["club", "club", 1]),
        )

    def open_session(self) -> int:
        """Open a session; returns its id."""
        nonce = self.log.last_index.to_bytes(16, "big")
        self._attachments.ask(nonce, Attachment(self._connection, self._connection))
        session = self.log.append(
            BatchKind.OPEN_SESSION, operations=encode([nonce, "", TIMEOUT_MS])
        )
        self._sequences[session] = 0
        return session

    def command(self, session: int, method: str, *arguments: Any, event_index: int = 0) -> int:
        """Append a command; returns its index."""
        self._sequences[session] += 1
        return self.log.append(
            BatchKind.COMMANDS,
            session,
            first_sequence=self._sequences[session],
            event_index=event_index,
            operations=encode([[self.club, method, *arguments]]),
        )

    def joined(self) -> int:
        """A new session that has joined the club."""
        session = self.open_session()
        self.command(session, "join")
        return session

    def apply(self) -> None:
        """Have everything applied; both servers must have the same state then."""
        for applier in self.appliers:
            applier.advance(Advance(self.log.last_index), applier.address)
        self._simulation.run_for(0.01)
        first, second = (text_of(applier) for applier in self.appliers)
        assert first == second

    def told(self, session: int) -> list[list[Any]]:
        """The events that a session was sent, in order, each as [event, values]."""
        sent = [words for words in self.heard if type(words) is Events and words.session == session]
        chain = [session, *(words.event_index for words in sent)]
        assert [words.previous_index for words in sent] == chain[:-1]
        return [decode(event)[1:] for words in sent for event in words.events]

    def ended(self) -> list[int]:
        """The sessions whose client was told of their end, in order."""
        return [words.session for words in self.heard if type(words) is SessionEnded]

    def open_sessions(self) -> list[int]:
        """The sessions that are open."""
        return list(self.appliers[0]._sessions)


def test_sessions_that_have_no_room_end_and_the_others_hear_of_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch ends two sessions, whose ends push over a third, before and behind others that
    are told all of it once, in one order, in one message."""
    monkeypatch.setattr(session_module, "EVENTS_BYTES_MAX", 10_000)
    club = Clubhouse(simulation)
    shouter, full, fuller = club.joined(), club.joined(), club.joined()
    early = club.command(shouter, "shout", 4_000)
    nearly, last = club.joined(), club.joined()
    filled = club.command(shouter, "shout", 4_900, event_index=early)
    for member in (shouter, last):
        club.command(member, "join", event_index=filled)
    club.apply()
    assert club.ended() == []
    shout = club.command(shouter, "shout", 4_500)
    club.apply()

    assert club.ended() == [full, fuller, nearly]
    assert {shouter, last}.issubset(club.open_sessions())
    assert not {full, fuller, nearly}.intersection(club.open_sessions())
    end = [["shouted", [bytes(4_500)]], *(["left", [gone]] for gone in (full, fuller, nearly))]
    assert club.told(last) == [["shouted", [bytes(4_900)]], *end]
    assert club.told(shouter)[2:] == end
    assert club.told(nearly) == [["shouted", [bytes(4_900)]]]
    words = [words for words in club.heard if type(words) is Events]
    assert [message.session for message in words if message.event_index == shout] == [shouter, last]
    told = next(words for words in club.heard if type(words) is SessionEnded)
    assert "64 MiB of events unacknowledged" in told.text


def test_a_session_may_end_by_its_own_command(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command was applied; what its client is told is the end of the session, and no answer."""
    monkeypatch.setattr(session_module, "EVENTS_BYTES_MAX", 10_000)
    club = Clubhouse(simulation)
    loud, other = club.joined(), club.joined()
    club.command(loud, "shout", 6_000)
    club.apply()
    answers = sum(type(words) is CommandsReply for words in club.heard)
    last = club.command(loud, "shout", 6_000)
    club.command(loud, "shout", 1)
    club.apply()
    assert club.ended() == [loud, other]
    assert answers == sum(type(words) is CommandsReply for words in club.heard)
    assert not any(type(words) is Events and words.event_index >= last for words in club.heard)
