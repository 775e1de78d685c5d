"""Deadlines: one heap of everything that must end in time; no timer and no task for each."""

from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from typing import Protocol


class Dated(Protocol):
    """Something with a deadline. One that is not open any more is forgotten."""

    deadline_s: float

    @property
    def is_open(self) -> bool:
        """Whether the deadline still matters."""
        ...


class Deadlines:
    """What has to end, the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Dated]] = []
        self._added = 0  # breaks ties, so that equal deadlines pass in the order of their making

    def add(self, item: Dated) -> None:
        """Watch an item; a deadline of ``inf`` never passes."""
        if item.deadline_s != inf:
            self._added += 1
            heappush(self._heap, (item.deadline_s, self._added, item))

    @property
    def next_s(self) -> float:
        """When to look again; ``inf`` if nothing is watched. There may be nothing due then."""
        return self._heap[0][0] if self._heap else inf

    def due(self, now_s: float) -> Iterator[Dated]:
        """Take out the open items whose deadline has passed, one by one as long as they are asked
        for."""
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            _, _, item = heappop(heap)
            if item.is_open:
                yield item
        while heap and not heap[0][2].is_open:
            heappop(heap)
