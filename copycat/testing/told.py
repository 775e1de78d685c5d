"""Monitors of what clients are told: each answer as it was given, each event as it was published.

They stand between a client's session and the program: they see what has passed its own checks.
"""

from collections.abc import Callable
from math import inf

from copycat.actors.codec import decode
from copycat.client.asynchronous import AsyncClient
from copycat.client.session import ClientSession
from copycat.protocol.client import CommandsReply
from copycat.testing import rules
from copycat.testing.applied import Applied
from copycat.testing.violation import Story
from copycat.types import Index, SessionId


class Told:
    """What the clients of one world are told, compared with what the cluster has applied.

    Attributes:
        clients: of the latest lives, by the names of their nodes.
    """

    def __init__(
        self, story: Story, applied: Applied, fail: Callable[[BaseException], None]
    ) -> None:
        self._story = story
        self._applied = applied
        # A client outlives what its handlers raise, so that nobody would hear of it.
        self._fail = fail
        self.clients: dict[str, ClientSession] = {}
        self._listening: dict[str, _Listening] = {}

    def watch(self, client: AsyncClient) -> None:
        """Watch a client that has just connected, and all sessions it will have."""
        assert client._household is not None, "a connected client lives in a node"
        node = client._household.node
        session = node.actor_at(client._session.serial)
        assert type(session) is ClientSession, "a connected client has a session"
        self.clients[node.name] = session
        self._listening[node.name] = _Listening(self, node.name, session)

    def heard(self) -> dict[str, int]:
        """How many events each client has heard in the session that it has now."""
        return {who: listening.heard for who, listening in self._listening.items()}

    def check_answer(
        self, who: str, session: SessionId, answered: int, first: int, results: bytes | None
    ) -> None:
        """A batch was answered, after all commands up to ``answered`` were."""
        given = self._applied.answers.get((session, first))
        if first == answered + 1 and given is not None and given[2] == results:
            return
        told = "nothing" if results is None else decode(results)
        expected = "never answered that" if given is None else f"answered {decode(given[2])}"
        error = self._story.violated(
            rules.ANSWERS_IN_ORDER,
            f"{who} is told {told} for its commands from {first} on in session {session}, when all"
            f" up to {answered} were answered; the cluster has {expected}",
            who=(who,),
            index=given and given[1],
        )
        self._fail(error)
        raise error

    def check_event(
        self, who: str, session: SessionId, heard: int, event: bytes, index: Index
    ) -> None:
        """A session was told an event, after ``heard`` others."""
        published = self._applied.events.get(session, [])
        expected = published[heard] if heard < len(published) else None
        if expected == (index, event):
            return
        due = f"{decode(expected[1])} of index {expected[0]}" if expected else "none"
        error = self._story.violated(
            rules.EVENTS_IN_ORDER,
            f"event number {heard + 1} of session {session} that {who} hears is {decode(event)} of"
            f" index {index}, and should be {due}",
            who=(who,),
            index=index,
        )
        self._fail(error)
        raise error

    def check_expiry(self, name: str, session: SessionId, index: Index) -> None:
        """A session expires: its client knows by its own clock that it may."""
        for who, client in self.clients.items():
            contact = client._contact
            if client.session == session and client._now_s() < contact.doubtful_at_s < inf:
                raise self._story.violated(
                    rules.DOUBT_IN_TIME,
                    f"{name} ends session {session}, and {who} would rely on it for"
                    f" {contact.doubtful_at_s - client._now_s():.3f} s more",
                    who=(name, who),
                    index=index,
                )


class _Listening:
    """One client: how much it has been told in its session."""

    def __init__(self, told: Told, who: str, client: ClientSession) -> None:
        self._told = told
        self._who = who
        self._client = client
        self._session: SessionId = client.session
        self._answered = 0  # the sequence of the last command
        self._heard = 0  # events
        commands, inbox = client._commands, client._inbox
        answered, deliver = commands.answered, inbox.deliver

        def watched_answered(reply: CommandsReply) -> float | None:
            in_flight = commands._in_flight
            before = {first: (batch, batch.results) for first, batch in in_flight.items()}
            sent_s = answered(reply)
            self._begin_session()
            for first, (batch, results) in before.items():
                if first not in in_flight:
                    is_this = first == reply.first_sequence
                    told.check_answer(
                        who, self._session, self._answered, first,
                        reply.results if is_this else results,
                    )  # fmt: skip
                    self._answered = batch.last_sequence
            return sent_s

        def watched_deliver(event: bytes, index: Index) -> None:
            self._begin_session()
            told.check_event(who, self._session, self._heard, event, index)
            self._heard += 1
            deliver(event, index)

        commands.answered = watched_answered  # type: ignore[method-assign]
        inbox.deliver = watched_deliver  # type: ignore[method-assign]

    @property
    def heard(self) -> int:
        """How many events it has heard in its session."""
        return self._heard if self._session == self._client.session else 0

    def _begin_session(self) -> None:
        if self._session != self._client.session:
            self._session = self._client.session
            self._answered = self._heard = 0
