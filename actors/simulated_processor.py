"""The processor of a simulated node: work takes time, and meanwhile the node does nothing else.

What a function costs is decided outside, see ``copycat.testing.costs``: it is *charged* to the
node whose turn it is, or whose frame is being read. Charged work moves that node's own time: its
clock shows more, what it sends and asks of its disk leaves later, and its next turn begins when
the work is done. Whatever arrives before that waits.

Invariant: ``time()`` never goes back; with scale 0 it is the loop's.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from copycat.actors.simulated_loop import SimulatedLoop


class Processor:
    """One node's processor.

    Attributes:
        at_work: of all, the one whose node runs now; None when what runs belongs to no node.
        scale: how many times the stated cost work takes here; 0: no time at all.
        free_s: when all that was charged so far is done, by the loop's time.
        of_users: what users' code has been charged in this turn: when it ended, and how long it
            took.
    """

    __slots__ = ("_loop", "free_s", "of_users", "scale")
    at_work: "ClassVar[Processor | None]" = None

    def __init__(self, loop: "SimulatedLoop", scale: float) -> None:
        assert scale >= 0, "no work takes less than no time"
        self._loop = loop
        self.scale = scale
        self.free_s = 0.0
        self.of_users: list[tuple[float, float]] = []

    def time(self) -> float:
        """What time it is for the code that runs on this node, in the loop's seconds."""
        now_s, free_s = self._loop.now_s, self.free_s
        return now_s if now_s > free_s else free_s

    @property
    def is_busy(self) -> bool:
        """Whether work that was charged is still not done."""
        return self._loop.now_s < self.free_s

    def charge(self, cost_s: float, *, of_users: bool = False) -> None:
        """Work for so many seconds, times the scale."""
        took_s = cost_s * self.scale
        now_s, free_s = self._loop.now_s, self.free_s
        self.free_s = (now_s if now_s > free_s else free_s) + took_s
        if of_users:
            self.of_users.append((self.free_s, took_s))
