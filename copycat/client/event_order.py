"""The order of events: each is delivered once, and none is skipped."""

from math import inf

from copycat.protocol.client import Events

ASK_AGAIN_S = 1.0


class EventOrder:
    """Which events of one session have been received.

    Attributes:
        index: of the last event received; all before it have been, too.
        reset_at_s: when to ask for events that are missing; ``inf`` if none are known to be.
    """

    def __init__(self) -> None:
        self.index = 0
        self.reset_at_s = inf

    def begin(self, session: int) -> None:
        """A session was opened: its id is the index before its first event."""
        self.index = session
        self.reset_at_s = inf

    def accepts(self, events: Events, now_s: float) -> bool:
        """Whether these are the next events; what comes twice or too early is not."""
        if events.event_index <= self.index:
            return False
        if events.previous_index > self.index:
            if self.reset_at_s == inf:
                self.reset_at_s = now_s
            return False
        self.index = events.event_index
        self.reset_at_s = inf
        return True

    def asked(self, now_s: float) -> None:
        """The missing events were asked for; one question is enough for a while."""
        self.reset_at_s = now_s + ASK_AGAIN_S

    def attached(self) -> None:
        """A new connection sends unasked what is missing."""
        self.reset_at_s = inf
