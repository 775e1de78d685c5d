"""Events reach each client once, as fast as its link takes them, and nothing goes out twice."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from clubhouse import Clubhouse
from copycat import AsyncClient
from copycat.actors import NodeAddress
from copycat.actors.environment import LinkDrained
from copycat.actors.simulation import Simulation
from copycat.errors import OperationFailed
from copycat.machine import Catalog, Commit, StateMachine, command
from copycat.protocol import client as protocol
from copycat.protocol.client import (
    AttachSession,
    CommandsReply,
    Events,
    KeepAliveReply,
    ResetEventsReply,
)
from copycat.server import delivery
from copycat.server import session as session_module
from copycat.server.steps import Advance, ConnectionGone, Read, ResendEvents, RunReads
from copycat.storage.batch import BatchKind
from simulated_servers import ENDPOINTS, TallyHandle, start_servers

# Of everything a thirtieth of the true sizes.
EVENT_BYTES = 3_000
MESSAGE_BYTES = 8_000
WINDOW_BYTES = 64_000
BACKLOG_BYTES = 32_000


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """The world."""
    with Simulation(29) as simulation:
        yield simulation


class SlowLink:
    """The links of the server, as its Applier sees them: to one node, and taking what the test
    lets them take."""

    def __init__(self, club: "Audience") -> None:
        self._club = club
        self.taken_bytes = 0
        self.asker: NodeAddress | None = None

    def flush(self, node: str) -> None:
        """Nothing waits before it is sent."""

    def unsent_bytes(self, node: str) -> int:
        """All that was sent and not taken."""
        return max(0, self._club.sent_bytes - self.taken_bytes)

    def ask_drained(self, node: str, asker: NodeAddress) -> None:
        """Somebody waits."""
        self.asker = asker


class Audience(Clubhouse):
    """A club whose members have lost their connection, and come back by another one."""

    def __init__(self, simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(simulation)
        self.links = SlowLink(self)
        self._life = 0
        self.simulation = simulation
        monkeypatch.setattr(delivery, "BACKLOG_BYTES_MAX", BACKLOG_BYTES)
        monkeypatch.setattr(session_module, "MESSAGE_BYTES_MAX", MESSAGE_BYTES)
        monkeypatch.setattr(protocol, "EVENTS_WINDOW_BYTES", WINDOW_BYTES)
        monkeypatch.setattr(self.node.environment, "links", self.links)
        self.sent_bytes = 0
        send = self.appliers[0].send

        def counted(to: NodeAddress, words: Any) -> None:
            if type(words) is Events:
                self.sent_bytes += words.size_bytes
            send(to, words)

        monkeypatch.setattr(self.appliers[0], "send", counted)

    def sent(self) -> list[Events]:
        """All messages with events, in the order in which they were sent."""
        return [words for words in self.heard if type(words) is Events]

    def come_back(self, sessions: list[int], event_sequence: int = 0) -> None:
        """Attach sessions by a new connection of the same client; what was heard is forgotten."""
        self._attachments.drop(self._connection)
        self.appliers[0].connection_gone(ConnectionGone(self._connection, "n"), self._connection)
        self._begin_connection()
        self.heard.clear()
        self.links.taken_bytes = self.sent_bytes = 0
        for session in sessions:
            self.attach(session, event_sequence)
        self.run()

    def attach(self, session: int, event_sequence: int) -> None:
        """Ask for a session by the connection there is."""
        nonce = self.appliers[0]._progress.nonces[session]
        attach = AttachSession(session, nonce, event_sequence)
        read = Read(None, attach, self._connection, self._connection)
        self.appliers[0].run_reads(RunReads(0, (read,)), self._connection)

    def ask(self, session: int, event_sequence: int, number: int) -> None:
        """Miss events."""
        again = ResendEvents(session, event_sequence, number, self._connection)
        self.appliers[0].resend_events(again, self._connection)

    def keep_alive(self, session: int, event_sequence: int) -> None:
        """Say what has been received."""
        self.log.append(BatchKind.KEEP_ALIVE, session, event_sequence=event_sequence)

    def drain(self) -> None:
        """The link takes all that was sent, and says so if it is asked."""
        self.links.taken_bytes = self.sent_bytes
        asker, self.links.asker = self.links.asker, None
        if asker is not None:
            self.node.tell(asker, LinkDrained("n"))
        self.run()

    def run(self) -> None:
        """Let everything be done that can be."""
        self.simulation.run_for(0.01)


def an_audience_that_lacks(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, members: int, events: int
) -> tuple[Audience, list[int]]:
    """A club with members who are all behind by so many events."""
    audience = Audience(simulation, monkeypatch)
    sessions = [audience.joined() for _ in range(members)]
    audience.apply()
    audience.links.taken_bytes = 1 << 60
    for _ in range(events):
        audience.command(sessions[0], "shout", EVENT_BYTES)
    audience.apply()
    return audience, sessions


def test_sessions_that_come_back_catch_up_as_the_link_takes_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight sessions of one client, each 8 MB behind: no more waits on the link than it should, all
    advance in turns, and when all is done each event was sent to each exactly once, in order."""
    audience, sessions = an_audience_that_lacks(simulation, monkeypatch, 8, 80)
    audience.come_back(sessions)
    most_bytes = BACKLOG_BYTES + MESSAGE_BYTES
    rounds, sequences = 0, dict.fromkeys(sessions, 0)
    while min(sequences.values()) < 80:
        rounds += 1
        assert rounds < 200
        assert 0 < audience.sent_bytes - audience.links.taken_bytes <= most_bytes
        audience.drain()
        sequences |= {events.session: events.last_sequence for events in audience.sent()}
        assert max(sequences.values()) - min(sequences.values()) <= 6
        for session in sessions:
            audience.keep_alive(session, sequences[session])
        audience.apply()
    assert {len(audience.told(session)) for session in sessions} == {80}
    assert rounds > 8 * 80 * EVENT_BYTES // most_bytes


def test_a_client_that_takes_nothing_is_sent_a_window(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a link has room for all, a client that acknowledges nothing gets no more than that,
    whether it attaches again, asks again, or shows life."""
    audience, sessions = an_audience_that_lacks(simulation, monkeypatch, 1, 60)
    audience.come_back(sessions)
    (session,) = sessions
    window_bytes = WINDOW_BYTES + EVENT_BYTES + protocol.EVENT_BYTES
    for number in range(20):
        audience.drain()
        assert WINDOW_BYTES <= audience.sent_bytes < window_bytes or number < 3
        audience.ask(session, 0, 0)
        audience.attach(session, 0)
        audience.keep_alive(session, 0)
        audience.apply()
    said = [words.event_sequence for words in audience.heard if type(words) is KeepAliveReply]
    assert said[-1] == audience.sent()[-1].last_sequence
    assert sum(type(words) is ResetEventsReply for words in audience.heard) == 20


def test_what_is_missing_is_sent_again_once_for_each_question(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the question comes before the events; the same question again is answered, and
    nothing is sent; a new one goes back again."""
    audience, (session,) = an_audience_that_lacks(simulation, monkeypatch, 1, 5)
    audience.come_back([session])
    expected: list[object] = [1, 2, 3, 4, 5]
    for number, missed in ((1, 3), (1, 3), (1, 1), (2, 3), (2, 0), (3, 4)):
        audience.ask(session, missed, number)
        audience.run()
        asked_before = f"question {number}" in expected
        expected += [f"question {number}", *([] if asked_before else range(missed + 1, 6))]
    heard: list[object] = []
    for words in audience.heard:
        if type(words) is ResetEventsReply:
            heard.append(f"question {words.number}")
        elif type(words) is Events:
            heard += range(words.first_sequence, words.last_sequence + 1)
    assert heard == expected


def test_an_event_for_a_session_that_is_behind_waits_for_its_turn(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes behind what was lacking; a session that keeps up has it at once, before the answer."""
    audience, sessions = an_audience_that_lacks(simulation, monkeypatch, 2, 30)
    audience.keep_alive(sessions[1], 30)
    audience.apply()
    audience.come_back(sessions[:1])
    audience.attach(sessions[1], 30)
    for _ in range(5):
        audience.drain()
    audience.command(sessions[1], "shout", 1)
    applier, sent = audience.appliers[0], []
    monkeypatch.setattr(applier, "send", lambda _, words: sent.append((words.session, type(words))))
    applier.advance(Advance(audience.log.last_index), applier.address)
    assert sent == [(sessions[1], Events), (sessions[1], CommandsReply)]
    monkeypatch.undo()
    assert len(audience.told(sessions[0])) < 30
    audience.sent_bytes = 0
    for _ in range(5):
        audience.drain()
        audience.keep_alive(sessions[0], audience.sent()[-1].last_sequence)
        audience.apply()
    told = audience.told(sessions[0])
    assert [len(content) for _, (content,) in told] == [EVENT_BYTES] * 30 + [1]


class LoudMachine(StateMachine):
    """Publishes much to who asks for it."""

    @command
    def shout(self, commit: Commit, size_kib: int) -> None:
        """Publish one event."""
        commit.publish(commit.session, "noise", bytes(size_kib << 10))

    @command
    def chat(self, commit: Commit, count: int) -> None:
        """Publish many."""
        for number in range(count):
            commit.publish(commit.session, "noise", bytes(1 + number % 7))


class LoudHandle(TallyHandle):
    """Opens it."""

    resource_type = "loud"


def test_what_one_batch_publishes_may_be_more_than_a_frame_has() -> None:
    """Ten commands of one batch publish a mebibyte each, one publishes 20,000 small events: all
    arrive, in order, and so does what follows."""
    with Simulation(31) as simulation:
        start_servers(simulation, Catalog({"loud": LoudMachine}))

        async def story() -> list[int]:
            async with AsyncClient(*ENDPOINTS, session_timeout_s=20) as client:
                loud = await client.open(LoudHandle, "x")
                sizes: list[int] = []
                client.listen(
                    loud.resource_id, lambda name, values, index: sizes.append(len(values[0]))
                )
                await asyncio.gather(*[loud.command("shout", 1000) for _ in range(10)])
                await loud.command("chat", 20_000)
                await loud.command("shout", 1)
                for _ in range(100):
                    if len(sizes) == 20_011:
                        break
                    await asyncio.sleep(0.1)
                return sizes

        sizes = simulation.run(story(), timeout_s=60)
    assert sizes[:10] == [1000 << 10] * 10
    assert sizes[10:-1] == [1 + number % 7 for number in range(20_000)]
    assert sizes[-1] == 1 << 10


def test_an_event_that_would_fit_into_no_frame_fails_its_command() -> None:
    """Its command is answered with the reason, and later events arrive."""
    with Simulation(32) as simulation:
        start_servers(simulation, Catalog({"loud": LoudMachine}))

        async def story() -> list[int]:
            async with AsyncClient(*ENDPOINTS) as client:
                loud = await client.open(LoudHandle, "x")
                sizes: list[int] = []
                client.listen(
                    loud.resource_id, lambda name, values, _: sizes.append(len(values[0]))
                )
                with pytest.raises(OperationFailed, match="at most 4,194,304 bytes"):
                    await loud.command("shout", 4 << 10)
                for size_kib in ((4 << 10) - 1, 1):
                    await loud.command("shout", size_kib)
                await asyncio.sleep(1)
                return sizes

        assert simulation.run(story(), timeout_s=60) == [(4 << 20) - 1024, 1024]
