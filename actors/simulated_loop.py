"""An asyncio event loop in virtual time: no sockets, no threads, no signals, no waiting.

Coroutines run on it unmodified. When nothing is ready, the clock jumps to the next thing that is
planned, which is an *event*: a timer of asyncio or a call planned by the simulated network or a
simulated disk. An event and all that becomes ready through it are over before the next one.

Invariants: time never goes back; of two things planned for the same time the one planned first
happens first; nothing depends on the machine's clock, on hashes or on addresses in memory, so the
same calls make the same ``trace``.
"""

import asyncio
import hashlib
import struct
from collections import deque
from collections.abc import Callable
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from copycat.actors.simulation import Simulation

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
BUSY_ROUNDS_MAX = 10_000  # rounds of ready callbacks before a poller is made to wait for an event
EVENTS_AT_ONCE_MAX = 1_000_000  # at the same time; more is a loop without an end
CANCELLED_TIMERS_MIN = 100  # below this many, cancelled timers stay where they are

_event_header = struct.Struct("<dQ")


class SimulationStalled(RuntimeError):
    """Time stands still: something waits, and nothing is planned that could ever wake it, or one
    thing after the other is planned for the same moment."""


class NotSimulatedError(RuntimeError):
    """Code asked the simulated world for a thing it does not have. Nothing was done."""


class Turn:
    """A callback that is made once and becomes ready again and again; asyncio's own handles are
    made for each time and keep a context."""

    __slots__ = ("_run",)
    _cancelled = False

    def __init__(self, callback: Callable[[], None]) -> None:
        self._run = callback


class SimulatedLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated world.

    Attributes:
        simulation: the world this loop belongs to, or None when it is used alone.
        events: how many events there have been.
        trace: a digest of every event so far and of what was recorded about it.
        now_s: what ``time`` returns, for those who ask all the time; nobody else assigns it.
        after_event: called after every event, when nothing is ready any more. What one of them
            raises is raised out of the run.
    """

    # What BaseEventLoop keeps for its own, and a loop in virtual time must share.
    _ready: "deque[asyncio.Handle | Turn]"
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.set_debug(False)  # debugging measures real time and shuffles nothing we need
        self.simulation: Simulation | None = None
        self.events = 0
        self.trace = hashlib.blake2b(digest_size=8)
        self.after_event: list[Callable[[], None]] = []
        self.now_s = 0.0
        self._planned: list[tuple[float, int, Callable[[Any], None] | None, Any]] = []
        self._plans_made = 0
        self._cancelled = 0  # timers in _planned that were cancelled
        self._moment = 0  # the first event of the time that it is
        self._unsettled = False  # whether an event's hooks are still to be called
        self._interruption: BaseException | None = None
        self.set_exception_handler(_interrupt)

    # Time.

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now_s

    def plan(self, when_s: float, callback: Callable[[T], None], argument: T) -> None:
        """Call ``callback(argument)`` as an event at ``when_s``; it cannot be cancelled.

        Cheaper than ``call_at``; an exception of the callback is raised out of the run.
        """
        self._plans_made += 1
        heappush(self._planned, (when_s, self._plans_made, callback, argument))

    def take_turn(self, turn: Turn) -> None:
        """Run this after all that is ready now, as ``call_soon`` would."""
        self._ready.append(turn)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at a virtual time, as asyncio has it."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._plans_made += 1
        heappush(self._planned, (when, self._plans_made, None, timer))
        timer._scheduled = True  # type: ignore[attr-defined]  # asyncio's own
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined]  # asyncio's own
            self._cancelled += 1
            if self._cancelled > max(CANCELLED_TIMERS_MIN, len(self._planned) // 2):
                self._planned = [
                    plan for plan in self._planned if plan[2] is not None or not plan[3]._cancelled
                ]
                heapify(self._planned)
                self._cancelled = 0

    # Running.

    def record(self, content: bytes) -> None:
        """Let the trace depend on these bytes."""
        self.trace.update(content)

    def interrupt(self, error: BaseException) -> None:
        """Raise this error out of the run as soon as the callback that runs now returns."""
        if isinstance(error.__cause__, KeyboardInterrupt):
            error = error.__cause__  # whoever runs the world wants it to end
        if self._interruption is None:
            self._interruption = error

    def _run_once(self) -> None:
        """Run what is ready, then event after event, until the loop is stopped.

        A stop takes effect when nothing is ready, so that a run always ends between two events.

        Raises:
            SimulationStalled: the loop was not stopped, and nothing is ready or planned, or time does
                not go on.
        """
        ready = self._ready
        while True:
            rounds = 0
            while ready and rounds < BUSY_ROUNDS_MAX:
                rounds += 1
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    if not handle._cancelled:
                        handle._run()
                        if self._interruption is not None:
                            self._raise_interruption()
            if self._unsettled:
                self._unsettled = False
                for hook in self.after_event:
                    hook()
                if ready and rounds < BUSY_ROUNDS_MAX:
                    continue
            if self._stopping:
                return
            if self._planned:
                self._happen()
            elif not ready:
                raise SimulationStalled(self.describe_stall("nothing is planned any more"))

    def _happen(self) -> None:
        """Let the next event happen, if all that is planned has not been cancelled."""
        when_s, number, callback, argument = heappop(self._planned)
        if callback is None:
            if argument._cancelled:
                self._cancelled -= 1
                return
            argument._scheduled = False
            callback = _run_timer
        self.events += 1
        if when_s > self.now_s:
            self.now_s = when_s
            self._moment = self.events
        elif self.events - self._moment > EVENTS_AT_ONCE_MAX:
            raise SimulationStalled(self.describe_stall("time does not go on"))
        self.trace.update(_event_header.pack(when_s, number))
        self._unsettled = True
        callback(argument)
        if self._interruption is not None:
            self._raise_interruption()

    def _raise_interruption(self) -> NoReturn:
        error, self._interruption = self._interruption, None
        assert error is not None, "there is something to raise"
        raise error

    def settle(self) -> None:
        """Run what is ready, without letting time pass."""
        self.call_soon(self.stop)
        self.run_forever()

    def describe_stall(self, why: str) -> str:
        """One line for people: the reason, the time, and what waits in vain."""
        return f"{why} at {self.now_s:.6f} s; {self.describe_tasks()}"

    def describe_tasks(self) -> str:
        """One line for people: where each unfinished task waits."""
        tasks = sorted(
            f"{task.get_name()} waits {_where(task)}" for task in asyncio.all_tasks(self)
        )
        return "; ".join(tasks) or "no task waits"

    # What this world does not have.

    def _write_to_self(self) -> None:
        """Called by ``call_soon_threadsafe``; there is no other thread to wake this one from."""

    def run_in_executor(self, _: Any, func: Callable[..., Any], *__: Any) -> NoReturn:  # type: ignore[override]
        """Refused: the simulated world has one thread."""
        raise NotSimulatedError(
            f"the simulated world has no threads to run {func!r} in; "
            "await a coroutine, or send a message to an actor"
        )

    def _refused(self, *_: Any, **__: Any) -> NoReturn:
        raise NotSimulatedError(
            "the simulated world has no sockets, pipes, processes or signals; "
            "nodes of a simulation reach each other through Simulation.node"
        )

    create_connection = create_server = create_datagram_endpoint = _refused
    create_unix_connection = create_unix_server = connect_accepted_socket = _refused
    connect_read_pipe = connect_write_pipe = subprocess_exec = subprocess_shell = _refused
    add_reader = add_writer = add_signal_handler = sendfile = start_tls = _refused  # type: ignore[assignment]  # they are not there, whatever they take


def _run_timer(timer: asyncio.TimerHandle) -> None:
    timer._run()


def _interrupt(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio would only log fails the run: a bug must not hide in a log."""
    error = context.get("exception")
    if isinstance(loop, SimulatedLoop) and loop.is_running() and error is not None:
        loop.interrupt(error)
    else:
        loop.default_exception_handler(context)


def _where(task: "asyncio.Task[Any]") -> str:
    """The chain of coroutines that a task waits in, outermost first."""
    places = []
    inner: Any = task.get_coro()
    while (frame := getattr(inner, "cr_frame", None)) is not None:
        file_name = frame.f_code.co_filename.rpartition("/")[2]
        places.append(f"{inner.__qualname__} ({file_name}:{frame.f_lineno})")
        inner = inner.cr_await
    return f"in {' > '.join(places) or 'no coroutine'}"
