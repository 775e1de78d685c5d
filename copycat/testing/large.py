"""Worlds of true size: long logs, many sessions, large batches and reads, crowds at one lock.

Most worlds are small and their processors slow; these are few, and as large as clusters become. What is
large is put on the disks of servers that are stopped, as a log that has grown there, since to bring it in
through a cluster would take an hour each. Then the servers start and clients work, without faults:
the monitors of time look on, which are the only ones here.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from math import inf

from copycat.actors import NodeAddress
from copycat.actors.codec import encode
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.lock import AsyncDistributedLock
from copycat.resources.map import AsyncDistributedMap
from copycat.resources.topic import AsyncDistributedTopic
from copycat.storage.batch import Batch, BatchKind
from copycat.storage.log import Log
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.costs import charging
from copycat.testing.monitors import Monitors
from copycat.testing.told import Told
from copycat.types import Index, SessionId

SEGMENT_BYTES = 1 << 20
SCALES = (1.0, 0.5, 2.0)
CLIENTS = 6
WORK_S = 8.0
PAUSE_S = 0.05
SESSION_TIMEOUT_S = 5.0
CATCH_UP_S = 120.0
SLOW_BYTES_PER_S = 250_000.0
LINK_BYTES_MAX = 2 << 20
"""What a slow link lets wait: less than a real one, and more than ever waits on it if nobody sends
without looking."""

REPLAY_S = 10.0
"""What it takes at scale 1 to apply the longest log, on top of what an election does."""

Operation = list[object]
Grow = Callable[[Log], Iterator[Batch]]
"""Makes what comes into a log, batch by batch."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What has been prepared for a log to go on with.

    Attributes:
        session: of a client that is gone, whose commands the log has.
        sequence: of its last command.
        counter, lock, users: the numbers of three resources.
    """

    session: SessionId
    sequence: int
    counter: int
    lock: int
    users: int


class TimeMonitors(Monitors):
    """Those of time alone: to compare every batch of a long log would take too long."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(cluster)
        self.story.survey = self._survey_roles
        self.told = _Unchecked(self.story, self.applied, cluster.simulation.fail)
        self.timeliness._told = self.told

    def started(self, name: str) -> None:
        """Watch the times of a server, and what its Applier publishes and ends."""
        node, server = self._cluster.node(name), self._cluster.server(name)
        self.timeliness.started(name, node, server)
        applier = node.actor_at(server.applier.serial)
        self.applied.note_events(name, applier)
        end_session = applier.end_session

        def ended(session: SessionId, index: Index, log_time_us: int, text: str) -> Iterator[None]:
            yield from end_session(session, index, log_time_us, text)
            if "expired" in text:
                self.applied.on_expiry(name, session, index)

        applier.end_session = ended

    def _survey_roles(self, _: Index | None) -> list[str]:
        lines = []
        for name in self._cluster.running:
            server = self._cluster.server(name)
            lines.append(
                f"{name} is {server.role_title} in term {server.ballot.term}; log to"
                f" {server.log.last_index}, {server.commit_index} committed,"
                f" {server.progress.applied_index} applied"
            )
        return lines

    def wiped(self, name: str) -> None:
        """Nothing is compared."""

    def look(self) -> None:
        """Look at times."""
        self.timeliness.look()

    def check_all(self) -> None:
        """Nothing is compared."""


class _Unchecked(Told):
    def check_answer(self, *_: object) -> None:
        pass


class LargeWorld:
    """One world of true size.

    Attributes:
        cluster: three servers.
        monitors: those of time.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.cluster = SimulatedCluster(simulation, monitored=False, segment_bytes=SEGMENT_BYTES)
        self.monitors = self.cluster.monitors = TimeMonitors(self.cluster)

    def prepare(self) -> Ground:
        """Start the servers, let a client open what there is to be, and stop all of them again."""
        cluster = self.cluster
        cluster.start()
        cluster.wait_for_leader()

        async def open_all() -> Ground:
            client = cluster.client(name="gone", session_timeout_s=3600.0)
            await client.connect()
            counter = await client.open(AsyncDistributedCounter, "hits")
            lock = await client.open(AsyncDistributedLock, "nightly")
            users = await client.open(AsyncDistributedMap[str, int], "users")
            await counter.increment()
            numbers = [each._resource for each in (counter, lock, users)]
            return Ground(client.session_id, 1, *numbers)

        ground = cluster.run(open_all(), timeout_s=60)
        cluster.simulation.crash("gone", silent=False)
        cluster.settle()
        cluster.crash(lose_unsynced=False, silent=False)
        return ground

    def grow(self, names: tuple[str, ...], batches: Grow) -> int:
        """Let the logs of servers that are stopped grow; returns how many batches came."""
        address, count = NodeAddress("n1", 1, 1), 0
        disks = [self.cluster.disks[name] for name in names]
        logs = [Log(disk, segment_bytes=SEGMENT_BYTES) for disk in disks]
        for batch in batches(logs[0]):
            count += 1
            for log in logs:
                log.append(batch)
        for log, disk in zip(logs, disks, strict=True):
            log.start_sync(address)
            while disk.pending:
                log.handle(disk.finish())
        return count

    async def work(self, duration_s: float) -> None:
        """Clients count, read and listen for a while."""
        cluster = self.cluster
        ends_s = cluster.simulation.now_s + duration_s
        loop = cluster.simulation.loop
        tasks = [
            loop.create_task(self._live(f"w{number}", ends_s), name=f"w{number}")
            for number in range(CLIENTS)
        ]
        for task in tasks:
            await task

    async def _live(self, name: str, ends_s: float) -> None:
        cluster = self.cluster
        client: AsyncClient = cluster.client(
            name=name, timeout_s=inf, session_timeout_s=SESSION_TIMEOUT_S
        )
        async with client:
            self.monitors.watch(client)
            hits = await client.open(AsyncDistributedCounter, "hits")
            news = await client.open(AsyncDistributedTopic[int], "news")
            async with news.subscribe():
                while cluster.simulation.now_s < ends_s:
                    await hits.increment()
                    await hits.value()
                    await news.publish(1)
                    await asyncio.sleep(PAUSE_S)

    async def read_everything(self) -> int:
        """Read all of the map, in pages and by its keys; returns how many there were."""
        client = self.cluster.client(name="reader", timeout_s=inf)
        async with client:
            self.monitors.watch(client)
            users = await client.open(AsyncDistributedMap[str, int], "users")
            found = await users.to_dict()
            return len(await users.get_many(list(found)))


# What is large.


def _batch(log: Log, session: SessionId, first: int, operations: list[Operation]) -> Batch:
    return Batch.encode(
        kind=BatchKind.COMMANDS,
        base_index=log.last_index + 1,
        count=len(operations),
        term=log.last_term,
        log_time_us=log.last_log_time_us + 1,
        wall_time_us=1_700_000_000_000_000,
        session=session,
        first_sequence=first,
        response_sequence=first - 1,
        operations=encode(operations),
    )


def _counted(ground: Ground, sizes: Iterable[int]) -> Grow:
    """Increments, in batches of these sizes."""

    def grow(log: Log) -> Iterator[Batch]:
        first = ground.sequence + 1
        for size in sizes:
            yield _batch(log, ground.session, first, [[ground.counter, "increment", 1]] * size)
            first += size

    return grow


def _keys(ground: Ground, count: int, at_once: int) -> Grow:
    """Keys of the map, so many in a command."""

    def grow(log: Log) -> Iterator[Batch]:
        for place, start in enumerate(range(0, count, at_once)):
            pairs = [[f"user {start + n}", encode(n)] for n in range(at_once)]
            operation: Operation = [ground.users, "put_many", pairs]
            yield _batch(log, ground.session, ground.sequence + 1 + place, [operation])

    return grow


def _sessions(ground: Ground, count: int, requests: int) -> Grow:
    """Sessions of clients that are gone, each with so many requests for the lock."""

    def grow(log: Log) -> Iterator[Batch]:
        for number in range(count):
            opened = [number.to_bytes(16, "big"), f"idle {number}", round(SESSION_TIMEOUT_S * 1000)]
            yield Batch.encode(
                kind=BatchKind.OPEN_SESSION,
                base_index=log.last_index + 1,
                count=1,
                term=log.last_term,
                log_time_us=log.last_log_time_us + 1,
                wall_time_us=1_700_000_000_000_000,
                operations=encode(opened),
            )
            if requests:
                asked: list[Operation] = [
                    [ground.lock, "acquire", n, None] for n in range(requests)
                ]
                yield _batch(log, log.last_index, 1, asked)

    return grow


@dataclass(frozen=True, slots=True)
class Kind:
    """What is large in a world.

    Attributes:
        grow: makes what comes into the logs.
        behind: whether one server lacks it all.
        reads: whether a client reads the whole map.
        slow_link: whether the link to the one that is behind is slow.
    """

    grow: Callable[[Ground], Grow]
    behind: bool = False
    reads: bool = False
    slow_link: bool = False


KINDS: Mapping[str, Kind] = {
    "a follower far behind": Kind(lambda ground: _counted(ground, repeat(1, 100_000)), behind=True),
    "a long replay": Kind(lambda ground: _counted(ground, repeat(1, 100_000))),
    "large and small batches": Kind(
        lambda ground: _counted(ground, [512, *[1] * 100] * 150), behind=True
    ),
    "many sessions": Kind(lambda ground: _sessions(ground, 10_000, 0)),
    "large reads": Kind(lambda ground: _keys(ground, 40_000, 500), reads=True),
    "a crowd at a lock": Kind(lambda ground: _sessions(ground, 100, 300)),
    "a slow link": Kind(
        lambda ground: _counted(ground, repeat(1, 40_000)), behind=True, slow_link=True
    ),
}
"""Every kind of world of true size, by name."""


@dataclass(frozen=True, slots=True)
class LargeReport:
    """What became of one of them: its kind, how much there was, and how near the bounds it came."""

    kind: str
    batches: int
    virtual_s: float
    worst: dict[str, float]


def run_large(seed: int) -> LargeReport:
    """Run the world of true size of a seed, which decides its kind and how slow processors are.

    Raises:
        InvariantViolated: a rule was broken.
        TimeoutError: there was no progress.
    """
    names = tuple(KINDS)
    name, scale = names[seed % len(names)], SCALES[seed // len(names) % len(SCALES)]
    kind = KINDS[name]
    processors = dict.fromkeys(("n1", "n2", "n3"), scale)
    with charging(), Simulation(seed, encode_always=False, processors=processors) as simulation:
        world = LargeWorld(simulation)
        cluster, timeliness = world.cluster, world.monitors.timeliness
        timeliness.led_within_s += REPLAY_S * scale
        timeliness.calm.bears_clogs = True
        timeliness.link_bytes_max = LINK_BYTES_MAX
        ground = world.prepare()
        behind = cluster.names[-1:] if kind.behind else ()
        grown = tuple(each for each in cluster.names if each not in behind)
        batches = world.grow(grown, kind.grow(ground))
        began_s = simulation.now_s
        for each in behind if kind.slow_link else ():
            for other in grown:
                simulation.network.clog(other, each, SLOW_BYTES_PER_S, LINK_BYTES_MAX)
        cluster.start()
        cluster.run(world.work(WORK_S), CATCH_UP_S)
        if kind.reads:
            cluster.run(world.read_everything(), CATCH_UP_S)
        cluster.settle(CATCH_UP_S)
        return LargeReport(name, batches, simulation.now_s - began_s, timeliness.worst)
