"""Clients at work in a simulated cluster, who check all that they are answered.

They count, write and read keys, take locks, publish, listen, come, go and crash. An error says whether a
call may still happen, and is held to that. What they know of resources has to be linearizable.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from math import inf
from string import digits
from typing import Any, TypeVar, cast

from copycat.client.asynchronous import AsyncClient
from copycat.errors import CopycatError, NotApplied, OutcomeUnknown
from copycat.protocol.client import Consistency
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.lock import AsyncDistributedLock, AsyncLockGrant
from copycat.resources.map import AsyncDistributedMap
from copycat.resources.topic import AsyncDistributedTopic
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.explained import explained
from copycat.testing.history import History, Operation, Outcome
from copycat.testing.linearizability import Report
from copycat.testing.listener import Listener
from copycat.testing.map_model import MapModel
from copycat.testing.models import CounterModel, LockModel
from copycat.testing.monitors import Monitors
from copycat.testing.reached import REFUSALS, UNKNOWN_OUTCOMES, Reached
from copycat.testing.schedule import PIPELINE
from copycat.testing.witness import watch

T = TypeVar("T")

VISITOR = "visitor"
AWAKENING_S = 0.01  # in which a client that was paused learns what it has lost
TIMEOUTS_S = (0.2, 1.0, 5.0)
SESSION_TIMEOUTS_S = (1.0, 2.0, 5.0)
MAP_PIPELINE_MAX, READS_MAX = 7, 10  # at a time
KEYS = ("ann", "bob", "cid", "dan")
SPREADS_S = (0.0, 0.0, 0.004)
SPREAD_CHANCE = 0.1
"""How often a client that counts pauses between two calls, for so long at most: what is called
without a pause goes as one, and so nothing could come before its turn."""

PAUSE_MEAN_S = 0.3
READ_PAUSE_MEAN_S = 0.15
VISIT_PAUSE_MEAN_S = 0.5  # a world costs by its entries: better few, with many calls in each
HOLDS_MAX_S = (1.0, 4.0)
PAYLOAD_BYTES_MAX = 2_000
PUBLISHED_AT_ONCE = (1, 1, 10)
NEWS_BYTES_MAX = 500

IN_ORDER = "Sessions: commands take effect in the order they were submitted in (§6.3)"
OWN_COMMANDS_SEEN = "Sessions: a query sees the commands that were submitted before it (§6.4)"
LINEARIZABLE = "Linearizability: a call takes effect once, between its beginning and its end (§6.4)"
LOCKS = "Locks: one client holds a lock at a time, under a larger token than all before"


class Workload:
    """The clients of one world.

    Attributes:
        hits, users, nightly: all operations on the counter, the map and the lock.
        calls: how many calls have ended well.
        not_applied: how many were refused.
        grants: how often a lock was granted.
        client_crashes: how many clients were crashed by faults.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        chance: random.Random,
        *,
        clients: Sequence[str],
        rounds: int | None = None,
        pipeline: int = PIPELINE,
        refusals_hold: bool = True,
        reached: Reached | None = None,
    ) -> None:
        """Plan the work.

        Args:
            cluster: with monitors, to which the clients report.
            chance: decides what they do.
            clients: by name, which says what each does; see ``schedule.CLIENTS``.
            rounds: how many rounds each works at most; None: until it is told to stop.
            pipeline: how many calls a client that counts makes at once, at most.
            refusals_hold: False when the network doubles messages. Then no call has a deadline,
                and what is refused may have happened.
            reached: counts the calls that did not end well; None: nobody does.
        """
        assert cluster.monitors is not None, "a workload reports to monitors"
        self.cluster = cluster
        self.monitors: Monitors = cluster.monitors
        self.chance = chance
        self.refusals_hold = refusals_hold
        self._reached = reached or Reached()
        self.clients = tuple(clients)
        self.rounds = rounds
        self.pipeline = pipeline
        self.hits = self._new_history()
        self.users = self._new_history()
        self.nightly = self._new_history()
        self.calls = 0
        self.not_applied = 0
        self.grants = 0
        self._listeners: list[Listener] = []
        self.stopping = False
        self.client_crashes = 0
        self._roles = {
            "count": self._count,
            "read": self._read,
            "write": self._write,
            "lock": self._lock,
            "publish": self._publish,
        }
        self._lives: dict[str, asyncio.Task[None]] = {}  # of clients, by name
        self._calls: dict[str, list[asyncio.Task[Any]]] = {}  # that they made last
        self._worked: Counter[str] = Counter()  # rounds, by client
        self._awake_s: dict[str, float] = {}  # until when a client that was paused is excused
        self._holders: dict[str, tuple[str, AsyncLockGrant]] = {}
        self._requests = 0  # for the lock
        self._numbers = 0  # written to the map
        self._versions: dict[str, int] = {}  # of keys of the map, as they were last seen

    def _new_history(self) -> History:
        simulation = self.cluster.simulation
        return History(lambda: simulation.now_s, refusals_hold=self.refusals_hold)

    @property
    def unknown(self) -> int:
        """Of how many operations nobody knows whether they happened."""
        histories = (self.hits, self.users, self.nightly)
        return sum(each.outcome is Outcome.UNKNOWN for history in histories for each in history)

    @property
    def heard(self) -> int:
        """How many events have come."""
        return sum(listener.heard for listener in self._listeners)

    def _violated(self, rule: str, detail: str) -> Exception:
        error = self.monitors.story.violated(rule, detail)
        # Whoever awaits the task that raises it might do so late, and listeners are never heard.
        self.cluster.simulation.fail(error)
        return error

    async def run(self, until: Callable[[], Awaitable[None]], end_s: float) -> None:
        """Work until ``until`` returns; then every client must come to its end.

        Args:
            until: does harm meanwhile, and repairs.
            end_s: how long the last calls may take after that.
        """
        for name in self.clients:
            self._begin_life(name)
        await until()
        self.stopping = True
        limit = asyncio.get_running_loop().call_later(end_s, self._too_late, end_s)
        for life in self._lives.values():
            await life
        limit.cancel()

    def _begin_life(self, name: str) -> None:
        life = self._come_and_go(name) if name == VISITOR else self._live(name)
        self._lives[name] = asyncio.create_task(life, name=name)

    def crash(self, name: str) -> bool:
        """A client dies where it is, and begins anew; False when it has come to its end before."""
        if self._lives[name].done():
            return False
        for task in (self._lives[name], *self._calls.get(name, ())):
            task.cancel()
        self.cluster.simulation.crash(name)
        self._holders.pop(name, None)
        self.client_crashes += 1
        self._begin_life(name)
        return True

    def paused(self, name: str, duration_s: float) -> None:
        """A client does nothing for a while, and does not notice what it loses meanwhile."""
        awake_s = self.cluster.simulation.now_s + duration_s + AWAKENING_S
        self._awake_s[name] = max(awake_s, self._awake_s.get(name, 0.0))

    def _works(self, name: str) -> bool:
        """Whether a client works for another round."""
        self._worked[name] += 1
        return not self.stopping and (self.rounds is None or self._worked[name] <= self.rounds)

    def _call(self, client: AsyncClient, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a call beside others of the same client."""
        name = _name(client)
        task = asyncio.create_task(call, name=f"{name} calls")
        unfinished = [each for each in self._calls.get(name, ()) if not each.done()]
        self._calls[name] = [*unfinished, task]
        return task

    def _too_late(self, end_s: float) -> None:
        raise self._violated(
            "Progress: when the faults have ended, every call ends",
            f"{end_s:g} s later {self.cluster.simulation.loop.describe_tasks()}",
        )

    async def _live(self, name: str) -> None:
        chance = self.chance
        client = self.cluster.client(
            name=name,
            timeout_s=inf,
            session_timeout_s=chance.choice(SESSION_TIMEOUTS_S),
            server_selection=chance.choice(("leader", "any")),
        )
        async with client:
            self._watch(client)
            await self._roles[name.rstrip(digits)](client)

    def _watch(self, client: AsyncClient) -> None:
        """A client has connected."""
        watch(client)
        self.monitors.watch(client)

    # What is the same for all calls.

    def _timeout_s(self) -> float:
        if not self.refusals_hold or self.stopping:
            return inf
        return self.chance.choice((*TIMEOUTS_S, inf))

    async def _pause(self) -> None:
        await asyncio.sleep(self.chance.expovariate(1 / PAUSE_MEAN_S))

    async def _ended(self, call: Awaitable[Any]) -> tuple[bool, Any]:
        """Whether a call is known to have happened, and what it returned."""
        try:
            value = await call
        except OutcomeUnknown:
            self._reached.count(UNKNOWN_OUTCOMES)
            return False, None
        except NotApplied:
            self.not_applied += 1
            self._reached.count(REFUSALS)
            return False, None
        self.calls += 1
        return True, value

    # Roles.

    async def _count(self, client: AsyncClient) -> None:
        """Increments in pipelines, and reads."""
        hits = await client.open(AsyncDistributedCounter, "hits")
        while self._works(_name(client)):
            calls = []
            spread_s = self.chance.choice(SPREADS_S)
            for _ in range(self.chance.randint(1, self.pipeline)):
                calls.append(self._call(client, self._increment(client, hits)))
                if spread_s and self.chance.random() < SPREAD_CHANCE:
                    await asyncio.sleep(self.chance.uniform(0, spread_s))
            read = None
            if self.chance.random() < 0.5:
                read = self._call(client, self._read_counter(client, hits))
            values = [value for call in calls if (value := await call) is not None]
            if values != sorted(values):
                raise self._violated(
                    IN_ORDER,
                    f"{client!r} counted in a row and was answered {values}",
                )
            seen = await read if read is not None else None
            if seen is not None and values and seen < values[-1]:
                raise self._violated(
                    OWN_COMMANDS_SEEN,
                    f"{client!r} was answered {values}, and then read {seen}",
                )
            await self._pause()
        await self._increment(client, hits)

    async def _increment(self, client: AsyncClient, hits: AsyncDistributedCounter) -> int | None:
        """Count; the new value if there was an answer."""
        call = hits.increment(timeout_s=self._timeout_s())
        happened, value = await self._ended(self.hits.record(_name(client), "increment", call=call))
        return cast("int", value) if happened else None

    async def _read(self, client: AsyncClient) -> None:
        """Reads only, so that no command of its own holds it up; at any server, too."""
        hits = await client.open(AsyncDistributedCounter, "hits")
        session, seen = 0, 0
        while self._works(_name(client)):
            reads = [
                self._call(client, self._read_counter(client, hits))
                for _ in range(self.chance.randint(0, READS_MAX))
            ]
            if session != client.session_id:
                session, seen = client.session_id, 0
            happened, value = await self._ended(
                hits.value(consistency=Consistency.SEQUENTIAL, timeout_s=self._timeout_s())
            )
            if happened and session == client.session_id:
                if value < seen:
                    raise self._violated(
                        "Sessions: what a session sees never goes back in time (§6.4)",
                        f"session {session} read {value}, and had read {seen}",
                    )
                seen = value
            for read in reads:
                await read
            await asyncio.sleep(self.chance.uniform(0, 2 * READ_PAUSE_MEAN_S))

    async def _read_counter(self, client: AsyncClient, hits: AsyncDistributedCounter) -> int | None:
        """Read; the value if there was an answer."""
        call = hits.value(timeout_s=self._timeout_s())
        happened, value = await self._ended(self.hits.record(_name(client), "value", call=call))
        return cast("int", value) if happened else None

    async def _write(self, client: AsyncClient) -> None:
        """Does everything that can be done to a key, and writes ballast of any size elsewhere."""
        users = await client.open(AsyncDistributedMap[str, int], "users")
        ballast = await client.open(AsyncDistributedMap[str, bytes], "ballast")
        while self._works(_name(client)):
            calls: list[Awaitable[Any]] = [
                self._call(client, self._use_key(client, users))
                for _ in range(self.chance.randint(1, MAP_PIPELINE_MAX))
            ]
            value = bytes(self.chance.randint(0, PAYLOAD_BYTES_MAX))
            put = ballast.put("ballast", value, timeout_s=self._timeout_s())
            calls.append(self._call(client, self._ended(put)))
            for call in calls:
                await call
            await self._pause()

    async def _use_key(self, client: AsyncClient, users: AsyncDistributedMap[str, int]) -> None:
        self._numbers += 1
        number, key = self._numbers, self.chance.choice(KEYS)
        version = self.chance.choice((None, self._versions.get(key)))
        options: dict[str, Any] = {"timeout_s": self._timeout_s()}
        calls: list[tuple[Callable[..., Awaitable[Any]], tuple[Any, ...]]] = [
            (users.put, (key, number)),
            (users.put_if_absent, (key, number)),
            (users.replace, (key, number)),
            (users.remove, (key,)),
            (users.get, (key,)),
            (users.get_entry, (key,)),
            (users.contains, (key,)),
        ]
        method, arguments = self.chance.choice(calls)
        name, told = method.__name__, arguments
        if name in ("replace", "remove") and version is not None:
            options["version"] = version
            told = (*arguments, version)
        call = method(*arguments, **options)
        happened, found = await self._ended(
            self.users.record(_name(client), name, *told, call=call)
        )
        if happened and name == "get_entry" and found is not None:
            self._versions[key] = found.version

    async def _lock(self, client: AsyncClient) -> None:
        """Takes a lock, holds it for a while, gives it back."""
        nightly = await client.open(AsyncDistributedLock, "nightly")
        while self._works(_name(client)):
            wait_s = self.chance.choice((0.1, 1.0, None))
            request = self._request(client)
            try:
                grant = await nightly.acquire(timeout_s=wait_s)
            except CopycatError:
                await self._pause()
                continue
            self._granted(client, request, grant)
            await asyncio.sleep(self.chance.uniform(0, self.chance.choice(HOLDS_MAX_S)))
            self._holders.pop(_name(client), None)
            await self._release(client, request, grant)
            await self._pause()
            if self.chance.random() < 0.5:
                await self._release_again(client, nightly, grant)

    def _request(self, client: AsyncClient) -> tuple[Operation, Operation]:
        """The lock is asked for. As far as is known, whoever gets it may lose it at any time."""
        self._requests += 1
        return (
            self.nightly.invoke(_name(client), "acquire", self._requests),
            self.nightly.invoke(_name(client), "expire", self._requests),
        )

    def _granted(
        self, client: AsyncClient, request: tuple[Operation, Operation], grant: AsyncLockGrant
    ) -> None:
        self.grants += 1
        self.nightly.ok(request[0], grant.token)
        now_s = self.cluster.simulation.now_s
        for other, (told, held) in self._holders.items():
            if not held.lost.is_set() and self._awake_s.get(other, 0.0) <= now_s:
                raise self._violated(
                    "Locks: of all who think they hold a lock, one does",
                    f"{client!r} is granted {grant!r}, and {told} still holds {held!r}",
                )
        self._holders[_name(client)] = (repr(client), grant)

    async def _release(
        self, client: AsyncClient, request: tuple[Operation, Operation], grant: AsyncLockGrant
    ) -> None:
        acquire, expire = request
        release = self.nightly.invoke(_name(client), "release", *acquire.arguments)
        if await grant.release():
            self.nightly.ok(release, result=True)
            self.nightly.not_applied(expire)

    async def _release_again(
        self, client: AsyncClient, nightly: AsyncDistributedLock, grant: AsyncLockGrant
    ) -> None:
        """A release that comes late frees nothing, whoever holds the lock by now."""
        call = nightly._command("release", grant.token, timeout_s=self._timeout_s())
        _, was_held = await self._ended(call)
        if was_held:
            raise self._violated(LOCKS, f"{client!r} has released {grant!r} a second time")

    async def _publish(self, client: AsyncClient) -> None:
        """Publishes to everybody, often many events by one entry, and listens."""
        news = await client.open(AsyncDistributedTopic[int | bytes], "news")
        listener = Listener(client, news._resource, self.monitors, self._violated)
        self._listeners.append(listener)
        happened = False
        while not happened:  # a session may be lost while it subscribes
            subscription = news.subscribe()
            happened, _ = await self._ended(subscription.__aenter__())
        while self._works(_name(client)):
            calls = []
            for _ in range(self.chance.choice(PUBLISHED_AT_ONCE)):
                ballast = bytes(self.chance.randint(0, NEWS_BYTES_MAX))
                content = self.chance.choice((self.calls, ballast))
                call = news.publish(content, timeout_s=self._timeout_s())
                calls.append(self._call(client, self._ended(call)))
                if self.chance.random() < SPREAD_CHANCE:
                    await asyncio.sleep(self.chance.uniform(0, SPREADS_S[-1]))
            for each in calls:
                await each
            await self._pause()
        if self.chance.random() < 0.5:  # else nothing may follow what was published last
            await self._ended(news.publish(-1))
        await self.cluster.until(listener.has_heard_all)
        await subscription.__aexit__(None, None, None)

    async def _come_and_go(self, name: str) -> None:
        """Clients who stay for one call, and close properly or crash with the lock in hand."""
        while self._works(name):
            client = self.cluster.client(
                name=name, timeout_s=inf, session_timeout_s=self.chance.choice(SESSION_TIMEOUTS_S)
            )
            crashes = self.chance.random() < 0.5
            await client.connect()
            self._watch(client)
            hits = await client.open(AsyncDistributedCounter, "hits")
            await self._increment(client, hits)
            if crashes:
                nightly = await client.open(AsyncDistributedLock, "nightly")
                acquire, _ = self._request(client)
                try:
                    grant = await nightly.try_acquire()
                except CopycatError:
                    pass  # its session was lost; it can crash without one
                else:
                    self.nightly.ok(acquire, None if grant is None else grant.token)
                self.cluster.simulation.crash(name)
            await client.close()
            self.cluster.simulation.nodes[name].stop()
            await asyncio.sleep(self.chance.expovariate(1 / VISIT_PAUSE_MEAN_S))

    # At the end.

    async def look_again(self) -> None:
        """Look at everything once more, with a client of its own."""
        async with self.cluster.client(timeout_s=inf) as client:
            self._watch(client)
            await self._read_counter(client, await client.open(AsyncDistributedCounter, "hits"))
            users = await client.open(AsyncDistributedMap[str, int], "users")
            for key in KEYS:
                await self.users.record(_name(client), "get_entry", key, call=users.get_entry(key))
            nightly = await client.open(AsyncDistributedLock, "nightly")
            request = self._request(client)
            grant = await nightly.acquire()
            self._granted(client, request, grant)
            self._holders.clear()
            await self._release(client, request, grant)

    def check_histories(self) -> list[Report]:
        """Hold what all clients have seen against the models, by the log and without it.

        Raises:
            InvariantViolated: it cannot be explained.
        """
        story = self.monitors.story
        return [
            explained(story, LINEARIZABLE, self.hits, CounterModel()),
            explained(story, LINEARIZABLE, self.users, MapModel()),
            # Who waits for a lock gets it at another index.
            explained(story, LOCKS, self.nightly, LockModel(), by_index=False),
        ]


def _name(client: AsyncClient) -> str:
    return client._options.name
