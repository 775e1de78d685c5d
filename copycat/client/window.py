"""Window: how much all sessions of one node together have sent that is not answered yet.

They share a link, so they share its room: a keep-alive goes behind at most what the window holds,
and neither side ever has to buffer more. What finds no room waits in its session, which is told
when it is its turn; sessions take turns, each with one request.
"""

from typing import TYPE_CHECKING

from copycat.actors.address import NodeAddress
from copycat.actors.message import message

if TYPE_CHECKING:
    from copycat.client.batches import Batch

BYTES_MAX = 1 << 20
SESSION_BYTES_MAX = BYTES_MAX // 2


@message(92)
class Proceed:
    """There is room in the window for the session that has waited longest."""


class Window:
    """What is on its way from one node, and who waits for room.

    One request always finds room when nothing is on its way, however large it is. When a server
    has refused something as too much, the window gets narrower; with every answer it gets wider.

    Attributes:
        limit_bytes: how wide it is.
        taken_bytes: sent and not answered.
        waiting: the sessions that wait for room, longest first, and the bytes of the next request.
    """

    __slots__ = ("limit_bytes", "taken_bytes", "waiting")

    def __init__(self) -> None:
        self.limit_bytes = BYTES_MAX
        self.taken_bytes = 0
        self.waiting: dict[NodeAddress, int] = {}

    def take(self, session: NodeAddress, size_bytes: int) -> bool:
        """Take room for a request, which ``give`` gives back; without room the session waits.

        Returns:
            Whether the request may be sent.
        """
        waiting = self.waiting
        if waiting or self.taken_bytes + size_bytes > self.limit_bytes:
            is_first = next(iter(waiting), session) == session
            if not (is_first and self._has_room(size_bytes)):
                waiting[session] = size_bytes
                return False
            waiting.pop(session, None)
        self.taken_bytes += size_bytes
        return True

    def _has_room(self, size_bytes: int) -> bool:
        return not self.taken_bytes or self.taken_bytes + size_bytes <= self.limit_bytes

    def give(self, size_bytes: int) -> None:
        """A request was answered or given up."""
        self.taken_bytes -= size_bytes
        assert self.taken_bytes >= 0, "no more is given back than was taken"

    def leave(self, session: NodeAddress) -> NodeAddress | None:
        """A session waits no more; who is next, then?"""
        self.waiting.pop(session, None)
        return self.next

    @property
    def next(self) -> NodeAddress | None:
        """The session that has waited longest, if there is room for what it waits with."""
        if not self.waiting:
            return None
        session, size_bytes = next(iter(self.waiting.items()))
        return session if self._has_room(size_bytes) else None

    def narrow(self) -> None:
        """A server had no room for what was sent."""
        self.limit_bytes = self.limit_bytes // 2


class Room:
    """What one session takes of the window; with nothing under way it may take any request."""

    def __init__(self, window: Window, session: NodeAddress) -> None:
        self._window = window
        self._session = session
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Take room for a request; else it may be tried again when something was answered, or when
        it is this session's turn."""
        taken_bytes, window = self._taken_bytes + size_bytes, self._window
        if self._taken_bytes and taken_bytes > SESSION_BYTES_MAX:
            return False
        if not window.waiting and window.taken_bytes + size_bytes <= window.limit_bytes:
            window.taken_bytes += size_bytes  # as nearly always
        elif not window.take(self._session, size_bytes):
            return False
        self._taken_bytes = taken_bytes
        return True

    def take_again(self, batch: "Batch") -> None:
        """Take room for what is left of a batch that had room: nothing goes before it."""
        batch.taken_bytes = batch.size_bytes
        self._taken_bytes += batch.taken_bytes
        self._window.taken_bytes += batch.taken_bytes

    def give(self, size_bytes: int) -> None:
        """Give some of it back."""
        self._taken_bytes -= size_bytes
        self._window.give(size_bytes)

    def give_back(self, batch: "Batch") -> None:
        """A batch is under way no more."""
        self.give(batch.taken_bytes)
        batch.taken_bytes = 0

    def answered(self, batch: "Batch") -> None:
        """A batch was answered: its room is free, and the window may be wider."""
        size_bytes, batch.taken_bytes = batch.taken_bytes, 0
        self._taken_bytes -= size_bytes
        window = self._window
        if window.limit_bytes < BYTES_MAX:
            window.limit_bytes = min(window.limit_bytes + size_bytes, BYTES_MAX)
        window.taken_bytes -= size_bytes
        assert window.taken_bytes >= 0, "no more is given back than was taken"
