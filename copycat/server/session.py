"""Session: what is replicated of a client's session, equal on every server (dissertation §6.3).

It is stepped by the Applier in log order. What only one server knows of a client, its
connection above all, lives in ``Connection``.

Invariants: ``sequence`` only grows; the cache holds the answers after the last acknowledged
command and nothing else, of them the latest ``ANSWERS_BYTES_MAX``; events stand in the order of
their indexes and form a chain.
"""

from collections import deque

from copycat.actors import NodeAddress
from copycat.protocol.client import Events
from copycat.server.server_actor import ServerActor
from copycat.server.steps import (
    AskAnswer,
    CommandsAnswered,
    Contact,
    Ending,
    EventsAfter,
    EventsPublished,
)
from copycat.types import ResourceId, SessionId

Answer = tuple[int, bytes]
ANSWERS_BYTES_MAX = 32 << 20
"""Of the answers that one session has not acknowledged: twice what our clients can leave open."""


class Session(ServerActor):
    """One client session on one server."""

    def __init__(self, session: SessionId, nonce: bytes, client: str, timeout_us: int) -> None:
        self.session = session
        self.nonce = nonce
        self.client = client
        self.timeout_us = timeout_us
        self.contact_us = 0  # log time of the last sign of life
        self.sequence = 0  # of the last command that was applied
        self.resources: dict[ResourceId, None] = {}  # used by it, in the order of first use
        self._answers: dict[int, tuple[int, int, bytes]] = {}  # by first sequence, in order
        self._answers_bytes = 0
        self._events: deque[Events] = deque()
        self._last_event_index = session  # the chain begins at the session itself

    def ask_answer(self, message: AskAnswer, sender: NodeAddress) -> Answer | None:
        """The answer to a batch that was applied, while the client may not have it."""
        answer = self._answers.get(message.first_sequence)
        return (answer[1], answer[2]) if answer else None

    def commands_answered(self, message: CommandsAnswered, sender: NodeAddress) -> None:
        """Keep an answer until it is acknowledged."""
        assert message.first_sequence == self.sequence + 1, "each command is applied once"
        self.sequence = message.last_sequence
        self._answers[message.first_sequence] = (
            message.last_sequence,
            message.base_index,
            message.results,
        )
        self._answers_bytes += len(message.results)
        while self._answers_bytes > ANSWERS_BYTES_MAX:
            self._forget(next(iter(self._answers)))  # of a client that does not acknowledge
        for resource in message.resources:
            self.resources[resource] = None

    def _forget(self, first_sequence: int) -> None:
        self._answers_bytes -= len(self._answers.pop(first_sequence)[2])

    def contact(self, message: Contact, sender: NodeAddress) -> int:
        """Note a sign of life, and forget what the client says it has received."""
        self.contact_us = max(self.contact_us, message.log_time_us)
        answers = self._answers
        for first in list(answers):
            if answers[first][0] > message.response_sequence:
                break
            self._forget(first)
        events = self._events
        while events and events[0].event_index <= message.event_index:
            events.popleft()
        return self.contact_us + self.timeout_us

    def ending(self, message: Ending, sender: NodeAddress) -> list[ResourceId]:
        """Say who must be told."""
        return list(self.resources)

    def events_published(self, message: EventsPublished, sender: NodeAddress) -> Events:
        """Queue what one batch of the log published to this session."""
        assert message.index > self._last_event_index, "events are published in log order"
        events = Events(self.session, message.index, self._last_event_index, message.events)
        self._last_event_index = message.index
        self._events.append(events)
        return events

    def events_after(self, message: EventsAfter, sender: NodeAddress) -> list[Events]:
        """The queued events that a client misses."""
        return [events for events in self._events if events.event_index > message.event_index]

    @property
    def events_waiting(self) -> int:
        """How many batches of events have not been acknowledged."""
        return len(self._events)
