"""Nodes of the real world on one loop, for tests, and an actor that shows what it gets."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from copycat.actors import Actor, Identity, NodeAddress, Plain, message
from copycat.actors.endpoint import parse_endpoint
from copycat.actors.environment import NodeConnected
from copycat.actors.frame import FrameReader, decode_payload, encode_control
from copycat.actors.hello import PROTOCOL_VERSION, Hello
from copycat.actors.network import NetworkNode

T = TypeVar("T")
PATIENCE_S = 20.0  # what takes longer will not come


@message(60021)
class Note:
    """Something to say."""

    number: int
    content: Plain


class Probe(Actor):
    """Puts what it gets, with the sender, where a test can wait for it."""

    def __init__(self, arrived: "asyncio.Queue[tuple[Any, NodeAddress]]") -> None:
        self.arrived = arrived

    def receiveMessage(self, message: Any, sender: NodeAddress) -> None:
        self.arrived.put_nowait((message, sender))


class Echo(Actor):
    """Sends everything back."""

    def receiveMessage(self, message: Any, sender: NodeAddress) -> None:
        self.send(sender, message)


class World:
    """Some nodes on the running loop; all stop in the end."""

    def __init__(self) -> None:
        self.nodes: list[NetworkNode] = []

    async def node(
        self,
        name: str,
        *,
        cluster_id: int = 0,
        listen: str | None = "127.0.0.1:0",
        directory: Path | None = None,
    ) -> NetworkNode:
        """A node that has started."""
        identity = Identity(name, cluster_id=cluster_id)
        node = NetworkNode(identity, listen=listen, directory=directory, shares_loop=True)
        self.nodes.append(node)
        await node.start()
        return node

    async def stop(self) -> None:
        """Stop all nodes and let their sockets close."""
        for node in self.nodes:
            node.stop()
        for _ in range(3):
            await asyncio.sleep(0)


class Seen:
    """A probe's view: what came, one after the other."""

    def __init__(self, node: NetworkNode, *, watching: bool = False, serial: int = 0) -> None:
        self._arrived: asyncio.Queue[tuple[Any, NodeAddress]] = asyncio.Queue()
        self.address = node.spawn(Probe, self._arrived, serial=serial)
        self._node = node
        if watching:
            node.links.watch(self.address)

    async def next(self) -> Any:
        """The next message."""
        self.sender: NodeAddress
        async with asyncio.timeout(PATIENCE_S):
            arrived, self.sender = await self._arrived.get()
        return arrived

    async def next_of(self, kind: type[T]) -> T:
        """The next message of this type; others before it are skipped."""
        while True:
            arrived = await self.next()
            if isinstance(arrived, kind):
                return arrived

    def say(self, target: NodeAddress, content: Any) -> None:
        """Send something from the probe's address."""
        self._node.deliver(target, content, self.address)

    def nothing_more(self) -> bool:
        """Whether everything that came has been looked at."""
        return self._arrived.empty()


def in_world(test: "Coroutine[Any, Any, None]", world: World) -> None:
    """Run a test's coroutine, then stop the nodes of its world."""

    async def run() -> None:
        try:
            await test
        finally:
            await world.stop()

    asyncio.run(run())


Body = Callable[[World], Coroutine[Any, Any, None]]


def world_test(body: Body) -> Callable[[], None]:
    """Make a coroutine that takes a world a test."""

    def run() -> None:
        world = World()
        in_world(body(world), world)

    run.__doc__ = body.__doc__
    run.__name__ = body.__name__
    return run


async def linked(world: World) -> tuple[NetworkNode, NetworkNode, Seen]:
    """Node a, node b that has dialled it, and b's watcher, which has seen the link come up."""
    a = await world.node("a")
    b = await world.node("b")
    watcher = Seen(b, watching=True)
    assert a.listening is not None
    b.links.dial(a.listening)
    assert type(await watcher.next()) is NodeConnected
    return a, b, watcher


class Stranger:
    """A peer that speaks bytes."""

    @classmethod
    async def to(cls, node: NetworkNode) -> "Stranger":
        """Connected to this node."""
        assert node.listening is not None
        host, port = parse_endpoint(node.listening)
        stranger = cls()
        stranger.reader, stranger.writer = await asyncio.open_connection(host, port)
        return stranger

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self._frames = FrameReader()
        self._payloads: list[bytes] = []

    async def control(self) -> Any:
        """The next control message."""
        while not self._payloads:
            data = await asyncio.wait_for(self.reader.read(65536), PATIENCE_S)
            assert data, "the node closed the connection"
            self._payloads += self._frames.feed(data)
        return decode_payload(self._payloads.pop(0))

    async def closed(self) -> None:
        """Wait until the node has closed the connection."""
        try:
            while await asyncio.wait_for(self.reader.read(65536), PATIENCE_S):
                pass
        except ConnectionError:
            pass
        self.writer.close()


def hello(name: str = "stranger", **changes: Any) -> bytes:
    """The frame of a Hello."""
    fields = {
        "protocol_version": PROTOCOL_VERSION,
        "cluster_id": 0,
        "name": name,
        "node_id": 0,
        "incarnation": 7,
        "offers": (),
        "bulk": False,
    }
    return encode_control(Hello(**{**fields, **changes}))
