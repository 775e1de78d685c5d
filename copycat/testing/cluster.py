"""A whole cluster in a simulated world: servers, their disks, clients, and what may happen to them.

Real servers run here, unmodified: ``Server`` actors on simulated nodes. Their monitors look at
them after every event; see ``monitors``.

    with Simulation(seed=17) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()

        async def story() -> int:
            async with cluster.client() as client:
                hits = await client.open(AsyncDistributedCounter, "hits")
                return await hits.increment()

        assert cluster.run(story(), timeout_s=10) == 1
"""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from copycat.actors.environment import Identity
from copycat.actors.simulated_node import SimulatedNode
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.errors import IdentityRefused
from copycat.machine import Catalog
from copycat.protocol.client import SERVER
from copycat.resources.counter import CounterMachine
from copycat.resources.lock import LockMachine
from copycat.resources.map import MapMachine
from copycat.resources.topic import TopicMachine
from copycat.server.options import ServerOptions
from copycat.server.roles.leader import Leader
from copycat.server.server import Server
from copycat.server.users_code import Recursion
from copycat.storage.errors import DiskFailedError, StorageError
from copycat.testing.monitors import Monitors

T = TypeVar("T")

SEGMENT_BYTES = 64 << 10
"""Small, so that a short story rolls the log over many times."""

RESTART_AFTER_S = 0.1

CATALOG = Catalog(
    {"counter": CounterMachine, "lock": LockMachine, "map": MapMachine, "topic": TopicMachine}
)
"""The types that every cluster knows unless it is told others."""


class SimulatedCluster:
    """The servers n1, n2, ... of one simulated world.

    A server whose disk fails stops, as it should, and can be restarted; any other failure of a
    server is raised out of the run, unless it has lost what was on its disk.

    Attributes:
        simulation: the world.
        peers: the endpoint of each server by name, running or not.
        disks: the disk of each server, which outlives its crashes.
        monitors: what checks the servers after every event; None when it was not wanted.
        crashes: how many servers were crashed or killed.
        restarts: how often a server was started that had run before.
        disk_failures: how many servers have stopped because their disk failed.
        supervised: who is started again a while after its disk has failed.
        lost: the servers whose files were damaged or wiped: they may refuse to go on.
        refusals: how often one of them has.
    """

    def __init__(
        self,
        simulation: Simulation,
        *,
        servers: int = 3,
        catalog: Catalog = CATALOG,
        monitored: bool = True,
        **options: Any,
    ) -> None:
        """Plan a cluster; ``start`` starts it.

        Args:
            simulation: the world; one cluster in each.
            servers: how many, from 1 to 9.
            catalog: the types of resources that the servers know.
            monitored: whether monitors look at every event; False is several times as fast.
            options: of ``ServerOptions``, for all servers.
        """
        self.simulation = simulation
        self.peers = {f"n{place}": f"n{place}:7401" for place in range(1, servers + 1)}
        self.disks = {name: simulation.disk(name) for name in self.peers}
        self.crashes = 0
        self.restarts = 0
        self.disk_failures = 0
        self.supervised: set[str] = set()
        self.lost: set[str] = set()
        self.refusals = 0
        self._options = {"segment_bytes": SEGMENT_BYTES, **options, "catalog": catalog}
        self._clients = 0
        self.monitors = Monitors(self) if monitored else None

    # Who there is.

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all servers, running or not."""
        return tuple(self.peers)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients find the servers."""
        return tuple(self.peers.values())

    @property
    def majority(self) -> int:
        """How many servers decide."""
        return len(self.peers) // 2 + 1

    @property
    def running(self) -> list[str]:
        """The names of the servers that run now."""
        return [name for name in self.peers if self.is_running(name)]

    def is_running(self, name: str) -> bool:
        """Whether this server has been started and has not stopped."""
        node = self.simulation.nodes.get(name)
        return node is not None and not node.stopped

    def node(self, name: str) -> SimulatedNode:
        """The node of the latest life of a server."""
        return self.simulation.nodes[name]

    def server(self, name: str) -> Server:
        """The actor of a server that runs. Look at it, but leave it as it is."""
        server = self.node(name).actor_at(SERVER)
        assert type(server) is Server, f"{name} is not running"
        return server

    def leader(self) -> str | None:
        """The running server that leads in the highest term; None when none does."""
        leaders = [
            (self.server(name).ballot.term, name)
            for name in self.running
            if self.server(name).role_title == Leader.title
        ]
        return max(leaders)[1] if leaders else None

    # What happens to servers.

    def start(self, *names: str) -> None:
        """Start these servers, or all that do not run; each with the disk of its earlier life."""
        for name in names or [name for name in self.peers if not self.is_running(name)]:
            assert not self.is_running(name), f"{name} runs already"
            is_restart = name in self.simulation.nodes
            node = self.simulation.node(
                Identity(name), endpoint=self.peers[name], disk=self.disks[name]
            )
            node.on_failure = partial(self._failed, name)
            try:
                node.spawn(Server, self.options(name), serial=SERVER)
            except BaseException:
                node.stop()
                raise
            self.restarts += is_restart
            if self.monitors is not None:
                self.monitors.started(name)

    def options(self, name: str) -> ServerOptions:
        """What a server is told at its start."""
        return ServerOptions(
            name=name, peers=self.peers, **{"recursion": Recursion.SHARED, **self._options}
        )

    def crash(
        self, *names: str, lose_unsynced: bool = True, silent: bool | None = None
    ) -> list[str]:
        """Stop these servers at once, or all that run.

        Args:
            names: which.
            lose_unsynced: they lose power, and what was not synced; False: only the process ends.
            silent: whether the others notice late; None: the faults of the network decide.

        Returns:
            Who was stopped.
        """
        stopped = list(names) or self.running
        for name in stopped:
            self.simulation.crash(name, lose_unsynced=lose_unsynced, silent=silent)
            self.crashes += 1
        return stopped

    def restart(self, *names: str) -> None:
        """Crash these servers, or all that run, and start them again."""
        self.start(*self.crash(*names))

    def wipe(self, name: str, image: Mapping[str, bytes] | None = None) -> None:
        """Give a server that does not run an empty disk, or one with these files."""
        assert not self.is_running(name), f"{name} still uses its disk"
        self.disks[name] = self.simulation.disk(f"{name} wiped at {self.simulation.now_s}")
        self.disks[name].restore(dict(image or {}))
        if self.monitors is not None:
            self.monitors.wiped(name)

    def partition(self, *groups: list[str]) -> None:
        """Cut the nodes of each group, clients too, from those of all other groups."""
        self.simulation.network.partition(*groups)

    def isolate(self, name: str) -> None:
        """Cut a server from all other servers; clients still reach it."""
        self.partition([name], [other for other in self.peers if other != name])

    def heal(self) -> None:
        """Undo all cuts."""
        self.simulation.network.heal()

    def _failed(self, name: str, error: BaseException) -> None:
        if name in self.lost and isinstance(error, (StorageError, IdentityRefused)):
            self.refusals += 1
            return
        if not isinstance(error, DiskFailedError):
            self.simulation.fail(error)
            return
        self.disk_failures += 1
        if name in self.supervised:
            self.simulation.loop.call_later(RESTART_AFTER_S, self._restart_failed, name)

    def _restart_failed(self, name: str) -> None:
        if not self.is_running(name):
            self.start(name)

    # Clients, and time.

    def client(self, *, name: str = "", **options: Any) -> AsyncClient:
        """A client in a node of its own, to be connected with ``async with``.

        Args:
            name: of its node, unique in this world; empty: c1, c2, ...
            options: of ``AsyncClient``.
        """
        self._clients += 1
        name = name or f"c{self._clients}"
        node = self.simulation.node(Identity(name))
        return AsyncClient(*self.endpoints, node=node, name=name, **options)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run the world until a coroutine ends; see ``Simulation.run``."""
        return self.simulation.run(coroutine, timeout_s)

    def run_until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Run the world until a condition holds, which is looked at after every event.

        Raises:
            TimeoutError: it did not within ``timeout_s`` of virtual time.
        """

        async def wait() -> None:
            await self.until(condition)

        self.run(wait(), timeout_s)

    async def until(self, condition: Callable[[], object]) -> None:
        """The same, for a coroutine of this world."""
        if condition():
            return
        hooks = self.simulation.after_event
        holds = self.simulation.loop.create_future()

        def look() -> None:
            if not holds.done() and condition():
                holds.set_result(None)

        hooks.append(look)
        try:
            await holds
        finally:
            hooks.remove(look)

    def wait_for_leader(self, timeout_s: float = 30.0) -> str:
        """Run the world until a server leads and has applied all that it had; returns its name."""
        self.run_until(self._has_ready_leader, timeout_s)
        leader = self.leader()
        assert leader is not None, "it was just seen"
        return leader

    def _has_ready_leader(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        server = self.server(leader)
        return server.progress.applied_index == server.log.last_index

    def settle(self, timeout_s: float = 30.0) -> None:
        """Run the world until all running servers have applied the same, whole log."""
        self.run_until(self._is_settled, timeout_s)

    def _is_settled(self) -> bool:
        servers = [self.server(name) for name in self.running]
        last = max(server.log.last_index for server in servers)
        return all(
            server.progress.applied_index == last and server.log.synced_index == last
            for server in servers
        )
