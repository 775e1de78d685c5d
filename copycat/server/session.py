"""Session: what is replicated of a client's session, equal on every server (dissertation §6.3).

It is stepped by the Applier in log order. What only one server knows of a client, its
connection above all, lives in ``Connection``.

Invariants: ``sequence`` only grows; the cache holds the answers after the last acknowledged
command and nothing else, of them the latest ``ANSWERS_BYTES_MAX``; events stand in the order of
their indexes and form a chain, and are never more than ``EVENTS_BYTES_MAX``.
"""

from collections import deque

from copycat.actors import NodeAddress
from copycat.protocol.client import Events
from copycat.server.server_actor import ServerActor
from copycat.server.steps import (
    Acknowledged,
    AskAnswer,
    CommandsAnswered,
    Ending,
    EventsAfter,
    EventsPublished,
)
from copycat.types import ResourceId, SessionId

Answer = tuple[int, bytes]
ANSWERS_BYTES_MAX = 32 << 20
"""Of the answers that one session has not acknowledged: twice what our clients can leave open."""
EVENTS_BYTES_MAX = 64 << 20
"""Of the events that one session has not acknowledged; more of them end it.

Like all that decides what a log means, it is to be the same on every server.
"""
REPLAY_BYTES_MAX = 8 << 20
"""Of the events sent again at once, but one message at least; a link buffers some of these."""


class Session(ServerActor):
    """One client session on one server."""

    def __init__(self, session: SessionId, nonce: bytes, client: str) -> None:
        self.session = session
        self.nonce = nonce
        self.client = client
        self.sequence = 0  # of the last command that was applied
        self.resources: dict[ResourceId, None] = {}  # used by it, in the order of first use
        # By first sequence, in order: last sequence, index, results and what they count.
        self._answers: dict[int, tuple[int, int, bytes, int]] = {}
        self._answers_bytes = 0
        self._events: deque[Events] = deque()
        self._events_bytes = 0
        self._last_event_index = session  # the chain begins at the session itself

    def ask_answer(self, message: AskAnswer, sender: NodeAddress) -> Answer | None:
        """The answer to a batch that was applied, while the client may not have it."""
        answer = self._answers.get(message.first_sequence)
        return (answer[1], answer[2]) if answer else None

    def commands_answered(self, message: CommandsAnswered, sender: NodeAddress) -> None:
        """Keep an answer until it is acknowledged."""
        assert message.first_sequence == self.sequence + 1, "each command is applied once"
        self.sequence = message.last_sequence
        self._trim(message.response_sequence, message.event_index)
        self._answers[message.first_sequence] = (
            message.last_sequence,
            message.base_index,
            message.results,
            message.counted_bytes,
        )
        self._answers_bytes += message.counted_bytes
        while self._answers_bytes > ANSWERS_BYTES_MAX:
            # Of a client that does not acknowledge.
            *_, counted_bytes = self._answers.pop(next(iter(self._answers)))
            self._answers_bytes -= counted_bytes
        for resource in message.resources:
            self.resources[resource] = None

    def acknowledged(self, message: Acknowledged, sender: NodeAddress) -> None:
        """Forget what the client says it has received."""
        self._trim(message.response_sequence, message.event_index)

    def _trim(self, response_sequence: int, event_index: int) -> None:
        answers = self._answers
        while answers:
            first = next(iter(answers))
            last, _, _, counted_bytes = answers[first]
            if last > response_sequence:
                break
            del answers[first]
            self._answers_bytes -= counted_bytes
        events = self._events
        while events and events[0].event_index <= event_index:
            self._events_bytes -= events.popleft().size_bytes

    def ending(self, message: Ending, sender: NodeAddress) -> list[ResourceId]:
        """Say who must be told."""
        return list(self.resources)

    def events_published(self, message: EventsPublished, sender: NodeAddress) -> Events | None:
        """Queue what one batch of the log published to this session, if there is room for it."""
        index, last = message.index, self._last_event_index
        assert index >= last, "events are published in log order"
        events = Events(self.session, index, last, message.events)
        size_bytes = self._events_bytes + events.size_bytes
        if size_bytes > EVENTS_BYTES_MAX:
            return None
        if self._events and self._events[-1].event_index == index:
            first = self._events.pop()
            events = Events(
                self.session, index, first.previous_index, first.events + message.events
            )
        self._events_bytes = size_bytes
        self._last_event_index = index
        self._events.append(events)
        return events

    def events_after(self, message: EventsAfter, sender: NodeAddress) -> list[Events]:
        """The next of the queued events that a client misses.

        It acknowledges them, or finds that there are more, and so gets those.
        """
        missing: list[Events] = []
        left_bytes = REPLAY_BYTES_MAX
        for events in self._events:
            if events.event_index > message.event_index:
                left_bytes -= events.size_bytes
                if missing and left_bytes < 0:
                    break
                missing.append(events)
        return missing

    @property
    def events_waiting(self) -> int:
        """How many batches of events have not been acknowledged."""
        return len(self._events)
