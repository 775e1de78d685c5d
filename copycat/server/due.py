"""What is due at some log time: timers of resources and the expiry of sessions, in one order.

The order is (due time, index, number): the same on every server.
"""

import heapq

from copycat.types import Index, ResourceId, SessionId

Entry = tuple[int, Index, int, ResourceId]  # due time, index, timer, resource (0: a session)


class DueQueue:
    """The earliest first. A session that shows life moves its expiry without touching the queue."""

    def __init__(self) -> None:
        self._queue: list[Entry] = []
        self._sessions: dict[SessionId, int] = {}

    def add_timer(self, due_us: int, index: Index, timer: int, resource: ResourceId) -> None:
        """Plan a call of a resource."""
        heapq.heappush(self._queue, (due_us, index, timer, resource))

    def set_session(self, session: SessionId, due_us: int) -> None:
        """Plan or move the expiry of a session; it never moves to an earlier time."""
        if session not in self._sessions:
            heapq.heappush(self._queue, (due_us, session, 0, 0))
        self._sessions[session] = due_us

    def drop_session(self, session: SessionId) -> None:
        """Forget a session that has ended."""
        self._sessions.pop(session, None)

    def may_be_due(self, log_time_us: int) -> bool:
        """Whether ``pop`` may find something at this log time; False is certain."""
        return bool(self._queue) and self._queue[0][0] <= log_time_us

    def pop(self, log_time_us: int) -> Entry | None:
        """Take the next one that is due at this log time, or None."""
        self._settle()
        if self._queue and self._queue[0][0] <= log_time_us:
            entry = heapq.heappop(self._queue)
            if entry[3] == 0:
                self._sessions.pop(entry[1])
            return entry
        return None

    def next_due_us(self) -> int | None:
        """The log time of the earliest; None when there is nothing."""
        self._settle()
        return self._queue[0][0] if self._queue else None

    def _settle(self) -> None:
        """Bring the true earliest to the front: expiries that moved are put where they belong."""
        queue = self._queue
        while queue and queue[0][3] == 0:
            due_us, session, _, _ = queue[0]
            actual_us = self._sessions.get(session)
            if actual_us == due_us:
                return
            if actual_us is None:
                heapq.heappop(queue)
            else:
                heapq.heapreplace(queue, (actual_us, session, 0, 0))
