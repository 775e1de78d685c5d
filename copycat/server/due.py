"""What is due at some log time: timers of resources and the expiry of sessions, in one order.

The order is (due time, index, number): the same on every server.
"""

import heapq

from copycat.types import Index, ResourceId, SessionId

_DEAD_KEPT_MAX = 64  # so few are not worth tidying up

Entry = tuple[int, Index, int, ResourceId]  # due time, index, timer, resource (0: a session)


class DueQueue:
    """The earliest first. A session that shows life moves its expiry without touching the queue.

    What was cancelled, or has ended, leaves the queue when it comes to the front, or when more than
    half of the queue is such.
    """

    def __init__(self) -> None:
        self._queue: list[Entry] = []
        self._sessions: dict[SessionId, int] = {}
        self._timers: dict[tuple[ResourceId, int], None] = {}  # each has one entry in the queue

    def __len__(self) -> int:
        return len(self._queue)

    def add_timer(self, due_us: int, index: Index, timer: int, resource: ResourceId) -> None:
        """Plan a call of a resource."""
        self._timers[resource, timer] = None
        heapq.heappush(self._queue, (due_us, index, timer, resource))

    def cancel_timer(self, timer: int, resource: ResourceId) -> None:
        """Forget a call; one that was made, or cancelled already, is ignored."""
        if (resource, timer) in self._timers:
            del self._timers[resource, timer]
            self._tidy()

    def set_session(self, session: SessionId, due_us: int) -> None:
        """Plan or move the expiry of a session; it never moves to an earlier time."""
        if session not in self._sessions:
            heapq.heappush(self._queue, (due_us, session, 0, 0))
        self._sessions[session] = due_us

    def drop_session(self, session: SessionId) -> None:
        """Forget a session that has ended."""
        if self._sessions.pop(session, None) is not None:
            self._tidy()

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
            else:
                del self._timers[entry[3], entry[2]]
            return entry
        return None

    def next_due_us(self) -> int | None:
        """The log time of the earliest; None when there is nothing."""
        self._settle()
        return self._queue[0][0] if self._queue else None

    def _settle(self) -> None:
        """Bring the true earliest to the front: expiries that moved are put where they belong."""
        queue = self._queue
        while queue:
            due_us, session, timer, resource = queue[0]
            if resource != 0:
                if (resource, timer) in self._timers:
                    return
                heapq.heappop(queue)
                continue
            actual_us = self._sessions.get(session)
            if actual_us == due_us:
                return
            if actual_us is None:
                heapq.heappop(queue)
            else:
                heapq.heapreplace(queue, (actual_us, session, 0, 0))

    def _tidy(self) -> None:
        if len(self._queue) <= 2 * (len(self._sessions) + len(self._timers)) + _DEAD_KEPT_MAX:
            return
        self._queue = [entry for entry in self._queue if self._is_planned(entry)]
        heapq.heapify(self._queue)

    def _is_planned(self, entry: Entry) -> bool:
        _, session, timer, resource = entry
        return session in self._sessions if resource == 0 else (resource, timer) in self._timers
