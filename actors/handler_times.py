"""Handler times: which handlers of a node keep its loop for too long, by name.

One reading of the clock a message is enough, since the end of one handler is the beginning of the
next. What the loop does besides handlers is counted in the same way when it can be long.
"""

import logging
from collections.abc import Callable

LIMITS_S = (0.010, 0.050, 0.200)
"""Above which a handler is counted. The first is what a handler may take."""

LOGGED_S = LIMITS_S[1]


class HandlerTimes:
    """The long handlers of one node since it started.

    Attributes:
        now_s: reads a monotonic clock.
        began_s: when the handler that runs now began: when the one before has ended.
        limit_s: what takes no longer than this is not looked at.
        over: how many took longer than each of ``LIMITS_S``, by name.
        heard: told of every handler over ``limit_s``, with name and seconds; None: nobody is.
    """

    __slots__ = ("began_s", "heard", "limit_s", "now_s", "over")

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.began_s = 0.0
        self.limit_s = LIMITS_S[0]
        self.over: tuple[dict[str, int], ...] = tuple({} for _ in LIMITS_S)
        self.heard: Callable[[str, float], None] | None = None

    def begin(self) -> float:
        """Begin to measure; returns the time."""
        self.began_s = now_s = self.now_s()
        return now_s

    def ended(self, name: str) -> None:
        """What has run since the last measurement was this."""
        ended_s = self.now_s()
        took_s = ended_s - self.began_s
        if took_s > self.limit_s:
            self.was_long(name, took_s)
        self.began_s = ended_s

    def was_long(self, name: str, took_s: float) -> None:
        """Count what took longer than ``limit_s``; the first of a name over 50 ms is logged."""
        for limit_s, counts in zip(LIMITS_S, self.over, strict=True):
            if took_s > limit_s:
                counts[name] = counts.get(name, 0) + 1
                if limit_s == LOGGED_S and counts[name] == 1:
                    logging.getLogger("copycat.actors").warning(
                        "handler kept the loop name=%s took_ms=%.0f", name, took_s * 1000
                    )
        if self.heard is not None:
            self.heard(name, took_s)
