"""Clients at work in a cluster that is harmed, and the histories of what they have seen.

Time is divided into eras. Each has a counter, a map and a lock of its own, so that no history is
longer than can be checked; and all are looked at once more at the end.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

from chaos_world import now_s
from copycat import AsyncClient, CopycatError
from copycat.protocol.client import Consistency
from copycat.resources import AsyncDistributedCounter, AsyncDistributedLock, AsyncDistributedMap
from copycat.testing import History, Operation, Outcome, watch

ROLES = ("count", "count", "read", "read", "read", "write", "write", "lock", "lock", "lock")
KEYS = ("ann", "bob", "cid", "dan")
TIMEOUTS_S = (0.3, 1.0, 5.0, 5.0)
SESSION_TIMEOUTS_S = (1.0, 2.0, 5.0)
PAUSE_MEAN_S = 0.03
HOLD_MEAN_S = 0.05
PIPELINE_MAX = 6
VALUE_BYTES_MAX = 2_000
CONNECT_S = 5.0
LAST_CALLS_S = 30.0
"""How long the last calls may take when nothing goes wrong any more."""


class Era:
    """The objects of some seconds, and what clients have seen of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.hits = History(now_s)
        self.users = History(now_s)
        self.nightly = History(now_s)

    @property
    def histories(self) -> tuple[History, History, History]:
        """Of the counter, the map and the lock."""
        return self.hits, self.users, self.nightly


class Clients:
    """All clients of a run.

    Attributes:
        eras: begun so far.
        errors: how many calls have ended with each kind of error.
        broken: what a client may never see.
        lives: how many sessions clients have opened, the ones they lost aside.
        gap_s, gap_at_s: the longest time in which no call ended well, and its end since the start.
    """

    def __init__(self, endpoints: tuple[str, ...], seed: int, era_s: float) -> None:
        self.endpoints = endpoints
        self.era_s = era_s
        self.eras: list[Era] = []
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []
        self.lives = 0
        self.gap_s = 0.0
        self.gap_at_s = 0.0
        self.began_s = now_s()
        self._last_s = self.began_s
        self._stopping = False
        self._seed = seed
        self._numbers = 0

    async def work(self, until: Awaitable[None]) -> None:
        """Work until something has ended; then every client has to come to its end."""
        self.began_s = self._last_s = now_s()
        tasks = [
            asyncio.create_task(self._live(f"{role}{place}", role))
            for place, role in enumerate(ROLES, 1)
        ]
        try:
            await until
            self._stopping = True
            _, late = await asyncio.wait(tasks, timeout=LAST_CALLS_S)
            for task in late:
                self.broken.append(f"a call has not ended after {LAST_CALLS_S:g} s: {task}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._well()
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                self.broken.append(f"a client failed: {task.exception()!r}")

    def outcomes(self) -> Counter[Outcome]:
        """How the calls of all histories have ended."""
        return Counter(
            each.outcome
            for era in self.eras
            for history in era.histories
            for each in history
            if each.method != "expire"
        )

    def era(self) -> Era:
        """The present one."""
        number = int((now_s() - self.began_s) / self.era_s)
        while len(self.eras) <= number:
            self.eras.append(Era(len(self.eras)))
        return self.eras[-1]

    def _well(self) -> None:
        """A call has ended well."""
        at_s = now_s()
        if at_s - self._last_s > self.gap_s:
            self.gap_s, self.gap_at_s = at_s - self._last_s, at_s - self.began_s
        self._last_s = at_s

    async def _ended(self, call: Awaitable[Any]) -> tuple[bool, Any]:
        """Whether a call is known to have happened, and what it returned."""
        try:
            value = await call
        except CopycatError as error:
            self.errors[type(error).__name__] += 1
            return False, None
        self._well()
        return True, value

    # One client after the other, under one name.

    async def _live(self, name: str, role: str) -> None:
        chance = random.Random(f"{self._seed} {name}")
        roles: dict[str, Callable[[_Client], Awaitable[None]]] = {
            "count": self._count,
            "read": self._read,
            "write": self._write,
            "lock": self._lock,
        }
        while not self._stopping:
            connection = AsyncClient(
                *chance.sample(self.endpoints, len(self.endpoints)),
                name=name,
                timeout_s=CONNECT_S,
                session_timeout_s=chance.choice(SESSION_TIMEOUTS_S),
                server_selection=chance.choice(("leader", "any")),
            )
            connected, _ = await self._ended(connection.connect())
            if not connected:
                continue
            self.lives += 1
            watch(connection)
            client = _Client(name, connection, chance, self.era(), now_s() + self.era_s)
            try:
                await roles[role](client)
            finally:
                if chance.random() < 0.3 and not self._stopping:
                    _crash(connection)
                await connection.close()

    def _works(self, client: "_Client") -> bool:
        return not self._stopping and now_s() < client.end_s

    async def _open(self, client: "_Client", handle: type[Any], name: str) -> Any:
        """Open an object of the era, as soon as that is possible; None if it is too late."""
        while self._works(client):
            opened, found = await self._ended(
                client.connection.open(handle, f"{name} {client.era.number}")
            )
            if opened:
                return found
        return None

    async def _count(self, client: "_Client") -> None:
        """Increments in pipelines, and reads."""
        hits = await self._open(client, AsyncDistributedCounter, "hits")
        while hits is not None and self._works(client):
            calls = [
                self._recorded(client, client.era.hits, hits.increment)
                for _ in range(client.chance.randint(1, PIPELINE_MAX))
            ]
            if client.chance.random() < 0.5:
                calls.append(self._recorded(client, client.era.hits, hits.value))
            ended = await asyncio.gather(*calls)
            values = [value for happened, value in ended if happened]
            if values != sorted(values):
                self.broken.append(f"{client.name} counted in a row and was answered {values}")
            await client.pause()

    async def _read(self, client: "_Client") -> None:
        """Reads at any server; what a session sees never goes back in time."""
        hits = await self._open(client, AsyncDistributedCounter, "hits")
        session, seen = 0, 0
        while hits is not None and self._works(client):
            await self._recorded(client, client.era.hits, hits.value)
            if session != client.connection.session_id:
                session, seen = client.connection.session_id, 0
            happened, value = await self._ended(
                hits.value(consistency=Consistency.SEQUENTIAL, timeout_s=client.timeout_s())
            )
            if happened and session == client.connection.session_id:
                if value < seen:
                    self.broken.append(f"session {session} read {value}, and had read {seen}")
                seen = value
            await client.pause()

    async def _write(self, client: "_Client") -> None:
        """Does everything that can be done to a key, and writes ballast of any size elsewhere."""
        users = await self._open(client, AsyncDistributedMap, "users")
        ballast = await self._open(client, AsyncDistributedMap, "ballast")
        while users is not None and ballast is not None and self._works(client):
            calls = [self._use_key(client, users) for _ in range(client.chance.randint(1, 3))]
            value = bytes(client.chance.randint(0, VALUE_BYTES_MAX))
            await asyncio.gather(
                *calls, self._ended(ballast.put("", value, timeout_s=client.timeout_s()))
            )
            await client.pause()

    async def _use_key(self, client: "_Client", users: Any) -> None:
        self._numbers += 1
        number, key = self._numbers, client.chance.choice(KEYS)
        method = client.chance.choice(
            ("put", "put_if_absent", "replace", "remove", "get", "get_entry", "contains")
        )
        arguments: tuple[Any, ...] = (key,)
        if method in ("put", "put_if_absent", "replace"):
            arguments = (key, number)
        options: dict[str, int] = {}
        version = client.chance.choice((None, client.versions.get(key)))
        if method in ("replace", "remove") and version is not None:
            options["version"] = version
        happened, found = await self._recorded(
            client, client.era.users, getattr(users, method), *arguments, **options
        )
        if happened and method == "get_entry" and found is not None:
            client.versions[key] = found.version

    async def _lock(self, client: "_Client") -> None:
        """Takes a lock, holds it for a while, gives it back or dies with it."""
        nightly = await self._open(client, AsyncDistributedLock, "nightly")
        while nightly is not None and self._works(client):
            request = self._request(client)
            wait_s = client.chance.choice((0.0, 0.5, 2.0))
            happened, grant = await self._ended(nightly.acquire(timeout_s=wait_s))
            if happened:
                client.era.nightly.ok(request[0], grant.token)
                await asyncio.sleep(client.chance.expovariate(1 / HOLD_MEAN_S))
                if client.chance.random() < 0.02:
                    return
                await self._release(client, request, grant)
            await client.pause()

    def _request(self, client: "_Client") -> tuple[Operation, Operation]:
        """The lock is asked for. As far as is known, whoever gets it may lose it at any time."""
        self._numbers += 1
        nightly = client.era.nightly
        return (
            nightly.invoke(client.name, "acquire", self._numbers),
            nightly.invoke(client.name, "expire", self._numbers),
        )

    async def _release(
        self, client: "_Client", request: tuple[Operation, Operation], grant: Any
    ) -> None:
        nightly = client.era.nightly
        release = nightly.invoke(client.name, "release", *request[0].arguments)
        happened, held = await self._ended(grant.release())
        if happened and held:
            nightly.ok(release, result=True)
            nightly.not_applied(request[1])

    async def _recorded(
        self,
        client: "_Client",
        history: History,
        call: Callable[..., Awaitable[Any]],
        *arguments: Any,
        **options: Any,
    ) -> tuple[bool, Any]:
        """Make a call and record what comes of it."""
        begun = call(*arguments, timeout_s=client.timeout_s(), **options)
        told = (*arguments, *options.values())
        return await self._ended(history.record(client.name, call.__name__, *told, call=begun))

    # At the end.

    async def look_again(self) -> None:
        """Look at everything once more, with a client of its own; then at each server."""
        async with AsyncClient(*self.endpoints, timeout_s=inf) as connection:
            watch(connection)
            found = [await self._look_at(connection, era) for era in self.eras]
        for endpoint in self.endpoints:
            async with AsyncClient(endpoint, timeout_s=inf, server_selection="any") as connection:
                for era, expected in zip(self.eras, found, strict=True):
                    seen = await _contents(connection, era, Consistency.SEQUENTIAL)
                    if seen != expected:
                        self.broken.append(
                            f"{endpoint} has {seen} in era {era.number}, others {expected}"
                        )

    async def _look_at(self, connection: AsyncClient, era: Era) -> list[Any]:
        client = _Client("last", connection, random.Random(0), era, inf)
        client.timeouts_s = (inf,)
        hits, users, nightly = await _handles(connection, era)
        await self._recorded(client, era.hits, hits.value)
        for key in KEYS:
            await self._recorded(client, era.users, users.get_entry, key)
        request = self._request(client)
        grant = await nightly.acquire()
        era.nightly.ok(request[0], grant.token)
        await self._release(client, request, grant)
        return await _contents(connection, era, Consistency.LINEARIZABLE)


class _Client:
    """One session, while it lasts."""

    def __init__(
        self, name: str, connection: AsyncClient, chance: random.Random, era: Era, end_s: float
    ) -> None:
        self.name = name
        self.connection = connection
        self.chance = chance
        self.era = era
        self.end_s = end_s
        self.timeouts_s: tuple[float, ...] = TIMEOUTS_S
        self.versions: dict[str, int] = {}  # of keys of the map, as they were last seen

    def timeout_s(self) -> float:
        """How long the next call may take."""
        return self.chance.choice(self.timeouts_s)

    async def pause(self) -> None:
        """Do nothing for a while."""
        await asyncio.sleep(self.chance.expovariate(1 / PAUSE_MEAN_S))


async def _handles(connection: AsyncClient, era: Era) -> tuple[Any, Any, Any]:
    return (
        await connection.open(AsyncDistributedCounter, f"hits {era.number}"),
        await connection.open(AsyncDistributedMap, f"users {era.number}"),
        await connection.open(AsyncDistributedLock, f"nightly {era.number}"),
    )


async def _contents(connection: AsyncClient, era: Era, consistency: Consistency) -> list[Any]:
    """What is in the objects of an era, all of it."""
    hits, users, nightly = await _handles(connection, era)
    entries = [await users.get_entry(key, consistency=consistency) for key in KEYS]
    return [
        await hits.value(consistency=consistency),
        [None if each is None else (each.value, each.version) for each in entries],
        await nightly.holder(consistency=consistency),
    ]


def _crash(connection: AsyncClient) -> None:
    """A client is no more, and has told nobody."""
    assert connection._household is not None, "a connected client lives in a node"
    connection._household.node.stop()
