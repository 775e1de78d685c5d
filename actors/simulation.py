"""Simulation: whole clusters in one thread, in virtual time, with every choice from one seed.

The same actors and the same coroutines that run in the network world run here, unmodified. The
parts have files of their own: ``simulated_loop`` (time), ``simulated_network`` and
``simulated_links`` (connections and their faults), ``simulated_disk`` and ``simulated_file``
(disks that crash), ``simulated_node`` (clocks and pauses).

Invariant: the same seed, program and Python give the same ``trace_hash``, in every process.

    with Simulation(seed=17) as simulation:
        n1 = simulation.node(Identity("n1"), endpoint="n1:7401")
        n1.spawn(Greeter, serial=1)
        assert simulation.run(ask_n1(), timeout_s=10) == "hello"
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar

from copycat.actors.environment import Identity
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_loop import SimulatedLoop
from copycat.actors.simulated_network import NetworkFaults, SimulatedNetwork
from copycat.actors.simulated_node import SimulatedNode

T = TypeVar("T")
ENCODED_SEEDS = 8  # one seed in so many encodes messages within a node too


class Simulation:
    """One simulated world.

    Attributes:
        seed: decides everything.
        loop: the event loop; ``asyncio.get_running_loop()`` of all that runs here.
        network: the wires, with cuts, partitions and the faults in force.
        random: for the test itself, to choose faults with.
        encode_always: whether messages within a node are encoded and decoded too.
        processors: how many times as long as stated work takes on a node, by its name; on others
            it takes no time. For nodes that start from now on.
        nodes: the latest life of every node, by name.
        wake_ups_late_s: timers of nodes may be late by so much, as on a busy machine.
    """

    wake_ups_late_s: float = 0.0

    def __init__(
        self,
        seed: int,
        *,
        faults: NetworkFaults | None = None,
        encode_always: bool | None = None,
        processors: Mapping[str, float] | None = None,
    ) -> None:
        """Make a world without nodes, at time 0.

        Args:
            seed: decides everything.
            faults: of the network; None: none but a delay.
            encode_always: None: on every eighth seed.
            processors: None: no work takes any time.
        """
        self.seed = seed
        self.loop = SimulatedLoop()
        self.loop.simulation = self
        self.random = self.random_for("test")
        if faults is None:
            faults = NetworkFaults.none()
        self.network = SimulatedNetwork(self.loop, self.random_for("network"), faults)
        if encode_always is None:
            encode_always = seed % ENCODED_SEEDS == 0
        self.encode_always = encode_always
        self.processors: Mapping[str, float] = processors or {}
        self.nodes: dict[str, SimulatedNode] = {}
        self._incarnations = 0
        self._lateness = self.random_for("late wake-ups")

    # Looking at it.

    @property
    def now_s(self) -> float:
        """Virtual seconds since the world began."""
        return self.loop.now_s

    @property
    def events(self) -> int:
        """How many deliveries between nodes, timers and disk completions there have been."""
        return self.loop.events

    @property
    def trace_hash(self) -> int:
        """A 64-bit digest of every event so far: times, order and the bytes of messages."""
        return int.from_bytes(self.loop.trace.digest(), "big")

    @property
    def after_event(self) -> list[Callable[[], None]]:
        """Monitors: each is called after every event and the turn it caused. What one raises is
        raised out of the run."""
        return self.loop.after_event

    @property
    def faults(self) -> NetworkFaults:
        """The network's faults; assign to change them."""
        return self.network.faults

    @faults.setter
    def faults(self, faults: NetworkFaults) -> None:
        self.network.faults = faults

    def random_for(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, so that they do not disturb each other."""
        return random.Random(f"{self.seed} {purpose}")

    def late_s(self) -> float:
        """By how much the next timer of a node is late."""
        return self._lateness.random() * self.wake_ups_late_s if self.wake_ups_late_s else 0.0

    # Nodes.

    def disk(self, name: str) -> SimulatedDisk:
        """A new, empty disk, with a generator of its own; each name once in a world."""
        return SimulatedDisk(self.random_for(f"disk {name}"))

    def node(
        self,
        identity: Identity,
        *,
        endpoint: str | None = None,
        disk: SimulatedDisk | None = None,
    ) -> SimulatedNode:
        """Start a node.

        Args:
            identity: how it introduces itself; faults on order do not tell nodes of one name apart.
            endpoint: ``"n1:7401"``: what others dial; None: it does not listen.
            disk: its disk, which may be that of an earlier life; None: an empty one.
        """
        self._incarnations += 1
        if disk is None:
            disk = self.disk(f"{identity.name} {self._incarnations}")
        node = SimulatedNode(self, identity, self._incarnations, endpoint, disk)
        node.on_failure = self.fail
        self.network.join(node)
        self.nodes[identity.name] = node
        return node

    def crash(self, name: str, *, lose_unsynced: bool = True, silent: bool | None = None) -> None:
        """Stop a node at once, wherever it is between two events.

        Start it again with ``node`` and the same disk.

        Args:
            name: the node.
            lose_unsynced: the machine loses power, and its disk what was not synced, in any
                combination; False: only the process is killed.
            silent: whether other nodes notice late, or at once; None: the faults decide.
        """
        node = self.nodes[name]
        assert not node.stopped, f"node {name} is not running"
        if silent is None:
            silent = self.network.random.random() < self.faults.silent_crash
        node.ends_orderly = False
        node.ends_silently = silent
        if lose_unsynced:
            node.disk.crash()
        node.stop()

    def fail(self, error: BaseException) -> None:
        """Raise this out of the run as soon as possible. A node whose actor failed calls it,
        unless its ``on_failure`` is set to something else."""
        self.loop.interrupt(error)

    # Time.

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run the world until a coroutine ends, and return its result.

        Raises:
            SimulationStalled: it waits for something that nothing can bring about.
            TimeoutError: it took longer than ``timeout_s`` of virtual time; it was cancelled.
            BaseException: what it raised, or what made a node fail.
        """
        loop = self.loop
        task = loop.create_task(coroutine)
        limit = None
        if timeout_s is not None:
            limit = loop.call_later(timeout_s, self._time_out, timeout_s)
        try:
            return loop.run_until_complete(task)
        finally:
            if limit is not None:
                limit.cancel()
            if not task.done():
                task.cancel()
                loop.settle()
            if task.done() and not task.cancelled():
                task.exception()  # else asyncio complains that nobody has looked at it

    def run_for(self, duration_s: float) -> None:
        """Let virtual time pass."""
        loop = self.loop
        loop.plan(loop.time() + duration_s, SimulatedLoop.stop, loop)
        loop.run_forever()

    def _time_out(self, timeout_s: float) -> None:
        self.fail(TimeoutError(f"not done after {timeout_s} s; {self.loop.describe_tasks()}"))

    def close(self) -> None:
        """Stop all nodes, cancel all tasks and close the loop. Closing twice does nothing."""
        loop = self.loop
        if loop.is_closed():
            return
        loop.after_event.clear()
        for node in self.nodes.values():
            node.stop()
        for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
            task.cancel()
        loop.settle()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
