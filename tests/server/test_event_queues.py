"""The events that wait in a session are bounded, and a session that passes the bound ends."""

from collections.abc import Iterator

import pytest

from clubhouse import Clubhouse
from copycat.actors import Identity
from copycat.actors.budget import Budget
from copycat.actors.simulation import Simulation
from copycat.protocol import client as protocol
from copycat.protocol.client import EVENT_BYTES, CommandsReply, Events, SessionEnded
from copycat.server import retained as retained_module
from copycat.server import session as session_module
from copycat.server.fan_out import SESSIONS_AT_ONCE
from copycat.server.retained import Published, Retained
from copycat.server.session import EVENTS_BYTES_MAX, MESSAGE_BYTES_MAX, Left, Session, ToSend
from copycat.server.steps import (
    Acknowledged,
    CommandsAnswered,
    EventsAfter,
    EventsPublished,
    Forget,
)

MEBIBYTE = 1 << 20


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """The world."""
    with Simulation(23) as simulation:
        yield simulation


@pytest.fixture
def retained() -> Retained:
    """What all sessions of the test keep."""
    return Retained()


@pytest.fixture
def session(simulation: Simulation, retained: Retained) -> Session:
    """The session with the id 1, on a node of its own."""
    node = simulation.node(Identity("n"))
    actor: Session = node.actor_at(node.spawn(Session, 1, bytes(16), "odd", retained).serial)
    return actor


def publish(session: Session, index: int, *events: bytes) -> bool:
    published = EventsPublished(index, [Published(event) for event in events], None)
    return session.events_published(published, session.address) is not None


def acknowledge(session: Session, event_sequence: int) -> None:
    session.acknowledged(Acknowledged(0, event_sequence), session.address)


def after(session: Session, event_sequence: int) -> ToSend:
    """What is sent next to a client that was sent everything up to this event."""
    return session.events_after(EventsAfter(event_sequence), session.address)


@pytest.mark.parametrize("size_bytes", [0, MEBIBYTE])
def test_events_that_nobody_acknowledges_are_bounded(
    session: Session, retained: Retained, size_bytes: int
) -> None:
    """What does not fit is not queued, small events count too, and acknowledging makes room."""
    together = tuple(bytes(size_bytes) for _ in range(1 if size_bytes else 4096))
    index = 2
    while publish(session, index, *together):
        index += 1
        assert index < 100
    kept = [size_bytes for *_, size_bytes in session._events]
    assert sum(kept) == session._events_bytes == retained.size_bytes
    assert EVENTS_BYTES_MAX - sum(kept) < len(together) * (EVENT_BYTES + size_bytes)
    assert session._events[-1][2] == index - 1
    acknowledge(session, len(together))
    assert publish(session, index, *together)
    assert not publish(session, index + 1, *together)
    kept_events, turns = (index - 2) * len(together), 1
    while not session.forget(Forget(), session.address):
        turns += 1
    assert session._events_bytes == retained.size_bytes == len(session._events) == 0
    assert turns >= kept_events // session_module.FORGOTTEN_AT_ONCE, "not all in one handler"


def test_the_events_of_an_entry_are_divided_and_numbered(session: Session) -> None:
    """What travels together is small, whatever one entry publishes; only a large event is alone in
    a large message. A part that was acknowledged is gone."""
    sizes = [100_000, 1, 100_000, 100_000, 2 * MEBIBYTE, 1, 1]
    assert publish(session, 5, *[bytes(size) for size in sizes])
    assert publish(session, 5, b"later at the same index")
    messages: list[Events] = []
    while (found := after(session, len(messages) and messages[-1].last_sequence)).messages:
        messages += found.messages
        assert found.size_bytes <= MESSAGE_BYTES_MAX or len(found.messages) == 1
        if found.left is Left.HELD_BACK:
            acknowledge(session, messages[-1].last_sequence)
    assert [message.first_sequence for message in messages] == [1, 4, 5, 6, 8]
    assert [[len(event) for event in message.events] for message in messages] == [
        [100_000, 1, 100_000], [100_000], [2 * MEBIBYTE], [1, 1], [23],
    ]  # fmt: skip
    assert {message.index for message in messages} == {5}


def test_no_more_is_on_the_way_than_the_window(session: Session) -> None:
    """A client that was sent much gets the rest when it has acknowledged, also if a small event
    is all that it lacks."""
    for index in range(2, 52):
        assert publish(session, index, bytes(100_000))
    sent = 0
    while (found := after(session, sent)).left is Left.MORE:
        sent = found.messages[-1].last_sequence
        assert found.size_bytes <= MESSAGE_BYTES_MAX
    assert found.left is Left.HELD_BACK
    sent = found.messages[-1].last_sequence if found.messages else sent
    assert 0 <= sent * 100_256 - protocol.EVENTS_WINDOW_BYTES < 100_256
    assert after(session, sent) == ToSend([], 0, Left.HELD_BACK)
    assert after(session, 49) == ToSend([], 0, Left.HELD_BACK)
    acknowledge(session, 1)
    assert [events.first_sequence for events in after(session, sent).messages] == [sent + 1]
    assert after(session, 50).left is after(session, 90).left is Left.NOTHING


def test_a_shared_event_is_counted_once(simulation: Simulation, retained: Retained) -> None:
    """All sessions together keep its content once; each that keeps it counts a little more."""
    node = simulation.node(Identity("n"))
    sessions: list[Session] = [
        node.actor_at(node.spawn(Session, number, bytes(16), "", retained).serial)
        for number in (1, 2, 3)
    ]
    event = [Published(bytes(10_000))]
    for one in sessions:
        one.events_published(EventsPublished(9, event, None), one.address)
    assert retained.size_bytes == 10_000 + 3 * EVENT_BYTES
    answer = CommandsAnswered(1, 1, 9, bytes(500), 500, (), 0, 0)
    sessions[0].commands_answered(answer, sessions[0].address)
    answers_bytes = retained.size_bytes - 10_000 - 3 * EVENT_BYTES
    assert answers_bytes > 500
    acknowledge(sessions[1], 1)
    assert retained.size_bytes == 10_000 + 2 * EVENT_BYTES + answers_bytes
    assert sessions[0].forget(Forget(), sessions[0].address)
    assert retained.size_bytes == 10_000 + EVENT_BYTES
    acknowledge(sessions[2], 1)
    assert retained.size_bytes == 0


def test_sessions_that_have_no_room_end_and_the_others_hear_of_it(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch ends two sessions, whose ends push over a third, before and behind others that
    are told all of it once, in one order."""
    monkeypatch.setattr(session_module, "EVENTS_BYTES_MAX", 10_000)
    club = Clubhouse(simulation)
    shouter, full, fuller = club.joined(), club.joined(), club.joined()
    club.command(shouter, "shout", 4_000)
    nearly, last = club.joined(), club.joined()
    club.command(shouter, "shout", 4_900, event_sequence=1)
    club.command(shouter, "join", event_sequence=2)
    club.command(last, "join", event_sequence=1)
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
    told_sizes = [len(event) for _, (event,) in club.told(nearly)]
    assert told_sizes == [4_900, 4_500], "what came before its end"
    words = [words for words in club.heard if type(words) is Events]
    told_now = {message.session for message in words if message.index == shout}
    assert told_now == {shouter, nearly, last}
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
    assert not any(type(words) is Events and words.index >= last for words in club.heard)


def test_when_all_keep_too_much_those_end_that_keep_most(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is within its own bound; the largest two end, on every server, and the rest is told."""
    monkeypatch.setattr(retained_module, "RETAINED_BYTES_MAX", 60_000)
    club = Clubhouse(simulation)
    speaker = club.joined()
    laggards = [club.joined() for _ in range(3)]
    spoken = 0
    for laggard, size_bytes in zip(laggards, (15_000, 5_000, 20_000), strict=True):
        spoken = club.command(speaker, "whisper", laggard, size_bytes)
    club.apply()
    assert club.ended() == []
    assert spoken
    club.command(speaker, "whisper", laggards[1], 17_000)
    club.apply()
    assert club.ended() == [laggards[1]]
    assert club.told(speaker)[-1:] == [["left", [laggards[1]]]]
    told = next(words for words in club.heard if type(words) is SessionEnded)
    assert "all clients together" in told.text
    assert club.appliers[0]._retained.size_bytes < 60_000 * 7 / 8


def test_an_event_for_many_sessions_is_queued_in_turns(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the budget is spent the rest is left to the next turn; the entry counts as applied when
    all have it, and each is sent it once."""
    club = Clubhouse(simulation)
    members = [club.joined() for _ in range(100)]
    club.apply()
    for _ in range(3):
        club.command(members[0], "shout", 10)
    defaults = Budget.__init__.__kwdefaults__
    assert defaults is not None, "a budget has a time that nobody need name"
    monkeypatch.setitem(defaults, "time_s", 0.0)
    applier = club.appliers[0]
    before = applier._progress.applied_index
    queued: list[int] = []
    work = applier._work

    def watched() -> None:
        work()
        cells = applier._myRef.children
        sessions = [cells[at.serial].actor for at in applier._sessions.values()]
        queued.append(sum(len(session._events) for session in sessions))
        assert (
            queued[-1] // 100 == applier._progress.applied_index - before or queued[-1] % 100 == 0
        )

    monkeypatch.setattr(applier, "_work", watched)
    club.apply()
    assert queued[-1] == 300
    steps = [after - before for before, after in zip([0, *queued], queued, strict=False)]
    assert max(steps) == SESSIONS_AT_ONCE
    assert {len(club.told(member)) for member in members} == {3}
