"""The fake cluster of ``fake_cluster`` on real sockets, in a thread of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from copycat.actors.network import NetworkNode
from copycat.actors.network_thread import NetworkThread
from fake_cluster import FakeCluster


@contextmanager
def real_cluster(servers: int = 2) -> Iterator[FakeCluster]:
    """Servers that listen on loopback."""
    thread = NetworkThread("fake-cluster")
    cluster = FakeCluster(None, servers)

    async def start() -> list[NetworkNode]:
        nodes = [
            NetworkNode(cluster.identity(name), listen="127.0.0.1:0", shares_loop=True)
            for name in cluster.names
        ]
        for node in nodes:
            await node.start()
            cluster.settle(node)
        cluster.endpoints = tuple(node.listening or "" for node in nodes)
        return nodes

    async def stop() -> None:
        for node in nodes:
            node.stop()

    nodes = thread.run(start())
    try:
        yield cluster
    finally:
        thread.run(stop())
        thread.stop()
