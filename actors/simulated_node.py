"""One node of a simulated world: its clock, its environment, and how it meets loop and network."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thespian.actors import PoisonMessage

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.codec import CodecError, decode, encode
from copycat.actors.environment import Clock, Disk, DiskDone, Identity, Links
from copycat.actors.handler_times import HandlerTimes
from copycat.actors.message import from_wire, is_message, number_of, to_wire
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_links import SimulatedLinks
from copycat.actors.simulated_loop import SimulatedLoop, SimulationStalled, Turn
from copycat.actors.simulated_network import SILENCE_LIMIT_S
from copycat.actors.simulated_processor import Processor
from copycat.actors.steady_clock import SteadyClock
from copycat.actors.system import Node

if TYPE_CHECKING:
    from copycat.actors.simulation import Simulation

WALL_START_S = 1_700_000_000.0  # what an honest wall clock shows when a simulation begins
ORIGIN_MAX_S = 1_000_000.0  # monotonic clocks of different nodes have nothing to do with each other
CLOCK_RESOLUTION_S = 1e-9  # no timer takes less
LOCAL_MESSAGES_MAX = 1_000_000  # within one node and event; more is a loop without an end


class SimulatedClock:
    """Time as one node sees it: at its own rate, from its own beginning."""

    def __init__(self, processor: Processor, origin_s: float) -> None:
        self._time = processor.time
        self._rate = 1.0
        self._began_s = self._time()
        self._origin_s = origin_s
        self._wall_origin_s = WALL_START_S + self._began_s
        self._jumped_s = 0.0
        self._steady = SteadyClock(lambda: self.passing_s() + self._jumped_s)
        self.monotonic_s = self._steady.monotonic_s

    @property
    def set_back_s(self) -> float:
        """By how much the monotonic clock was set back so far."""
        return self._steady.set_back_s

    @property
    def rate(self) -> float:
        """How many seconds pass on this clock while one passes in truth. When it is changed,
        timers that are planned already keep their time."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        assert rate > 0, "a clock does not stand still or go back"
        self._origin_s = self.passing_s()
        self._wall_origin_s = self.wall_time_s()
        self._began_s = self._time()
        self._rate = rate

    def passing_s(self) -> float:
        """Seconds since an arbitrary moment, which no jump changes here."""
        return self._origin_s + (self._time() - self._began_s) * self._rate

    def wall_time_s(self) -> float:
        """Seconds since 1970 by the node's wall clock."""
        return self._wall_origin_s + (self._time() - self._began_s) * self._rate

    def jump_monotonic(self, by_s: float) -> None:
        """Set the machine's monotonic clock forward, or back when negative, as none should be."""
        self._jumped_s += by_s

    def jump_wall(self, by_s: float) -> None:
        """Set the wall clock forward, or back when negative."""
        self._wall_origin_s += by_s


@dataclass(slots=True)
class SimulatedEnvironment:
    """The simulated world as one node sees it; see ``environment.Environment``."""

    clock: Clock
    random: random.Random
    disk: Disk
    links: Links
    node: str
    handlers: HandlerTimes


class SimulatedNode(Node):
    """A node in virtual time. ``Simulation.node`` makes it.

    Attributes:
        endpoint: what others dial to reach it, or None.
        processor: what its work takes, and until when it is busy.
        clock: its clock, which can be made to run fast or slow, and to jump.
        disk: its disk, which can be made to fail.
        links: its connections.
        paused: whether it does nothing at present, though messages go on arriving.
        turns: how often its actors have run; between two turns nothing in them changes.
        ends_orderly: whether what it has sent arrives before the news of its end.
        ends_silently: whether the news of its end is late.
    """

    loop: SimulatedLoop

    def __init__(
        self,
        simulation: "Simulation",
        identity: Identity,
        incarnation: int,
        endpoint: str | None,
        disk: SimulatedDisk,
    ) -> None:
        loop = simulation.loop
        chance = simulation.random_for(f"node {identity.name} {incarnation}")
        self.processor = Processor(loop, simulation.processors.get(identity.name, 0.0))
        self.clock = SimulatedClock(self.processor, chance.random() * ORIGIN_MAX_S)
        self.disk = disk
        environment = SimulatedEnvironment(
            clock=self.clock,
            random=chance,
            disk=disk,
            links=None,  # type: ignore[arg-type]  # the links need the node, which needs this
            node=identity.name,
            handlers=HandlerTimes(self.processor.time),
        )
        super().__init__(identity.name, incarnation, loop, environment)
        self.links = environment.links = SimulatedLinks(self, simulation.network, identity)
        self.endpoint = endpoint
        self.paused = False
        self.turns = 0
        self.ends_orderly = True
        self.ends_silently = False
        self._simulation = simulation
        self._address = NodeAddress(self.name, incarnation, 0)
        self._next_turn = Turn(self._turn)
        self._when_resumed: list[Callable[[], None]] = []
        self._resume_s = 0.0
        self._silent_s = 0.0  # when the others will have noticed the pause
        self._event = -1  # the event that the count below belongs to
        self._local_messages = 0
        disk.attach(loop, self._disk_done, self.processor.time)

    # Pauses.

    def pause(self, duration_s: float) -> None:
        """Do nothing for a while, as a process that was stopped or swapped out. Messages and
        timers wait; the clock goes on."""
        if not self.paused:
            self._silent_s = self.loop.time() + SILENCE_LIMIT_S
            self.loop.plan(self._silent_s, SimulatedNode._fall_silent, self)
        self.paused = True
        self._resume_s = max(self._resume_s, self.loop.time() + duration_s)
        self.loop.plan(self._resume_s, SimulatedNode._resume, self)

    def _fall_silent(self) -> None:
        if self.paused and not self.stopped and self.loop.time() >= self._silent_s:
            self._simulation.network.fall_silent(self)

    def when_resumed(self, callback: Callable[[], None]) -> None:
        """Call back when the pause is over, by its time or by the end of this node."""
        assert self.paused, "only a node that was paused is resumed"
        self._when_resumed.append(callback)

    def _resume(self) -> None:
        if self.stopped or not self.paused or self.loop.time() < self._resume_s:
            return
        self.paused = False
        self._call_waiting()
        if self._ready or self._after_turn:
            self.plan_turn()

    def _call_waiting(self) -> None:
        waiting, self._when_resumed = self._when_resumed, []
        for callback in waiting:
            callback()

    # What Node asks of a world.

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after a delay by this node's clock, as long as the node runs."""
        # Less might be lost in the rounding of a clock, and a timer that is early for ever would
        # hold up the time of the whole world.
        true_delay_s = max(delay_s / self.clock.rate, CLOCK_RESOLUTION_S)
        true_delay_s += self._simulation.late_s()
        due_s = self.processor.time() + true_delay_s
        return self.loop.call_at(due_s, self._while_running, callback)

    def plan_turn(self) -> None:
        """Make sure that a turn follows, after the pause if there is one, and after the work that
        is under way."""
        if self.paused or self._turn_planned:
            return
        self._turn_planned = True
        if self.processor.is_busy:
            self.loop.plan(self.processor.free_s, SimulatedNode._plan_turn_again, self)
        else:
            self.loop.take_turn(self._next_turn)

    def _plan_turn_again(self) -> None:
        """The work that was under way is done, unless there has come more."""
        self._turn_planned = False
        if not self.stopped:
            self.plan_turn()

    def _turn(self) -> None:
        processor = self.processor
        processor.of_users.clear()
        before, Processor.at_work = Processor.at_work, processor
        try:
            super()._turn()
        finally:
            Processor.at_work = before

    def spawn(self, actor: type[Actor], *arguments: Any, serial: int = 0) -> NodeAddress:
        """Make a top-level actor; what its making costs is this node's work."""
        before, Processor.at_work = Processor.at_work, self.processor
        try:
            return super().spawn(actor, *arguments, serial=serial)
        finally:
            Processor.at_work = before

    def _transmit(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        try:
            self.links.transmit(target, message, sender)
        except CodecError as error:
            self.log.warning(
                "message cannot travel message=%s sender=%s reason=%s",
                type(message).__name__, sender, error,
            )  # fmt: skip
            self.deliver(sender, PoisonMessage(message, str(error)), sender)

    def refused(self, message: Any, sender: NodeAddress) -> None:
        """An actor does not take a message from another node."""
        self.links.refused(sender.node, f"{type(message).__name__} is not taken from it")

    def _end_of_turn(self) -> None:
        """Frames are on their way and syncs have begun since they were asked for."""
        self.turns += 1

    _proves_messages = True

    def _proved(self, message: Any) -> Any:
        if self._event != self.loop.events:
            self._event = self.loop.events
            self._local_messages = 0
        self._local_messages += 1
        if self._local_messages == LOCAL_MESSAGES_MAX:
            kind = type(message).__name__
            self._simulation.fail(
                SimulationStalled(
                    f"node {self.name} sends itself messages without an end at"
                    f" {self.loop.time():.6f} s; the last is a {kind}"
                )
            )
            self.stop()
        if self._simulation.encode_always and is_message(type(message)):
            return from_wire(number_of(message), decode(encode(to_wire(message))))
        return message

    def _leave(self) -> None:
        self._simulation.network.leave(self, orderly=self.ends_orderly, silent=self.ends_silently)
        self.disk.detach()
        self._call_waiting()  # who waits to be let in must knock again, or would wait for ever

    def _disk_done(self, reply_to: NodeAddress, done: DiskDone) -> None:
        self.deliver(reply_to, done, self._address)
