"""etcd, as Debian has it, with clients on grpc.aio that send bytes made beforehand.

There is no client of etcd for asyncio to be had that is faster than this one.
"""

import asyncio
import importlib.util
import shutil
import sys
from contextlib import suppress
from typing import Any

from bench import driver
from bench import etcd_messages as messages
from bench.cluster import ServersAndClients
from bench.measuring import Meter, Samples, Span, clock, closed_loop, key_of, value_of
from bench.processes import HOST

LEASE_S = 600
STATUS_S = 1.0
PROBE_S = 1.0


class EtcdCluster(ServersAndClients):
    """Three members with their default settings, which sync before they acknowledge."""

    title = "etcd"
    note = (
        "etcd: defaults; like Copycat it syncs on a majority before it acknowledges. In w8 and w8s"
        " its client is told which members are left; Copycat's finds out by itself."
    )
    module = "bench.etcd"
    ports_per_server = 2

    @classmethod
    def missing(cls) -> str | None:
        if shutil.which("etcd") is None:
            return "etcd: sudo apt install etcd-server"
        if importlib.util.find_spec("grpc") is None:
            return "etcd: pip install grpcio (make bench does it)"
        return None

    def command(self, name: str) -> list[str]:
        client = f"http://{self.endpoints[name]}"
        members = {
            member: f"http://{HOST}:{port}"
            for member, port in zip(self.endpoints, self.ports[len(self.endpoints) :], strict=True)
        }
        data = self.processes.directory / name
        state = "existing" if data.exists() else "new"
        return [
            "etcd", "--name", name, "--data-dir", str(data), "--logger", "zap", "--log-level", "error", "--initial-cluster-state", state,
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", members[name], "--initial-advertise-peer-urls", members[name],
            "--initial-cluster", ",".join(f"{m}={url}" for m, url in members.items()),
        ]  # fmt: skip


class EtcdDriver:
    """See ``driver.Driver``."""

    def __init__(self, endpoints: list[str]) -> None:
        self.endpoints = endpoints
        self._channels: dict[str, _Channel] = {}
        self._channel: _Channel

    async def connect(self, *, follower: bool) -> float:
        """Connect anew, with one channel to each member."""
        await self.close()
        self._channels = {endpoint: _Channel(endpoint) for endpoint in self.endpoints}
        leader = await self.leader()
        others = [endpoint for endpoint in self.endpoints if endpoint != leader]
        self._channel = self._channels[others[0] if follower else leader]
        await self._channel.put(messages.put(driver.last_key().encode(), value_of(0)))
        return clock()

    async def leader(self) -> str:
        """By the members' own account."""
        while True:
            for endpoint in self.endpoints:
                with suppress(self._channels[endpoint].Error):
                    reply = await self._channels[endpoint].status(b"", timeout=STATUS_S)
                    if messages.leads(reply):
                        return endpoint
            await asyncio.sleep(0.02)

    async def writes(self, in_flight: int, span: Span) -> Samples:
        """Put, over one channel."""
        return await closed_loop([_writer(self._channel)] * in_flight, span)

    async def session_writes(self, sessions: int, connections: int, span: Span) -> Samples:
        """Put, over channels with a connection each."""
        leader = await self.leader()
        channels = [_Channel(leader) for _ in range(connections)]
        try:
            operations = [_writer(channels[n % connections]) for n in range(sessions)]
            return await closed_loop(operations, span)
        finally:
            for channel in channels:
                await channel.close()

    async def reads(self, in_flight: int, span: Span) -> Samples:
        """Range of one key, linearizable."""

        def read(number: int) -> Any:
            return self._channel.range(messages.get(key_of(number).encode()))

        return await closed_loop([read] * in_flight, span)

    async def lock_cycles(self, span: Span) -> Samples:
        """The lock service of the server, under one lease."""
        lease = messages.lease_of(await self._channel.lease_grant(messages.lease_grant(LEASE_S)))

        async def cycle(_number: int) -> None:
            reply = await self._channel.lock(messages.lock(b"alone", lease))
            await self._channel.unlock(messages.unlock(messages.lock_key_of(reply)))

        return await closed_loop([cycle], span)

    async def contend(self, seconds: float) -> list[tuple[float, float]]:
        """Likewise."""
        lease = messages.lease_of(await self._channel.lease_grant(messages.lease_grant(LEASE_S)))
        held, end_s = [], clock() + seconds
        while clock() < end_s:
            reply = await self._channel.lock(messages.lock(b"wanted", lease))
            held.append((clock(), clock()))
            await self._channel.unlock(messages.unlock(messages.lock_key_of(reply)))
        return held

    async def publish(self, span: Span) -> Samples:
        """Put to a key."""
        key = driver.last_key().encode()
        return await driver.publish(lambda value: self._channel.put(messages.put(key, value)), span)

    async def observe(self, span: Span) -> Samples:
        """Watch the key."""
        meter = Meter(span)
        stream = self._channel.watch()
        await stream.write(messages.watch(driver.last_key().encode()))
        with suppress(TimeoutError):
            async with asyncio.timeout(meter.end_s - clock()):
                while True:
                    for value in messages.watched_values(await stream.read()):
                        meter.note(driver.time_of_bytes(value))
        stream.cancel()
        return meter.samples()

    async def probe(self, lost_s: float, lost: str) -> float:
        """By turns through the members that are left."""
        left = [channel for e, channel in self._channels.items() if e != lost]

        def write(number: int) -> Any:
            request = messages.put(key_of(number).encode(), b"")
            return left[number % len(left)].put(request, timeout=PROBE_S)

        return await driver.probe(write, lost_s)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()


class _Channel:
    """A connection of its own to one member."""

    def __init__(self, endpoint: str) -> None:
        import grpc.aio

        self.Error = grpc.aio.AioRpcError
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        channel = grpc.aio.insecure_channel(endpoint, options=options)
        self.close = channel.close
        self.put = channel.unary_unary(messages.PUT)
        self.range = channel.unary_unary(messages.RANGE)
        self.status = channel.unary_unary(messages.STATUS)
        self.lease_grant = channel.unary_unary(messages.LEASE_GRANT)
        self.lock = channel.unary_unary(messages.LOCK)
        self.unlock = channel.unary_unary(messages.UNLOCK)
        self.watch = channel.stream_stream(messages.WATCH)


def _writer(channel: _Channel) -> driver.Operation:
    return lambda number: channel.put(messages.put(key_of(number).encode(), value_of(number)))


if __name__ == "__main__":
    asyncio.run(driver.serve(EtcdDriver(sys.argv[1:])))
