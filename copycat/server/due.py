"""What is due at some log time: timers of resources and the expiry of sessions, in one order.

The order is (due time, index, number): the same on every server.
"""

from collections.abc import Iterable
from heapq import heappop, heappush, heapreplace
from math import inf

from copycat.types import Index, ResourceId, SessionId

_DEAD_KEPT_MAX = 64  # so few are not worth tidying up
_TIDIED_AT_ONCE = 4

Entry = tuple[int, Index, int, ResourceId]  # due time, index, timer, resource (0: a session)


class DueQueue:
    """The earliest first. Nothing that is done once takes longer the more there is in the queue.

    A session that shows life, and all of them when a leader begins, move their expiry without
    touching the queue: an entry is put to its place when it comes to the front. What was cancelled,
    or has ended, leaves the queue there, or when more than half of the queue is such: then all of
    it moves to another heap, a few entries whenever something leaves, and the dead stay behind.

    Invariant: each timer and session has one entry, at its time or an earlier one.

    Attributes:
        front_us: the log time of the first entry, which may be too early; ``inf`` without any.
        may_be_dead: whether the first entry may be of what was cancelled or has ended.
    """

    def __init__(self) -> None:
        self.front_us: float = inf
        self.may_be_dead = False
        self._heap: list[Entry] = []
        self._left: list[Entry] = []  # a heap too: what has not moved yet
        self._timeouts_us: dict[SessionId, int] = {}
        self._lives_us: dict[SessionId, int] = {}  # when each session has last shown life
        self._renewed_us = 0  # when all have
        self._timers: dict[tuple[ResourceId, int], None] = {}

    def __len__(self) -> int:
        return len(self._heap) + len(self._left)

    # What is planned.

    def add_timer(self, due_us: int, index: Index, timer: int, resource: ResourceId) -> None:
        """Plan a call of a resource."""
        self._timers[resource, timer] = None
        self._push((due_us, index, timer, resource))

    def cancel_timer(self, timer: int, resource: ResourceId) -> None:
        """Forget a call; one that was made, or cancelled already, is ignored."""
        if (resource, timer) in self._timers:
            del self._timers[resource, timer]
            self.may_be_dead = True
            self._tidy()

    def add_session(self, session: SessionId, timeout_us: int, now_us: int) -> None:
        """Plan the expiry of a session that was just opened."""
        self._timeouts_us[session] = timeout_us
        self._lives_us[session] = now_us
        self._push((now_us + timeout_us, session, 0, 0))

    def renew(self, session: SessionId, now_us: int) -> None:
        """A session shows life, if it has not ended."""
        if session in self._lives_us:
            self._lives_us[session] = now_us

    def renew_each(self, sessions: Iterable[SessionId], now_us: int) -> None:
        """These sessions show life, as far as they have not ended."""
        lives_us = self._lives_us
        for session in sessions:
            if session in lives_us:
                lives_us[session] = now_us

    def renew_all(self, now_us: int) -> None:
        """Take all sessions for alive."""
        self._renewed_us = now_us

    def drop_session(self, session: SessionId) -> None:
        """Forget a session that has ended."""
        if self._timeouts_us.pop(session, None) is not None:
            del self._lives_us[session]
            self.may_be_dead = True
            self._tidy()

    def expiries(self) -> dict[SessionId, int]:
        """When each session expires, unless it shows life."""
        return {session: self._expiry_us(session) for session in self._lives_us}

    def _expiry_us(self, session: SessionId) -> int:
        life_us, renewed_us = self._lives_us[session], self._renewed_us
        return (life_us if life_us > renewed_us else renewed_us) + self._timeouts_us[session]

    # What comes to the front.

    def take_front(self) -> Entry | None:
        """Take the first entry, or None if it is not to be there: then it was put to its place."""
        if not self.settle():
            return None
        entry = heappop(self._first())
        _, index, timer, resource = entry
        if resource == 0:
            del self._timeouts_us[index], self._lives_us[index]
        else:
            del self._timers[resource, timer]
        self.may_be_dead = True
        self._look()
        return entry

    def settle(self) -> bool:
        """Put the first entry to its place; True if it is at its time already, so that ``front_us``
        is when something is due, or if there is none."""
        heap = self._first() if self._left else self._heap
        self.may_be_dead = False
        if not heap:
            return True
        due_us, index, timer, resource = heap[0]
        if resource != 0:
            if (resource, timer) in self._timers:
                return True
            heappop(heap)
        elif index not in self._lives_us:
            heappop(heap)
        else:
            expiry_us = self._expiry_us(index)
            if expiry_us == due_us:
                return True
            heapreplace(heap, (expiry_us, index, 0, 0))
        self.may_be_dead = True  # what has come to the front
        self._look()
        return False

    def _is_dead(self, entry: Entry) -> bool:
        _, index, timer, resource = entry
        if resource == 0:
            return index not in self._lives_us
        return (resource, timer) not in self._timers

    # Two heaps.

    def _push(self, entry: Entry) -> None:
        heappush(self._heap, entry)
        self.front_us = min(self.front_us, entry[0])

    def _first(self) -> list[Entry]:
        heap, left = self._heap, self._left
        return left if left and (not heap or left[0] < heap[0]) else heap

    def _look(self) -> None:
        heap = self._first() if self._left else self._heap
        self.front_us = heap[0][0] if heap else inf

    def _tidy(self) -> None:
        """Something has left: move a few more entries, if more than half of them are dead."""
        if not self._left:
            if len(self._heap) <= 2 * len(self._timers) + 2 * len(self._lives_us) + _DEAD_KEPT_MAX:
                return
            self._heap, self._left = [], self._heap
        for _ in range(min(_TIDIED_AT_ONCE, len(self._left))):
            entry = self._left.pop()  # without its last one a heap is a heap
            if not self._is_dead(entry):
                heappush(self._heap, entry)
        self._look()
