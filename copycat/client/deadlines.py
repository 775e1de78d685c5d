"""Deadlines: one heap of everything that must end in time; no timer and no task for each."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Protocol

from copycat.actors.budget import Budget


class Dated(Protocol):
    """Something with a deadline. One that is not open any more is forgotten."""

    deadline_s: float

    @property
    def is_open(self) -> bool:
        """Whether the deadline still matters."""
        ...


TIDIED_MIN = 1024

Failure = Callable[[], Exception]
Expire = Callable[[Any, float, Failure], None]
"""Ends an item whose deadline has passed by now, with this failure if it has changed nothing."""


class Deadlines:
    """What has to end, the earliest first.

    Attributes:
        next_s: when to look again; ``inf`` if nothing is watched. There may be nothing due then.
    """

    def __init__(self) -> None:
        self.next_s = inf
        self._heap: list[tuple[float, int, Dated, Expire]] = []
        self._added = 0  # breaks ties, so that equal deadlines pass in the order of their making
        self._tidied_at = TIDIED_MIN  # how many items there are when it is done next

    def add(self, item: Dated, expire: Expire) -> None:
        """Watch an item; a deadline of ``inf`` never passes."""
        if item.deadline_s != inf:
            self._added += 1
            heappush(self._heap, (item.deadline_s, self._added, item, expire))
            self.next_s = self._heap[0][0]
            if len(self._heap) > self._tidied_at:
                self._tidy()

    def _tidy(self) -> None:
        """Forget what ended before its deadline, at the cost of as many additions."""
        self._heap = [held for held in self._heap if held[2].is_open]
        heapify(self._heap)
        self._tidied_at = max(TIDIED_MIN, 2 * len(self._heap))
        self._look()

    def _look(self) -> None:
        self.next_s = self._heap[0][0] if self._heap else inf

    def expire(self, now_s: float, not_applied: Failure, budget: Budget) -> None:
        """End the open items whose deadline has passed, as far as the budget goes."""
        while self._heap and self._heap[0][0] <= now_s and not budget.spent:
            _, _, item, expire = heappop(self._heap)
            if item.is_open:
                expire(item, now_s, not_applied)
        while self._heap and not self._heap[0][2].is_open:
            heappop(self._heap)
        self._look()
