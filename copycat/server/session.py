"""Session: what is replicated of a client's session, equal on every server (dissertation §6.3).

It is stepped by the Applier in log order. What only one server knows of a client, which events it
was sent above all, lives in ``Attachment``.

Invariants: ``sequence`` only grows; the cache holds the answers after the last acknowledged
command and nothing else, of them the latest ``ANSWERS_BYTES_MAX``; events are numbered from 1
without a hole in the order in which they were published, and never more than ``EVENTS_BYTES_MAX``.
"""

from collections import deque
from enum import IntEnum
from typing import NamedTuple

from copycat.actors import NodeAddress
from copycat.protocol import client as protocol
from copycat.protocol.client import EVENT_BYTES, Events
from copycat.server.retained import Published, Retained
from copycat.server.server_actor import ServerActor
from copycat.server.steps import (
    Acknowledged,
    AskAnswer,
    AskRetained,
    CommandsAnswered,
    Ending,
    EventsAfter,
    EventsPublished,
    Forget,
)
from copycat.types import Index, ResourceId, SessionId

Answer = tuple[int, bytes]
ANSWERS_BYTES_MAX = 32 << 20
"""Of the answers that one session has not acknowledged: twice what our clients can leave open."""
ANSWER_BYTES = 256  # what the answer to a batch is counted with besides its own bytes
EVENTS_BYTES_MAX = 64 << 20
"""Of the events that one session has not acknowledged; more of them end it.

Like all that decides what a log means, it is to be the same on every server, and so is the next.
"""
MESSAGE_BYTES_MAX = 256 << 10
"""Of the events that travel together, and are acknowledged together: far less than a frame may
have. A larger event travels alone."""


FORGOTTEN_AT_ONCE = 10_000
"""Of answers or events; clients acknowledge fewer together. Others have to do so twice."""


class Left(IntEnum):
    """What is left of a session's queue when a part of it was taken to be sent."""

    NOTHING = 0
    MORE = 1
    HELD_BACK = 2  # until its client has acknowledged some of what was sent


class ToSend(NamedTuple):
    """The next events for a client."""

    messages: list[Events]
    size_bytes: int
    left: Left


_NOTHING_TO_SEND = ToSend([], 0, Left.NOTHING)

_Queued = tuple[int, int, Index, list[Published], int]
"""What one entry published to the session, or a part of it: the sequences of the first and the last
event, the index, the events, and their size. There may be a million, and a plain tuple is the least
that they can be."""


class Session(ServerActor):
    """One client session on one server."""

    def __init__(self, session: SessionId, nonce: bytes, client: str, retained: Retained) -> None:
        self.session = session
        self.nonce = nonce
        self.client = client
        self.sequence = 0  # of the last command that was applied
        self.resources: dict[ResourceId, None] = {}  # used by it, in the order of first use
        self._retained = retained
        # By first sequence, in order: last sequence, index, results and what they count.
        self._answers: dict[int, tuple[int, int, bytes, int]] = {}
        self._answers_bytes = 0
        self._events: deque[_Queued] = deque()
        self._events_bytes = 0
        self._event_sequence = 0  # of the last event

    def ask_answer(self, message: AskAnswer, sender: NodeAddress) -> Answer | None:
        """The answer to a batch that was applied, while the client may not have it."""
        answer = self._answers.get(message.first_sequence)
        return (answer[1], answer[2]) if answer else None

    def commands_answered(self, message: CommandsAnswered, sender: NodeAddress) -> None:
        """Keep an answer until it is acknowledged."""
        assert message.first_sequence == self.sequence + 1, "each command is applied once"
        self.sequence = message.last_sequence
        freed_bytes = self._trim(message.response_sequence, message.event_sequence)
        self._answers[message.first_sequence] = (
            message.last_sequence,
            message.base_index,
            message.results,
            message.counted_bytes,
        )
        kept_bytes = ANSWER_BYTES + message.counted_bytes - freed_bytes
        self._answers_bytes += kept_bytes
        self._retained.size_bytes += kept_bytes
        while self._answers_bytes > ANSWERS_BYTES_MAX:  # of a client that does not acknowledge
            *_, counted_bytes = self._answers.pop(next(iter(self._answers)))
            self._count_answer(-ANSWER_BYTES - counted_bytes)
        for resource in message.resources:
            self.resources[resource] = None

    def acknowledged(self, message: Acknowledged, sender: NodeAddress) -> None:
        """Forget what the client says it has received."""
        self._count_answer(-self._trim(message.response_sequence, message.event_sequence))

    def _trim(self, response_sequence: int, event_sequence: int) -> int:
        """Forget what was received; returns how much answers have counted that is to be given up."""
        answers = self._answers
        left, freed_bytes = FORGOTTEN_AT_ONCE, 0
        while answers and left > 0:
            first = next(iter(answers))
            last, _, _, counted_bytes = answers[first]
            if last > response_sequence:
                break
            del answers[first]
            freed_bytes += ANSWER_BYTES + counted_bytes
            left -= 1
        if self._events:
            self._forget_events(event_sequence)
        return freed_bytes

    def _count_answer(self, size_bytes: int) -> None:
        self._answers_bytes += size_bytes
        self._retained.size_bytes += size_bytes

    def ending(self, message: Ending, sender: NodeAddress) -> list[ResourceId]:
        """Say who must be told; ``forget`` is next."""
        return list(self.resources)

    def forget(self, message: Forget, sender: NodeAddress) -> bool:
        """Let go of what an ended session keeps, or of a part; True when that was all."""
        self._count_answer(-self._answers_bytes)
        self._forget_events(self._event_sequence)
        return not self._events

    def ask_retained(self, message: AskRetained, sender: NodeAddress) -> int:
        """How much it keeps, each event counted as if no other session had it."""
        return self._answers_bytes + self._events_bytes

    # Events.

    def events_published(self, message: EventsPublished, sender: NodeAddress) -> ToSend | None:
        """Queue what one entry published to this session, if there is room for it."""
        published: list[Published] = message.events  # type: ignore[assignment]
        size_bytes = EVENT_BYTES * len(published)
        for event in published:
            size_bytes += len(event.content)
        if self._events_bytes + size_bytes > EVENTS_BYTES_MAX:
            return None
        if size_bytes <= MESSAGE_BYTES_MAX or len(published) == 1:
            self._queue(message.index, published, size_bytes)
        else:
            self._queue_parts(message.index, published)
        return _NOTHING_TO_SEND if message.sent is None else self._after(message.sent)

    def _queue_parts(self, index: Index, published: list[Published]) -> None:
        part: list[Published] = []
        part_bytes = 0
        for event in published:
            size_bytes = EVENT_BYTES + len(event.content)
            if part and part_bytes + size_bytes > MESSAGE_BYTES_MAX:
                self._queue(index, part, part_bytes)
                part, part_bytes = [], 0
            part.append(event)
            part_bytes += size_bytes
        self._queue(index, part, part_bytes)

    def _queue(self, index: Index, events: list[Published], size_bytes: int) -> None:
        first = self._event_sequence + 1
        self._event_sequence += len(events)
        self._events.append((first, self._event_sequence, index, events, size_bytes))
        self._events_bytes += size_bytes
        retained_bytes = EVENT_BYTES * len(events)
        for event in events:
            event.holders += 1
            if event.holders == 1:
                retained_bytes += len(event.content)
        self._retained.size_bytes += retained_bytes

    def _forget_events(self, event_sequence: int) -> None:
        queue, left = self._events, FORGOTTEN_AT_ONCE
        while queue and left > 0 and queue[0][1] <= event_sequence:
            _, _, _, events, size_bytes = queue.popleft()
            self._events_bytes -= size_bytes
            retained_bytes = EVENT_BYTES * len(events)
            for event in events:
                event.holders -= 1
                if event.holders == 0:
                    retained_bytes += len(event.content)
            self._retained.size_bytes -= retained_bytes
            left -= len(events)

    def events_after(self, message: EventsAfter, sender: NodeAddress) -> ToSend:
        """The next events for a client that was sent all up to a sequence: one message at least,
        unless it has to acknowledge first."""
        return self._after(message.event_sequence)

    def _after(self, after: int) -> ToSend:
        queue = self._events
        if after >= self._event_sequence or not queue:
            return _NOTHING_TO_SEND
        first, _, index, events, size_bytes = queue[-1]
        if first == after + 1:  # of a client that keeps up
            if self._events_bytes - size_bytes >= protocol.EVENTS_WINDOW_BYTES:
                return ToSend([], 0, Left.HELD_BACK)
            return ToSend([self._message(first, index, events)], size_bytes, Left.NOTHING)
        messages: list[Events] = []
        sent_bytes = before_bytes = 0
        for first, last, index, events, size_bytes in queue:
            if last > after:
                if before_bytes >= protocol.EVENTS_WINDOW_BYTES:
                    return ToSend(messages, sent_bytes, Left.HELD_BACK)
                if messages and sent_bytes + size_bytes > MESSAGE_BYTES_MAX:
                    return ToSend(messages, sent_bytes, Left.MORE)
                messages.append(self._message(first, index, events))
                sent_bytes += size_bytes
            before_bytes += size_bytes
        return ToSend(messages, sent_bytes, Left.NOTHING)

    def _message(self, first_sequence: int, index: Index, events: list[Published]) -> Events:
        contents = tuple([event.content for event in events])
        return Events(self.session, first_sequence, index, contents)
