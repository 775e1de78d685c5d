"""Retained: what all sessions of a cluster together keep for their clients, events and answers.

It is replicated as the sessions are. An event that many sessions keep is one object with one
content, so it is counted once, and a little more for each session.
"""

RETAINED_BYTES_MAX = 2 << 30
"""Of all sessions together; when they keep more, those end that keep most.

Like all that decides what a log means, it is to be the same on every server.
"""
RETAINED_PART_LEFT = 7 / 8
"""Of that, when enough have ended: so they do not end at every entry from then on."""


class Published:
    """One event, as all sessions keep it to which it was published.

    Attributes:
        content: the codec's [resource, event, values].
        holders: how many sessions keep it.
    """

    __slots__ = ("content", "holders")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.holders = 0


class Retained:
    """How much that is.

    Attributes:
        size_bytes: of all that is kept.
    """

    def __init__(self) -> None:
        self.size_bytes = 0

    @property
    def is_too_much(self) -> bool:
        """Whether sessions have to end."""
        return self.size_bytes > RETAINED_BYTES_MAX

    @property
    def has_room(self) -> bool:
        """Whether enough of them have."""
        return self.size_bytes <= RETAINED_BYTES_MAX * RETAINED_PART_LEFT
