"""Budget: what one handler may spend before it leaves the rest to the next turn.

Every loop over amounts that clients, the log or peers decide has one. A loop asks ``spent`` before
each further element, and when it is, sends its actor a message to go on with; so one element may
go beyond the budget, and whoever lets elements in bounds how large one can be.
"""

from copycat.actors.environment import Clock

BUDGET_S = 0.005
"""Half of the 10 ms that a handler may take, for the element under way and what surrounds the loop."""

BUDGET_BYTES = 1 << 20


class Budget:
    """The time and bytes that are left to one handler.

    Attributes:
        end_s: when its time is over, by the clock's ``passing_s``.
    """

    __slots__ = ("_left_bytes", "_now_s", "end_s")

    def __init__(
        self, clock: Clock, *, time_s: float = BUDGET_S, size_bytes: int = BUDGET_BYTES
    ) -> None:
        """Begin to spend.

        Args:
            clock: of the node.
            time_s: how long the loop may go on.
            size_bytes: how many bytes it may read, make or send.
        """
        self._now_s = clock.passing_s
        self.end_s = self._now_s() + time_s
        self._left_bytes = size_bytes

    def take(self, size_bytes: int) -> None:
        """Account for bytes that were read, made or sent."""
        self._left_bytes -= size_bytes

    @property
    def spent(self) -> bool:
        """Whether the rest is for the next turn."""
        return self._left_bytes <= 0 or self._now_s() >= self.end_s
