"""The driver of faults: it lets happen in a cluster what a schedule says, and in the end repairs.

A fault that does not apply when its time comes is skipped: a server that is down cannot crash, a
disk that was lost cannot be damaged. So a schedule stays a schedule when faults are taken from it.
Everything that is done is told to the monitors, for the story of a failure.
"""

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush
from itertools import combinations

from copycat.actors.simulated_network import NetworkFaults
from copycat.storage.errors import DiskFailedError, StorageError
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.fault import LEADER, Fault
from copycat.testing.losses import Done, Losses, Undo

AFTERMATH_S = 1.0
"""So long a fault that is over still counts as one that is in force: what it causes comes then."""


class FaultDriver:
    """What goes wrong in one world.

    Attributes:
        faults: all that shall happen.
        done: how often each kind did, for the kinds there are.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        faults: Sequence[Fault],
        *,
        crash_client: Callable[[str], bool] | None = None,
        pause_client: Callable[[str, float], None] | None = None,
    ) -> None:
        """Plan what goes wrong.

        Args:
            cluster: where.
            faults: what, and when.
            crash_client: crashes a client, and begins it anew; says whether there was one.
            pause_client: is told of each client that is paused, and for how many seconds.
        """
        self.faults = tuple(faults)
        self.done: Counter[str] = Counter({fault.kind: 0 for fault in faults})
        self._cluster = cluster
        self._crash_client_of = crash_client
        self._pause_client_of = pause_client
        self._cuts: Counter[tuple[str, str]] = Counter()
        self._lasting: Counter[str] = Counter()  # of each kind, how many last now
        self._touched_s: dict[str, float] = {}  # when one of that kind began or ended last
        self._gone = Losses(cluster, self._restart)
        self._kinds: dict[str, Callable[[Fault], Done | None]] = {
            "crash": self._crash,
            "crash leader": self._crash,
            "crash all": self._crash,
            "kill": self._crash,
            "pause": self._pause,
            "clock": self._change_clock,
            "partition": self._partition,
            "isolate leader": self._partition,
            "bridge": self._partition,
            "ring": self._partition,
            "one way": self._cut_one_way,
            "network": self._change_network,
            "reset": self._reset,
            "clog": self._clog,
            "slow disk": self._slow_disk,
            "failed sync": self._fail_sync,
            "write error": self._fail_writes,
            "read error": self._fail_reads,
            "full disk": self._fill_disk,
            **self._gone.kinds,
            "client pause": self._pause,
            "client crash": self._crash_client,
            "client clock": self._change_clock,
            "lost client": self._lose_client,
        }

    @property
    def lost(self) -> Collection[str]:
        """The servers that have lost what they had, and not got it back."""
        return self._cluster.lost

    async def run(self, duration_s: float) -> None:
        """Let happen what happens within a while, and mend what is mended within it."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        plan: list[tuple[float, int, Fault, Undo | None]] = []
        for number, fault in enumerate(self.faults):
            heappush(plan, (fault.at_s, number, fault, None))
        while plan and plan[0][0] <= duration_s:
            at_s, number, fault, undo = heappop(plan)
            await asyncio.sleep(max(0.0, began_s + at_s - loop.time()))
            if undo is None:
                mending = self.begin(fault)
                if mending is not None and fault.lasts_s is not None:
                    heappush(plan, (at_s + fault.lasts_s, number, fault, mending))
            else:
                self._tell(undo())
        await asyncio.sleep(max(0.0, began_s + duration_s - loop.time()))

    def begin(self, fault: Fault) -> Undo | None:
        """Let a fault happen now; returns what mends it. None: it does not apply, or is over."""
        done = self._kinds[fault.kind](fault)
        if done is None:
            return None
        what, mending = done
        self.done[fault.kind] += 1
        self._touched_s[fault.kind] = self._cluster.simulation.now_s
        self._tell(what)
        if mending is None:
            return None
        self._lasting[fault.kind] += 1

        def undo() -> str | None:
            self._lasting[fault.kind] -= 1
            self._touched_s[fault.kind] = self._cluster.simulation.now_s
            return mending()

        return undo

    def in_force(self) -> list[str]:
        """The kinds of the faults that last, or were over less than ``AFTERMATH_S`` ago."""
        since_s = self._cluster.simulation.now_s - AFTERMATH_S
        return [
            kind
            for kind, touched_s in self._touched_s.items()
            if touched_s >= since_s or self._lasting[kind]
        ]

    def mend(self, order: Sequence[str], core: int, rest: str) -> list[str]:
        """End all faults between some servers and all clients: they must make progress now.

        Args:
            order: all servers in the order in which they are preferred.
            core: how many of them.
            rest: what becomes of the others, see ``schedule.RESTS``.

        Returns:
            Who was mended.
        """
        cluster = self._cluster
        for kind in self._lasting:
            self._touched_s[kind] = cluster.simulation.now_s
        self._lasting.clear()
        able = [name for name in order if name not in self.lost]
        mended, left = able[:core], able[core:]
        self._mend_links(mended)
        for name in left:
            if rest == "stopped" and cluster.is_running(name):
                cluster.crash(name, silent=False)
            elif rest == "deaf":
                for other in mended:
                    cluster.simulation.network.cut_one_way(other, name)
        self._mend_servers(mended)
        self._tell(f"mends {' '.join(mended)}; {' '.join(left) or 'none'} left {rest}")
        return mended

    def repair(self) -> None:
        """Undo everything that lasts, but what is lost: from now on there must be progress."""
        self._mend_links(self._cluster.names)
        self._cluster.heal()
        self._mend_servers([name for name in self._cluster.names if name not in self.lost])
        self._tell(f"repairs everything{self._losses()}")

    def restart(self) -> None:
        """Crash all servers, and start those again that have not lost what they had."""
        self._cluster.crash()
        self._cluster.start(*(name for name in self._cluster.names if name not in self.lost))

    def _losses(self) -> str:
        return f", but {', '.join(sorted(self.lost))}" if self.lost else ""

    def _mend_links(self, servers: Collection[str]) -> None:
        simulation = self._cluster.simulation
        simulation.faults = NetworkFaults.none()
        simulation.network.unclog()
        clients = [name for name in simulation.nodes if name not in self._cluster.names]
        for one, other in combinations((*servers, *clients), 2):
            simulation.network.heal(one, other)

    def _mend_servers(self, names: Iterable[str]) -> None:
        cluster = self._cluster
        for name in names:
            cluster.disks[name].repair()
            cluster.supervised.add(name)
            if cluster.is_running(name):
                cluster.node(name).clock.rate = 1.0
            else:
                cluster.start(name)

    def _tell(self, what: str | None) -> None:
        if what is not None and self._cluster.monitors is not None:
            self._cluster.monitors.story.tell("a fault", what)

    # Places.

    def _place(self, name: str) -> str | None:
        return self._cluster.leader() if name == LEADER else name

    def _running(self, fault: Fault) -> str | None:
        """The server or client that is meant, if it runs."""
        name = self._place(fault.where[0])
        node = self._cluster.simulation.nodes.get(name) if name is not None else None
        return name if node is not None and not node.stopped else None

    # Servers.

    def _crash(self, fault: Fault) -> Done | None:
        running = [name for place in fault.where if (name := self._place(place)) is not None]
        running = [name for name in running if self._cluster.is_running(name)]
        if not running:
            return None
        killed = fault.kind == "kill"
        if killed:
            self._cluster.crash(*running, lose_unsynced=False, silent=False)
        else:
            self._cluster.crash(*running)
        machine = fault.numbers["machine"] > 0
        what = "kills the process of" if killed else "cuts the power of"
        return f"{what} {' '.join(running)}", lambda: self._restart(running, machine=machine)

    def _restart(self, names: Collection[str], *, machine: bool = False) -> str | None:
        down = [name for name in names if not self._cluster.is_running(name)]
        if not down:
            return None
        told = []
        for name in down:
            if machine:
                self._cluster.disks[name].crash()
            told.append(name if self._start(name) else f"{name}, in vain,")
        return f"starts {' '.join(told)}"

    def _start(self, name: str) -> bool:
        """Start a server, if its disk lets it."""
        try:
            self._cluster.start(name)
        except StorageError as error:
            if not isinstance(error, DiskFailedError) and name not in self.lost:
                raise
            return False
        return True

    def _pause(self, fault: Fault) -> Done | None:
        name = self._running(fault)
        if name is None:
            return None
        duration_s = fault.lasts_s
        assert duration_s is not None, "a pause has its time"
        self._cluster.simulation.nodes[name].pause(duration_s)
        if self._pause_client_of is not None and name not in self._cluster.names:
            self._pause_client_of(name, duration_s)
        return f"pauses {name} for {duration_s:.2f} s", None

    def _crash_client(self, fault: Fault) -> Done | None:
        name = self._running(fault)
        if name is None or self._crash_client_of is None or not self._crash_client_of(name):
            return None
        return f"crashes {name}, which begins anew", None

    def _change_clock(self, fault: Fault) -> Done | None:
        name = self._running(fault)
        if name is None:
            return None
        clock = self._cluster.simulation.nodes[name].clock
        clock.rate = fault.numbers["rate"]
        clock.jump_wall(fault.numbers.get("jump_s", 0.0))

        def undo() -> str:
            clock.rate = 1.0
            return f"corrects the clock of {name}"

        return f"lets the clock of {name} run at {clock.rate:.3f}", undo

    # Disks.

    def _slow_disk(self, fault: Fault) -> Done | None:
        name = self._running(fault)
        if name is None:
            return None
        disk = self._cluster.disks[name]
        if "factor" not in fault.numbers:
            assert fault.lasts_s is not None, "a disk stalls for a time"
            disk.stall(fault.lasts_s)
            return f"holds up the disk of {name} for {fault.lasts_s:.2f} s", None
        disk.latency_factor = fault.numbers["factor"]

        def undo() -> str:
            disk.latency_factor = 1.0
            return f"lets the disk of {name} be fast again"

        return f"slows the disk of {name} by {disk.latency_factor:g}", undo

    def _fail_sync(self, fault: Fault) -> Done | None:
        name = self._running(fault)
        if name is None:
            return None
        self._cluster.disks[name].fail_next_sync()
        return f"lets the next sync of {name} fail", None

    def _fail_writes(self, fault: Fault) -> Done | None:
        disk = self._cluster.disks[fault.where[0]]
        disk.write_error = errno.EIO
        return f"lets all writes of {fault.where[0]} fail", lambda: self._mend_disk(fault.where[0])

    def _fail_reads(self, fault: Fault) -> Done | None:
        disk = self._cluster.disks[fault.where[0]]
        disk.read_error = errno.EIO
        return f"lets all reads of {fault.where[0]} fail", lambda: self._mend_disk(fault.where[0])

    def _fill_disk(self, fault: Fault) -> Done | None:
        name = fault.where[0]
        disk = self._cluster.disks[name]
        room_bytes = int(fault.numbers["room_bytes"])
        disk.capacity_bytes = disk.used_bytes + room_bytes
        return f"leaves {room_bytes} bytes on the disk of {name}", lambda: self._mend_disk(name)

    def _mend_disk(self, name: str) -> str:
        """Repair a disk, and start the server that has stopped because of it."""
        disk = self._cluster.disks[name]
        disk.write_error = disk.read_error = disk.capacity_bytes = None
        restarted = self._restart([name])
        return f"repairs the disk of {name}" + (f" and {restarted}" if restarted else "")

    # Links.

    def _partition(self, fault: Fault) -> Done | None:
        places = [[self._place(name) for name in group] for group in fault.groups]
        if any(name is None for group in places for name in group):
            return None
        groups = [[name for name in group if name is not None] for group in places]
        if fault.groups[0] == (LEADER,):
            groups[1:] = [[name for name in group if name not in groups[0]] for group in groups[1:]]
        together = {
            frozenset(pair) for group in groups for pair in combinations(dict.fromkeys(group), 2)
        }
        nodes = list(dict.fromkeys(name for group in groups for name in group))
        pairs = [
            (source, target)
            for one, other in combinations(nodes, 2)
            if frozenset((one, other)) not in together
            for source, target in ((one, other), (other, one))
        ]
        told = " | ".join(" ".join(group) for group in groups)
        return f"cuts {told} ({fault.kind})", self._cut(pairs)

    def _cut_one_way(self, fault: Fault) -> Done | None:
        source, target = fault.where
        return f"cuts what goes from {source} to {target}", self._cut([(source, target)])

    def _lose_client(self, fault: Fault) -> Done:
        client, network = fault.where[0], self._cluster.simulation.network
        deaf = fault.numbers["deaf"] > 0
        names = self._cluster.names
        heal = self._cut([(name, client) if deaf else (client, name) for name in names])

        def undo() -> str | None:
            for name in names if fault.numbers["breaks"] else ():
                network.reset(client, name)
            return heal()

        return f"cuts what goes {'to' if deaf else 'from'} {client}", undo

    def _cut(self, pairs: Sequence[tuple[str, str]]) -> Undo:
        network = self._cluster.simulation.network
        for source, target in pairs:
            self._cuts[source, target] += 1
            network.cut_one_way(source, target)

        def undo() -> str:
            self._cuts.subtract(pairs)
            for source, target in pairs:
                if self._cuts[source, target] == 0:
                    network.heal_one_way(source, target)
            return "undoes a cut"

        return undo

    def _change_network(self, fault: Fault) -> Done | None:
        simulation = self._cluster.simulation
        faults = simulation.faults = NetworkFaults(**fault.numbers)

        def undo() -> str | None:
            if simulation.faults is not faults:
                return None
            simulation.faults = NetworkFaults.none()
            return "mends the network"

        rates = ", ".join(f"{name} {rate:g}" for name, rate in fault.numbers.items())
        return f"changes the network: {rates}", undo

    def _reset(self, fault: Fault) -> Done | None:
        source, target = fault.where
        self._cluster.simulation.network.reset(source, target)
        return f"resets the connections between {source} and {target}", None

    def _clog(self, fault: Fault) -> Done | None:
        *some, target = fault.where
        sources = some or self._cluster.names
        network, numbers = self._cluster.simulation.network, fault.numbers
        for source in sources:
            network.clog(source, target, numbers["bytes_per_s"], numbers["waiting_bytes"])
        links = f"the link from {some[0]} to {target}" if some else f"all links to {target}"

        def undo() -> str:
            for source in sources:
                network.unclog(source, target)
            return f"unclogs {links}"

        return f"clogs {links}", undo
