"""The order of events: each is delivered once, and none is skipped."""

from math import inf

from copycat.protocol.client import Events

ASK_AGAIN_S = 1.0
MANY_MESSAGES = 1_024
MANY_BYTES = 1 << 20  # less than what servers send again at once, so that they are asked for more


class EventOrder:
    """Which events of one session have been received.

    Attributes:
        are_many: whether so many were received, after the last acknowledgement that was sent,
            that the next one should not wait for its time.
        index: of the last event received; all before it have been, too.
        reset_at_s: when to ask for events that are missing; ``inf`` if none are known to be.
    """

    def __init__(self) -> None:
        self.are_many = False
        self.index = 0
        self.reset_at_s = inf
        self._messages = 0  # since the last acknowledgement
        self._bytes = 0

    def begin(self, session: int) -> None:
        """A session was opened: its id is the index before its first event."""
        self.index = session
        self.reset_at_s = inf
        self.acknowledged()

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
        self._messages += 1
        self._bytes += events.size_bytes
        self.are_many = self._messages >= MANY_MESSAGES or self._bytes >= MANY_BYTES
        return True

    def acknowledged(self) -> None:
        """The cluster is being told what has been received."""
        self.are_many = False
        self._messages = self._bytes = 0

    def asked(self, now_s: float) -> None:
        """The missing events were asked for; one question is enough for a while."""
        self.reset_at_s = now_s + ASK_AGAIN_S

    def attached(self) -> None:
        """A new connection sends unasked what is missing."""
        self.reset_at_s = inf
