"""The monitor of timers: each is called after its delay, and none is forgotten.

What is applied is committed, so a timer that one server has planned is planned for good: it stays
until the first server calls or cancels it, whoever crashes or loses his disk meanwhile.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.server.steps import FireTimer
from copycat.types import Index, ResourceId

if TYPE_CHECKING:
    from copycat.server.applier import Applier

TIMERS_WITHIN_S = 1.0
"""Beyond the delay: a heartbeat, an entry that lets log time pass, and what it takes to apply that
on a slow node."""

Timer = tuple[ResourceId, int]


class TimerTimes:
    """The timers of one world, by a time in which there is a leader that serves.

    Attributes:
        passed_s: how much of that time there was, at least as log time goes.
    """

    def __init__(self, near: Callable[[float], None]) -> None:
        """Know no timer; ``near`` is told how late one is, as a part of what it may be."""
        self.passed_s = 0.0
        self._near = near
        self._planned: dict[Timer, tuple[float, float, str]] = {}  # begun, delay, at whom
        self._due: list[
            tuple[float, Timer]
        ] = []  # a heap; what is over is left to come to its front
        self._over: set[Timer] = set()  # called or cancelled by some server

    def watch(self, name: str, applier: "Applier") -> None:
        """Watch what a server plans, calls and cancels in a new life."""
        due, step = applier._due, applier.step
        add_timer, cancel_timer = due.add_timer, due.cancel_timer

        def watched_add(due_us: int, index: Index, timer: int, resource: ResourceId) -> None:
            self._plan(name, (resource, timer), (due_us - applier._log_time_us) / 1_000_000)
            add_timer(due_us, index, timer, resource)

        def watched_cancel(timer: int, resource: ResourceId) -> None:
            self._end((resource, timer))
            cancel_timer(timer, resource)

        def watched_step(child: NodeAddress, message: object, *sender: object) -> object:
            if type(message) is FireTimer:
                actor = applier._myRef.children[child.serial].actor
                self._end((actor.resource, message.timer))
            return step(child, message, *sender)  # type: ignore[arg-type]  # as it was called

        due.add_timer = watched_add  # type: ignore[method-assign]
        due.cancel_timer = watched_cancel  # type: ignore[method-assign]
        applier.step = watched_step  # type: ignore[method-assign, assignment]  # it hands all on

    def _plan(self, name: str, timer: Timer, delay_s: float) -> None:
        if timer not in self._over and timer not in self._planned:
            self._planned[timer] = (self.passed_s, delay_s, name)
            heappush(self._due, (self.passed_s + delay_s, timer))

    def _end(self, timer: Timer) -> None:
        self._over.add(timer)
        planned = self._planned.pop(timer, None)
        if planned is not None:
            began_s, delay_s, _ = planned
            self._near((self.passed_s - began_s - delay_s) / TIMERS_WITHIN_S)

    def overdue(self) -> tuple[str, str] | None:
        """A timer that nobody has called in time: who has planned it, and what is to be said."""
        while self._due and self._due[0][0] + TIMERS_WITHIN_S < self.passed_s:
            timer = self._due[0][1]
            if timer in self._planned:
                began_s, delay_s, name = self._planned[timer]
                late_s = self.passed_s - began_s - delay_s
                return name, (
                    f"timer {timer[1]} of resource {timer[0]}, which {name} was the first to plan, is"
                    f" {late_s:.3f} s late after its {delay_s:.3f} s, counting only calm under a leader"
                    " that serves"
                )
            heappop(self._due)
        return None
