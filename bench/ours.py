"""Copycat: servers as anybody starts them, clients through the public interface."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from bench import driver
from bench.cluster import ServersAndClients, python
from bench.measuring import Meter, Samples, Span, clock, closed_loop, key_of, value_of
from copycat import AsyncClient
from copycat.client.status import ask_status
from copycat.protocol.status import Status
from copycat.resources import AsyncDistributedLock, AsyncDistributedMap, Put

TIMEOUT_S = 20.0
STATUS_S = 1.0
POLL_S = 0.05


class OurCluster(ServersAndClients):
    """Three servers with their default settings."""

    title = "Copycat"
    note = "Copycat: every write is synced to the disks of a majority before it is acknowledged."
    module = "bench.ours"

    def command(self, name: str) -> list[str]:
        peers = ",".join(f"{peer}={endpoint}" for peer, endpoint in self.endpoints.items())
        data = self.processes.directory / name
        return python(
            *("-m", "copycat", "serve", "--id", name, "--listen", self.endpoints[name]),
            *("--peers", peers, "--data", data),
        )


class OurDriver:
    """See ``driver.Driver``."""

    def __init__(self, endpoints: list[str]) -> None:
        self.endpoints = endpoints
        self._stack = AsyncExitStack()
        self._client: AsyncClient
        self._map: AsyncDistributedMap[str, bytes]

    async def connect(self, *, follower: bool) -> float:
        """Connect anew."""
        await self.close()
        endpoints = self.endpoints
        if follower:
            leader = await self.leader()
            endpoints = [endpoint for endpoint in endpoints if endpoint != leader][:1]
        client = AsyncClient(
            *endpoints, timeout_s=TIMEOUT_S, server_selection="any" if follower else "leader"
        )
        self._client = await self._stack.enter_async_context(client)
        self._map = await self._client.open(AsyncDistributedMap[str, bytes], "bench")
        await self._map.put(driver.last_key(), value_of(0))
        return clock()

    async def leader(self) -> str:
        """By the servers' own account."""
        while True:
            for answer in await ask_status(tuple(self.endpoints), timeout_s=STATUS_S):
                if isinstance(answer, Status) and answer.role == "leader":
                    others = [peer.endpoint for peer in answer.peers]
                    return next(each for each in self.endpoints if each not in others)
            await asyncio.sleep(POLL_S)

    async def writes(self, in_flight: int, span: Span) -> Samples:
        """``await map.put()``."""
        return await closed_loop([self._writer(self._map)] * in_flight, span)

    async def session_writes(self, sessions: int, connections: int, span: Span) -> Samples:
        """``await map.put()`` in each session; the sessions share connections."""
        async with AsyncExitStack() as stack:
            operations = []
            for number in range(sessions):
                if number % (sessions // connections) == 0:
                    first = client = await stack.enter_async_context(AsyncClient(*self.endpoints))
                else:
                    client = await stack.enter_async_context(_session(first))
                operations.append(
                    self._writer(await client.open(AsyncDistributedMap[str, bytes], "bench"))
                )
            return await closed_loop(operations, span)

    @staticmethod
    def _writer(handle: AsyncDistributedMap[str, bytes]) -> driver.Operation:
        return lambda number: handle.put(key_of(number), value_of(number))

    async def reads(self, in_flight: int, span: Span) -> Samples:
        """``await map.get()``, linearizable as it is by default."""
        return await closed_loop([lambda number: self._map.get(key_of(number))] * in_flight, span)

    async def lock_cycles(self, span: Span) -> Samples:
        """``async with await lock.acquire()``."""
        lock = await self._client.open(AsyncDistributedLock, "alone")

        async def cycle(_number: int) -> None:
            async with await lock.acquire():
                pass

        return await closed_loop([cycle], span)

    async def contend(self, seconds: float) -> list[tuple[float, float]]:
        """The queue of the lock gives it to each in turn."""
        lock = await self._client.open(AsyncDistributedLock, "wanted")
        held, end_s = [], clock() + seconds
        while clock() < end_s:
            grant = await lock.acquire()
            held.append((clock(), clock()))
            await grant.release()
        return held

    async def publish(self, span: Span) -> Samples:
        """Put to a key."""
        return await driver.publish(lambda value: self._map.put(driver.last_key(), value), span)

    async def observe(self, span: Span) -> Samples:
        """Watch the map."""
        meter = Meter(span)
        with suppress(TimeoutError):
            async with asyncio.timeout(meter.end_s - clock()), self._map.watch() as events:
                async for event in events:
                    if isinstance(event, Put):
                        meter.note(driver.time_of_bytes(event.value))
        return meter.samples()

    async def probe(self, lost_s: float, lost: str) -> float:
        """One client, which was connected to the leader."""
        return await driver.probe(lambda number: self._map.put(key_of(number), b""), lost_s)

    async def close(self) -> None:
        """End the session."""
        await self._stack.aclose()


@asynccontextmanager
async def _session(first: AsyncClient) -> AsyncIterator[AsyncClient]:
    client = await first.new_session()
    try:
        yield client
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(driver.serve(OurDriver(sys.argv[1:])))
