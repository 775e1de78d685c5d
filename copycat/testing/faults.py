"""A driver of faults: it breaks servers, disks, links and clocks by chance, and in the end repairs.

Each seed draws which kinds of faults its world has, so that rare combinations get long runs of
their own. Everything it does is told to the monitors, for the story of a failure.
"""

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import replace

from copycat.actors.simulated_network import NetworkFaults
from copycat.testing.cluster import SimulatedCluster

PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.5
CLOCK_DRIFT_MAX = 0.05
WALL_JUMP_MAX_S = 3600.0
STALL_MAX_S = 1.0
MENDING = 0.5
"""How often servers are restarted or cuts are healed, instead of anything new being broken."""


class FaultDriver:
    """What goes wrong in one world.

    Attributes:
        kinds: the faults that this world has.
        done: how often each was done.
        doubles: whether messages may arrive twice. TCP never does that; the servers bear it, but
            a client that is told "not applied" may be wrong then.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        chance: random.Random,
        kinds: Collection[str] | None = None,
    ) -> None:
        """Plan what goes wrong.

        Args:
            cluster: where.
            chance: decides everything.
            kinds: the faults to have; None: each with probability 1/2.
        """
        self._cluster = cluster
        self._chance = chance
        self._mends = (self._restart, self._heal)
        every: dict[str, Callable[[], str | None]] = {
            "crash": self._crash,
            "crash leader": self._crash_leader,
            "crash all": self._crash_all,
            "kill": self._kill,
            "partition": self._partition,
            "isolate leader": self._isolate_leader,
            "one way": self._cut_one_way,
            "network": self._change_network,
            "reset": self._reset,
            "pause": self._pause,
            "clock": self._change_clock,
            "slow disk": self._slow_disk,
            "failed sync": self._fail_sync,
        }
        chosen = [name for name in every if chance.random() < 0.5] if kinds is None else kinds
        self.kinds = {name: every[name] for name in chosen}
        self.doubles = chance.random() < 0.25
        self.done = dict.fromkeys(self.kinds, 0)
        self._pace_s = chance.choice((0.1, 0.3, 1.0))

    async def run(self, duration_s: float) -> None:
        """Do harm for a while."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + duration_s
        while loop.time() < end_s:
            await asyncio.sleep(self._chance.expovariate(1 / self._pace_s))
            self.step()

    def step(self) -> None:
        """Do one thing, harmful or not."""
        if not self.kinds or self._chance.random() < MENDING:
            what = self._chance.choice(self._mends)()
        else:
            name = self._chance.choice(list(self.kinds))
            what = self.kinds[name]()
            self.done[name] += what is not None
        if what is not None:
            self._tell(what)

    def repair(self) -> None:
        """Undo everything that lasts: from now on the cluster must make progress."""
        cluster = self._cluster
        simulation = cluster.simulation
        simulation.faults = NetworkFaults.none()
        cluster.heal()
        for disk in cluster.disks.values():
            disk.repair()
        for name in cluster.running:
            cluster.node(name).clock.rate = 1.0
        cluster.restarts_failed = True
        cluster.start()
        self._tell("repairs everything")

    def _tell(self, what: str) -> None:
        if self._cluster.monitors is not None:
            self._cluster.monitors.story.tell("a fault", what)

    # Servers.

    def _somebody(self) -> str | None:
        running = self._cluster.running
        return self._chance.choice(running) if running else None

    def _crash(self) -> str | None:
        name = self._somebody()
        if name is None:
            return None
        self._cluster.crash(name)
        return f"cuts the power of {name}"

    def _crash_leader(self) -> str | None:
        leader = self._cluster.leader()
        if leader is None:
            return None
        self._cluster.crash(leader)
        return f"cuts the power of {leader}, which led"

    def _crash_all(self) -> str | None:
        return f"cuts the power of {', '.join(self._cluster.crash())}"

    def _kill(self) -> str | None:
        name = self._somebody()
        if name is None:
            return None
        self._cluster.crash(name, lose_unsynced=False, silent=False)
        return f"kills the process of {name}"

    def _restart(self) -> str | None:
        down = [name for name in self._cluster.names if not self._cluster.is_running(name)]
        if not down:
            return None
        chosen = down if self._chance.random() < 0.5 else [self._chance.choice(down)]
        for name in chosen:
            if self._chance.random() < 0.5:
                self._cluster.disks[name].crash()  # the machine was restarted, too
        self._cluster.start(*chosen)
        return f"restarts {', '.join(chosen)}"

    def _pause(self) -> str | None:
        name = self._somebody()
        if name is None:
            return None
        duration_s = self._chance.uniform(PAUSE_MIN_S, PAUSE_MAX_S)
        self._cluster.node(name).pause(duration_s)
        return f"pauses {name} for {duration_s:.2f} s"

    def _change_clock(self) -> str | None:
        name = self._somebody()
        if name is None:
            return None
        clock = self._cluster.node(name).clock
        clock.rate = 1.0 + self._chance.uniform(-CLOCK_DRIFT_MAX, CLOCK_DRIFT_MAX)
        clock.jump_wall(self._chance.uniform(-WALL_JUMP_MAX_S, WALL_JUMP_MAX_S))
        return f"lets the clock of {name} run at {clock.rate:.3f}"

    # Disks.

    def _slow_disk(self) -> str | None:
        name = self._somebody()
        if name is None:
            return None
        disk = self._cluster.disks[name]
        if self._chance.random() < 0.5:
            disk.stall(self._chance.uniform(0, STALL_MAX_S))
            return f"holds up the disk of {name}"
        disk.latency_factor = self._chance.choice((1.0, 5.0, 50.0))
        return f"slows the disk of {name} by {disk.latency_factor:g}"

    def _fail_sync(self) -> str | None:
        name = self._somebody()
        if name is None:
            return None
        self._cluster.disks[name].fail_next_sync()
        return f"lets the next sync of {name} fail"

    # Links.

    def _nodes(self) -> list[str]:
        nodes = self._cluster.simulation.nodes
        return [name for name, node in nodes.items() if not node.stopped]

    def _partition(self) -> str | None:
        nodes = self._nodes()
        self._chance.shuffle(nodes)
        middle = self._chance.randint(1, len(nodes))
        groups = [sorted(nodes[:middle]), sorted(nodes[middle:])]
        self._cluster.partition(*groups)
        return f"cuts {' '.join(groups[0])} from {' '.join(groups[1]) or 'nobody'}"

    def _isolate_leader(self) -> str | None:
        leader = self._cluster.leader()
        if leader is None:
            return None
        self._cluster.isolate(leader)
        return f"cuts {leader}, which leads, from the other servers"

    def _cut_one_way(self) -> str | None:
        nodes = self._nodes()
        if len(nodes) < 2:
            return None
        source, target = self._chance.sample(nodes, 2)
        self._cluster.simulation.network.cut_one_way(source, target)
        return f"cuts what goes from {source} to {target}"

    def _heal(self) -> str | None:
        self._cluster.heal()
        return "heals the network"

    def _change_network(self) -> str | None:
        faults = NetworkFaults.random(self._chance)
        if not self.doubles:
            faults = replace(faults, duplicate=0.0)
        self._cluster.simulation.faults = faults
        return f"changes the network: {faults}"

    def _reset(self) -> str | None:
        nodes = self._nodes()
        if len(nodes) < 2:
            return None
        source, target = self._chance.sample(nodes, 2)
        self._cluster.simulation.network.reset(source, target)
        return f"resets the connections between {source} and {target}"
