"""What has arrived on the links of a node and waits for its turn.

Messages of preferred nodes, and of those that this one has dialled, are delivered as they arrive.
Those of others wait until all sockets that had something to read have been read, and then are taken
one frame a link, round and round, as long as a turn may take; the rest waits for the next turn. A
link on which much waits is not read.
"""

from collections import deque
from typing import TYPE_CHECKING

from copycat.actors.budget import Budget

if TYPE_CHECKING:
    from copycat.actors.network import NetworkNode
    from copycat.actors.network_link import Link

BUFFER_BYTES = 256 * 1024
BUFFER_BYTES_WHEN_FULL = 16 * 1024
INTAKE_S = 0.002  # of a turn, for the frames of those who are not preferred
HELD_BYTES_MAX = 128 * 1024 * 1024  # of those who dialled: unfinished frames, and what waits
HELD_BYTES_FULL = HELD_BYTES_MAX // 2  # from here on less is read at once


class Intake:
    """The frames that wait, and how much is held of those that are not complete.

    Attributes:
        buffer: where links receive; in use only while bytes go from the socket to a link.
        room: the part of it that may be filled at once.
        waiting: links with complete frames, the next one first.
    """

    def __init__(self, node: "NetworkNode") -> None:
        self._node = node
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.room = self.buffer
        self.waiting: deque[Link] = deque()
        self._held_bytes = 0
        self._holders: dict[Link, None] = {}

    def take(self) -> None:
        """Deliver what waits, as much as a turn may take."""
        waiting, handlers = self.waiting, self._node.handlers
        budget = Budget(self._node.environment.clock, time_s=INTAKE_S)
        handlers.begin()
        while waiting and not budget.spent:
            link = waiting.popleft()
            if link.take_next():
                waiting.append(link)
            handlers.ended("Link.receive")

    def hold(self, link: "Link", held_bytes: int) -> None:
        """A link that the other side dialled now holds so much. If all together hold too much, that
        which holds most is ended."""
        self._held_bytes += held_bytes - link.held_bytes
        link.held_bytes = held_bytes
        if held_bytes:
            self._holders[link] = None
        else:
            self._holders.pop(link, None)
        is_full = self._held_bytes > HELD_BYTES_FULL
        self.room = self.buffer[:BUFFER_BYTES_WHEN_FULL] if is_full else self.buffer
        if self._held_bytes > HELD_BYTES_MAX:
            largest = max(self._holders, key=lambda holder: holder.held_bytes)
            self._node.log.warning(
                "too many unfinished frames %s bytes=%d", largest, self._held_bytes
            )
            largest.end("too many unfinished frames", at_once=True)
