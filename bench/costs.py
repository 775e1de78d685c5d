"""``python -m bench.costs``: what the functions of ``copycat.testing.costs`` cost here, and what the
table says.

Clusters of simulated worlds do a little of everything while each function of the table is timed,
without what it calls that stands in the table as well. What depends on an amount is fitted by least
squares. Frames are timed between two nodes of this process, over the loopback, and reads of files at a
real one.
"""

import asyncio
import inspect
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from bench.measuring import commit, machine
from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import Identity, NodeConnected
from copycat.actors.message import message
from copycat.actors.network import NetworkNode
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_file import SimulatedFile
from copycat.actors.simulated_network import SimulatedNetwork
from copycat.actors.simulated_node import SimulatedNode
from copycat.actors.simulated_processor import Processor
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.lock import AsyncDistributedLock
from copycat.resources.map import AsyncDistributedMap
from copycat.resources.topic import AsyncDistributedTopic
from copycat.storage.log import Log
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.costs import COSTS, Cost, exchange_handlers

SIMULATED = (
    (SimulatedNetwork, "send"), (SimulatedDisk, "sync"), (SimulatedDisk, "replace"),
    (SimulatedDisk, "allocate"), (SimulatedFile, "write"), (SimulatedFile, "read"),
    (SimulatedNode, "_proved"),
)  # fmt: skip
"""The simulated world's own work is nobody's cost."""

BY_SOCKETS = ("frame written", "frame read")
ROUNDS = 2_000
READS = 500
LEAST_S = 1e-6
READ_BYTES = 1 << 20
OFF_MAX = 3.0
"""By which factor the table may be off before it is to be written anew."""

SINGLES = 600
PIPELINE = 512
PIPELINES = 20
KEYS = 5_000
CROWD = 120
EVENTS = 40
SERVICE = 1


class Meter:
    """The times of one function of the table, against its units.

    Attributes:
        names: of its costs.
        rows: of each call the units of each cost, and the seconds without what was called.
    """

    def __init__(self, parts: Mapping[str, Cost]) -> None:
        self.names = tuple(parts)
        self.rows: list[tuple[tuple[float, ...], float]] = []
        self._parts = tuple(parts.values())

    def before(self, arguments: Sequence[Any]) -> list[float]:
        """The units that are counted before a call; 0 for the others."""
        return [part.count(None, *arguments) if part.before else 0.0 for part in self._parts]

    def note(
        self, took_s: float, before: list[float], result: Any, arguments: Sequence[Any]
    ) -> None:
        """One call has ended."""
        units = [
            counted if part.before else part.count(result, *arguments)
            for part, counted in zip(self._parts, before, strict=True)
        ]
        self.rows.append((tuple(units), took_s))

    def each_us(self, overhead_s: float) -> tuple[float, ...] | None:
        """What a unit of each cost takes; None if there were no calls."""
        rows = [(units, max(0.0, took_s - overhead_s)) for units, took_s in self.rows]
        if not self.names or not any(units[-1] for units, _ in rows):
            return None
        if len(self.names) == 1:
            total_s = sum(took_s for _, took_s in rows)
            return (total_s / sum(units[0] for units, _ in rows) * 1e6,)
        return tuple(each_s * 1e6 for each_s in fitted(rows))


def fitted(rows: Sequence[tuple[Sequence[float], float]]) -> tuple[float, float]:
    """The two factors, not below zero, that explain times by units best; what is
    off by a part weighs the more the longer it takes."""
    weighed = [(*units, took_s, 1 / max(took_s, LEAST_S)) for units, took_s in rows]
    aa = sum(a * a * weight for a, _, _, weight in weighed)
    ab = sum(a * b * weight for a, b, _, weight in weighed)
    bb = sum(b * b * weight for _, b, _, weight in weighed)
    at = sum(a * took_s * weight for a, _, took_s, weight in weighed)
    bt = sum(b * took_s * weight for _, b, took_s, weight in weighed)
    determinant = aa * bb - ab * ab
    if determinant <= 1e-9 * aa * bb:
        return at / aa, 0.0
    first, second = (at * bb - bt * ab) / determinant, (bt * aa - at * ab) / determinant
    if first < 0:
        return 0.0, bt / bb
    return (first, second) if second >= 0 else (at / aa, 0.0)


class Stopwatch:
    """Times functions without those of the table that they call."""

    def __init__(self) -> None:
        self.meters: list[Meter] = []
        self._inner_s: list[float] = []  # of each timed call that is under way

    def timed(self, function: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
        """The function, timed when it runs on a node."""
        inner_s, clock = self._inner_s, time.thread_time  # others on the machine take none of it

        @wraps(function)
        def timed(*arguments: Any) -> Any:
            if Processor.at_work is None:
                return function(*arguments)
            called_s = clock()
            before = meter.before(arguments)
            inner_s.append(0.0)
            began_s = clock()
            result = function(*arguments)
            ended_s = clock()
            meter.note(ended_s - began_s - inner_s.pop(), before, result, arguments)
            if inner_s:
                inner_s[-1] += clock() - called_s  # the noting is nobody's
            return result

        @wraps(function)
        def timed_in_parts(*arguments: Any) -> Generator[Any, Any, Any]:
            parts, took_s = function(*arguments), 0.0
            while True:
                inner_s.append(0.0)
                began_s = clock()
                try:
                    part = next(parts)
                except StopIteration as end:
                    spent_s = clock() - began_s
                    took_s += spent_s - inner_s.pop()
                    if Processor.at_work is not None:
                        meter.note(took_s, [0.0] * len(meter.names), end.value, arguments)
                    if inner_s:
                        inner_s[-1] += clock() - began_s
                    return end.value
                spent_s = clock() - began_s
                took_s += spent_s - inner_s.pop()
                if inner_s:
                    inner_s[-1] += spent_s
                yield part

        return timed_in_parts if inspect.isgeneratorfunction(function) else timed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time every function of the table while this lasts."""
        functions: dict[tuple[Any, str], dict[str, Cost]] = {}
        for name, cost in COSTS.items():
            if name not in BY_SOCKETS:
                functions.setdefault((cost.owner, cost.attribute), {})[name] = cost
        made = {}
        with ExitStack() as patches:
            for (owner, attribute), parts in functions.items():
                meter = Meter(parts)
                self.meters.append(meter)
                function = getattr(owner, attribute)
                timed = made[inspect.unwrap(function)] = self.timed(function, meter)
                is_bound = isinstance(vars(owner).get(attribute), classmethod | staticmethod)
                new = staticmethod(timed) if is_bound else timed
                patches.enter_context(patch.object(owner, attribute, new))
            for owner, attribute in SIMULATED:
                timed = self.timed(getattr(owner, attribute), Meter({}))
                patches.enter_context(patch.object(owner, attribute, timed))
            exchange_handlers(made)
            patches.callback(exchange_handlers, {function: function for function in made})
            yield

    def overhead_s(self) -> float:
        """What timing adds to the time of a function."""
        meter = Meter({"nothing": COSTS["message handled"]})
        nothing = self.timed(lambda: None, meter)
        before, Processor.at_work = Processor.at_work, Processor(Simulation(0).loop, 0.0)
        try:
            for _ in range(ROUNDS):
                nothing()
        finally:
            Processor.at_work = before
        return sorted(took_s for _, took_s in meter.rows)[ROUNDS // 2]


# What is done meanwhile.


async def work(cluster: SimulatedCluster) -> None:
    """A little of everything that clients can ask for."""
    async with cluster.client() as client:
        hits = await client.open(AsyncDistributedCounter, "hits")
        for _ in range(SINGLES):
            await hits.increment()
        for _ in range(PIPELINES):
            await asyncio.gather(*[hits.increment() for _ in range(PIPELINE)])
            await asyncio.gather(*[hits.value() for _ in range(PIPELINE)])
        users = await client.open(AsyncDistributedMap[str, bytes], "users")
        for start in range(0, KEYS, 500):
            await users.put_many({f"user {start + n}": bytes(100) for n in range(500)})
        async for _ in users.items():
            pass
        await users.get_many([f"user {n}" for n in range(KEYS)])
        await asyncio.gather(*[users.put(f"{n}", bytes(n * 10)) for n in range(PIPELINE)])


async def crowd(cluster: SimulatedCluster) -> list[AsyncClient]:
    """Many sessions, who listen, and wait for one lock."""
    clients = [cluster.client(session_timeout_s=2.0, timeout_s=60) for _ in range(CROWD)]
    for client in clients:
        await client.connect()
        news = await client.open(AsyncDistributedTopic[int], "news")
        await news.subscribe().__aenter__()
        lock = await client.open(AsyncDistributedLock, "nightly")
        waiting = asyncio.create_task(lock.acquire(timeout_s=60))
        waiting.add_done_callback(lambda task: task.cancelled() or task.exception())
    async with cluster.client() as client:
        news = await client.open(AsyncDistributedTopic[int], "news")
        for number in range(EVENTS):
            await news.publish(number)
    return clients


def do_everything() -> None:
    """Work, a crowd that is lost, followers that catch up from their disks, recoveries."""
    options = Log.__init__.__kwdefaults__ or {}
    with patch.dict(options, cache_bytes=64 << 10), Simulation(1, encode_always=False) as world:
        cluster = SimulatedCluster(world, monitored=False, segment_bytes=1 << 20)
        cluster.start()
        leader = cluster.wait_for_leader()
        behind = next(name for name in cluster.names if name != leader)
        cluster.crash(behind)
        cluster.run(work(cluster))
        cluster.start(behind)
        cluster.settle(600)
        cluster.run(crowd(cluster))
        for name in world.nodes:
            if name.startswith("c") and not world.nodes[name].stopped:
                world.crash(name, silent=False)
        world.run_for(10.0)
        cluster.restart()
        cluster.settle(600)


# Frames between processes need sockets.


@message(60991)
class Ping:
    """There and back."""

    number: int


class Player(Actor):
    """Sends back what it gets, until it was enough."""

    def __init__(self, endpoint: str, ended: "asyncio.Future[None] | None") -> None:
        self._ended = ended
        self.environment.links.watch(self.address)
        if endpoint:
            self.environment.links.dial(endpoint)

    def connected(self, message: NodeConnected, sender: NodeAddress) -> None:
        """The one who is waited for serves."""
        if self._ended is not None:
            self.send(NodeAddress.well_known(message.node, SERVICE), Ping(0))

    def ping(self, message: Ping, sender: NodeAddress) -> None:
        """Return it."""
        if self._ended is None or message.number < ROUNDS:
            self.send(sender, Ping(message.number + 1))
        elif not self._ended.done():
            self._ended.set_result(None)


async def frame_us() -> float:
    """What one frame takes of a processor, written and read, handlers and codec included."""
    ended = asyncio.get_running_loop().create_future()
    one = NetworkNode(Identity("one"), listen="127.0.0.1:0", shares_loop=True)
    two = NetworkNode(Identity("two"), shares_loop=True)
    await one.start()
    one.spawn(Player, "", None, serial=SERVICE)
    began_s = time.process_time()
    two.spawn(Player, one.listening or "", ended, serial=SERVICE)
    async with asyncio.timeout(60):
        await ended
    spent_s = time.process_time() - began_s
    for node in (one, two):
        node.stop()
    await asyncio.sleep(0)
    return spent_s / ROUNDS * 1e6


def file_read_us() -> tuple[float, float]:
    """What a read of a file takes that the system has in memory, and each byte of it."""
    took_s = []
    with tempfile.TemporaryFile() as file:
        file.write(bytes(READ_BYTES))
        file.flush()
        for size_bytes in (64, READ_BYTES):
            began_s = time.thread_time()
            for _ in range(READS):
                os.pread(file.fileno(), size_bytes, 0)
            took_s.append((time.thread_time() - began_s) / READS * 1e6)
    return took_s[0], (took_s[1] - took_s[0]) / READ_BYTES


def measured() -> dict[str, float]:
    """Microseconds a unit, by the name of the cost; what was not reached is not in it."""
    stopwatch = Stopwatch()
    overhead_s = stopwatch.overhead_s()
    random.seed(1)
    with stopwatch.running():
        do_everything()
    found: dict[str, float] = {}
    for meter in stopwatch.meters:
        each_us = meter.each_us(overhead_s)
        if each_us is not None:
            found.update(zip(meter.names, each_us, strict=True))
    inside = ("message encoded", "message decoded")
    rest_us = asyncio.run(frame_us()) - sum(found[name] for name in inside)
    found.update(dict.fromkeys(BY_SOCKETS, max(0.0, rest_us) / 2))
    found["file read"], found["bytes read"] = file_read_us()
    return found


def main() -> int:
    """Measure, and print. Returns 0, or 1 when a cost was not reached or the table is far off."""
    logging.disable(logging.CRITICAL)  # servers that crash are the point here
    found = measured()
    print(f"{'cost':<24} {'here':>9} {'table':>9} {'here/table':>10}   microseconds a unit")
    wrong = []
    for name, cost in COSTS.items():
        each_us = found.get(name)
        if each_us is None:
            print(f"{name:<24} {'-':>9} {cost.each_us:>9.4g} {'-':>10}   not reached")
            wrong.append(name)
            continue
        off = each_us / cost.each_us
        print(f"{name:<24} {each_us:>9.4g} {cost.each_us:>9.4g} {off:>10.2f}")
        if not 1 / OFF_MAX <= off <= OFF_MAX:
            wrong.append(name)
    print(f"commit {commit()}, {machine()}")
    if wrong:
        print(f"the table is to be looked at: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
