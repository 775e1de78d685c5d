"""The order of events: each is delivered once, and none is skipped."""

from collections.abc import Callable
from math import inf
from typing import Any

from copycat.protocol import client as protocol
from copycat.protocol.client import Events, ResetEvents
from copycat.types import SessionId

ASK_AGAIN_S = 1.0
MANY_MESSAGES = 1_024


def many_bytes() -> int:
    """So many that the cluster should hear of it, before it stops to send more."""
    return protocol.EVENTS_WINDOW_BYTES // 2


class EventOrder:
    """Which events of one session have been received.

    What a server sends over a connection arrives in order, so an event that is not there when a
    later one is, or what a server has said of it, is missing. A question for such events is
    answered in the same order: what comes before the answer proves nothing more.

    Attributes:
        are_many: whether so many were received, after the last acknowledgement that was sent,
            that the next one should not wait for its time.
        sequence: of the last event received; all before it have been, too.
        ask_at_s: when to ask it (again); ``inf`` if none is open.
    """

    def __init__(self, transmit: Callable[[Any, float], None]) -> None:
        """Expect the first one; ``transmit`` asks a server for something, at this time."""
        self.are_many = False
        self.sequence = 0
        self.ask_at_s = inf
        self._question = 0  # the number of the last one
        self._transmit = transmit
        self._messages = 0  # since the last acknowledgement
        self._bytes = 0

    def begin(self) -> None:
        """A session was opened, and has had no event."""
        self.sequence = self._question = 0
        self.ask_at_s = inf
        self.acknowledged()

    def accept(self, events: Events, now_s: float) -> tuple[bytes, ...]:
        """Those of these events that are the next; what comes twice or too early is not."""
        seen = self.sequence + 1 - events.first_sequence
        if seen < 0:
            self._miss(now_s)
            return ()
        if seen >= len(events.events):
            return ()
        self.sequence = events.last_sequence
        self._messages += 1
        self._bytes += events.size_bytes
        self.are_many = self._messages >= MANY_MESSAGES or self._bytes >= many_bytes()
        return events.events[seen:]

    def sent(self, event_sequence: int, now_s: float) -> None:
        """A server has sent all up to this event before what it says now."""
        if event_sequence > self.sequence:
            self._miss(now_s)

    def _miss(self, now_s: float) -> None:
        if self.ask_at_s == inf:
            self._question += 1
            self.ask_at_s = now_s

    def acknowledged(self) -> None:
        """The cluster is being told what has been received."""
        self.are_many = False
        self._messages = self._bytes = 0

    def ask(self, now_s: float, session: SessionId) -> None:
        """Ask for missing events if that is due; one question is enough for a while."""
        if self.ask_at_s <= now_s:
            self.ask_at_s = now_s + ASK_AGAIN_S
            self._transmit(ResetEvents(session, self.sequence, self._question), now_s)

    def answered(self, question: int) -> None:
        """What was asked for comes from here on."""
        if question == self._question:
            self.ask_at_s = inf

    def attached(self) -> None:
        """A new connection sends unasked what is missing."""
        self.ask_at_s = inf
