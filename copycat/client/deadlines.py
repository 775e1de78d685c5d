"""Deadlines: one heap of everything that must end in time; no timer and no task for each."""

from collections.abc import Callable
from heapq import heappop, heappush
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


Failure = Callable[[], Exception]
Expire = Callable[[Any, float, Failure], None]
"""Ends an item whose deadline has passed by now, with this failure if it has changed nothing."""


class Deadlines:
    """What has to end, the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Dated, Expire]] = []
        self._added = 0  # breaks ties, so that equal deadlines pass in the order of their making

    def add(self, item: Dated, expire: Expire) -> None:
        """Watch an item; a deadline of ``inf`` never passes."""
        if item.deadline_s != inf:
            self._added += 1
            heappush(self._heap, (item.deadline_s, self._added, item, expire))

    @property
    def next_s(self) -> float:
        """When to look again; ``inf`` if nothing is watched. There may be nothing due then."""
        return self._heap[0][0] if self._heap else inf

    def expire(self, now_s: float, not_applied: Failure, budget: Budget) -> None:
        """End the open items whose deadline has passed, as far as the budget goes."""
        heap = self._heap
        while heap and heap[0][0] <= now_s and not budget.spent:
            _, _, item, expire = heappop(heap)
            if item.is_open:
                expire(item, now_s, not_applied)
        while heap and not heap[0][2].is_open:
            heappop(heap)
