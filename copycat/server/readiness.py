"""Readiness: how long a server that was elected now would need until it could serve.

A leader serves when it has applied its log. So one that has much to apply is patient before it asks
for votes, in proportion and never for long: while there is another one that is ready, that one is
elected; and one that alone has the log, or is alone with it, still is.

What is not applied is told by its amount, as after a start; and where the server has been at it for
as long as an election time-out, by how fast that has gone.
"""

from collections.abc import Callable

from copycat.server.progress import Progress
from copycat.storage.log import Log
from copycat.types import Index

ENTRY_S = 20e-6  # what applying an entry takes, as long as nothing else is known
PATIENCE_PART = 0.25  # of what the server would need
PATIENCE_TIMEOUTS = 3  # election time-outs at most


class Readiness:
    """How far the state of one server is behind its log."""

    def __init__(
        self, now_s: Callable[[], float], log: Log, progress: Progress, shortest_s: float
    ) -> None:
        """Begin with what was recovered.

        Args:
            now_s: the server's monotonic clock.
            log: the server's.
            progress: of its Applier.
            shortest_s: the shortest election time-out.
        """
        self._now_s = now_s
        self._log = log
        self._progress = progress
        self._shortest_s = shortest_s
        # What was committed last when all that was committed before had been applied.
        self._awaited_index: Index = 0
        self._awaited_since_s = 0.0
        self._applied_then: Index = 0

    def committed(self, index: Index) -> None:
        """The commit index has moved."""
        applied_index = self._progress.applied_index
        if applied_index >= self._awaited_index:
            self._awaited_index = index
            self._awaited_since_s = self._now_s()
            self._applied_then = applied_index

    def patience_s(self, timeout_s: float) -> float:
        """How long to wait, after an election time-out, before this server asks for votes."""
        applied_index = self._progress.applied_index
        left = self._log.last_index - applied_index
        needed_s = left * ENTRY_S
        behind_s = self._now_s() - self._awaited_since_s
        if applied_index < self._awaited_index and behind_s > self._shortest_s:
            each_s = behind_s / max(1, applied_index - self._applied_then)
            needed_s = max(needed_s, left * each_s)
        return min(needed_s * PATIENCE_PART, timeout_s * PATIENCE_TIMEOUTS)
