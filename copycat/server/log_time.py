"""Log time: elapsed time under leaders that serve, in microseconds since the log was begun.

A leader goes on from the highest log time that it has heard of the newest term's leader, or that
stands in its log. Its own begins to run when it serves, so the time that it needs for its log ages
nobody; every request says how late it is, so what passes while nothing is appended is not lost
with the leader. Without a leader that serves, log time stands still.

Invariant: log time never goes back, on any server, from entry to entry.
"""

from collections.abc import Callable

from copycat.types import Term

US_PER_S = 1_000_000


class HeardLogTime:
    """The log time of the newest term's leader, as far as this server has heard of it.

    An older term's does not count beside it, even if it is later: who was cut off may go on for a
    while and be heard by one server only.
    """

    def __init__(self) -> None:
        self._term: Term = 0
        self.latest_us = 0

    def hear(self, term: Term, log_time_us: int) -> None:
        """A request of this term says how late it is; requests may overtake each other."""
        if term > self._term:
            self._term, self.latest_us = term, log_time_us
        elif term == self._term:
            self.latest_us = max(self.latest_us, log_time_us)


class LogClock:
    """The log time of one leader."""

    def __init__(self, now_s: Callable[[], float], base_us: int) -> None:
        """Stand still.

        Args:
            now_s: the server's monotonic clock.
            base_us: where log time stands.
        """
        self._now_s = now_s
        self._base_us = base_us
        self._began_s: float | None = None

    def start(self) -> None:
        """Run from now on: the leader serves."""
        assert self._began_s is None, "a leader begins to serve once"
        self._began_s = self._now_s()

    def now_us(self) -> int:
        """The log time now."""
        return self.us_at(self._now_s())

    def us_at(self, now_s: float) -> int:
        """The log time at this moment, which is now."""
        if self._began_s is None:
            return self._base_us
        return self._base_us + round((now_s - self._began_s) * US_PER_S)
