"""The stage of a transcript: real servers and clients in a simulated world that obeys a script.

Elections happen when the script says so, until it lets them happen by themselves: a follower's
patience has no end before. Single kinds of messages can be held back, dropped and repeated. All
else is the simulated cluster with its monitors.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any
from unittest.mock import patch

from copycat.actors import Identity
from copycat.actors.frame import decode_payload
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_links import FRAME_LENGTH_BYTES, Closing, End
from copycat.actors.simulated_network import NetworkFaults, SimulatedNetwork
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.errors import CopycatError, ServerError
from copycat.protocol.client import Consistency
from copycat.protocol.raft import AppendEntries
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.lock import AsyncDistributedLock, AsyncLockGrant, Holder
from copycat.resources.map import AsyncDistributedMap
from copycat.server.options import ServerOptions
from copycat.server.roles.follower import Follower
from copycat.storage.errors import StorageError
from copycat.testing.cluster import SimulatedCluster
from transcript_file import ScriptError

HANDLES: dict[str, Any] = {
    "counter": AsyncDistributedCounter,
    "lock": AsyncDistributedLock,
    "map": AsyncDistributedMap,
}
SESSION_TIMEOUT_S = 60.0  # so long that keep-alives do not fill the logs of short scripts
WAIT_MAX_S = 120.0


@dataclass
class Rule:
    """What happens to one kind of message on its way from one node to another."""

    action: str  # hold, drop or repeat
    kind: str
    source: str
    target: str
    left: float  # how many messages it is for
    after_s: float = 0.0  # when a message is repeated
    used: bool = False

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.source} > {self.target}"


class StagedNetwork(SimulatedNetwork):
    """A network that follows rules about messages."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.loop, simulation.random_for("network"), NetworkFaults.none())
        self.rules: list[Rule] = []
        self.kept: list[tuple[End, bytes]] = []

    def stops(self, end: End, item: bytes | Closing) -> bool:
        """Apply the first rule that is meant, else leave it to the cuts."""
        rule = self._rule_for(end, item) if type(item) is bytes else None
        if rule is None or type(item) is not bytes:
            return super().stops(end, item)
        rule.used = True
        rule.left -= 1
        if rule.action == "repeat":
            self.loop.plan(self.loop.time() + rule.after_s, self._deliver, (end, item))
            return super().stops(end, item)
        if rule.action == "hold":
            self.kept.append((end, item))
        return True

    def _rule_for(self, end: End, item: bytes) -> Rule | None:
        between = [
            rule
            for rule in self.rules
            if rule.left and (rule.source, rule.target) == (end.peer.node.name, end.node.name)
        ]
        if not between:
            return None
        kinds = self._kinds_in(item)
        return next((rule for rule in between if rule.kind in kinds), None)

    def _kinds_in(self, item: bytes) -> set[str]:
        return {
            kind
            for *_, message in decode_payload(item[FRAME_LENGTH_BYTES:])
            for kind in kinds_of(message)
        }

    def count_kept(self, kind: str) -> int:
        """How many messages of a kind are held back."""
        return sum(kind in self._kinds_in(item) for _, item in self.kept)

    def release(self, kind: str | None, *, reverse: bool) -> int:
        """Deliver what was held back, in its order or against it; returns how many there were."""
        self.rules = [
            rule for rule in self.rules if rule.action != "hold" or kind not in (None, rule.kind)
        ]
        kept = [one for one in self.kept if kind is None or kind in self._kinds_in(one[1])]
        self.kept = [one for one in self.kept if one not in kept]
        for one in reversed(kept) if reverse else kept:
            self.loop.plan(self.loop.time(), self._deliver, one)
        return len(kept)

    def _deliver(self, one: tuple[End, bytes]) -> None:
        end, item = one
        if end.up:  # else the bytes have gone with their connection
            end.take(item)


def kinds_of(message: Any) -> tuple[str, ...]:
    """By which words a script may speak of this message."""
    if isinstance(message, AppendEntries):
        return ("AppendEntries", "Entries" if message.batches else "Heartbeat")
    return (type(message).__name__,)


class StagedCluster(SimulatedCluster):
    """A cluster whose servers may stop for any reason that a server may have.

    Attributes:
        ends: why each server has stopped that stopped by itself.
        told: the servers that a server is told of, when they are not all.
    """

    def __init__(self, simulation: Simulation, servers: int) -> None:
        super().__init__(simulation, servers=servers)
        self.ends: dict[str, str] = {}
        self.told: dict[str, list[str]] = {}

    def options(self, name: str) -> ServerOptions:
        """The same for all, but for the peers."""
        options = super().options(name)
        if name in self.told:
            peers = {peer: self.peers[peer] for peer in self.told[name]}
            options = replace(options, peers=peers)
        return options

    def _failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, StorageError | ServerError):
            self.ends[name] = type(error).__name__
        else:
            self.simulation.fail(error)


class Program:
    """One client, and what it has under way."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.under_way: deque[asyncio.Task[str]] = deque()
        self._grants: dict[str, AsyncLockGrant] = {}

    async def perform(self, kind: str, name: str, method: str, arguments: list[Any]) -> str:
        """Call a method of a resource; returns its result or error as a script says it."""
        named = {}
        if arguments[-1:] == ["sequentially"]:
            arguments, named = arguments[:-1], {"consistency": Consistency.SEQUENTIAL}
        try:
            if method == "release":
                return str(await self._grants[name].release())
            handle = await self.client.open(HANDLES[kind], name)
            result = await getattr(handle, method)(*arguments, **named)
        except CopycatError as error:
            return type(error).__name__
        if isinstance(result, AsyncLockGrant):
            self._grants[name] = result
            return "held"
        if isinstance(result, Holder):
            return "own" if result.session == self.client.session_id else "other"
        if isinstance(result, str) and len(result) >= 1024:
            return f"{len(result) // 1024}kB"
        return str(result)

    def has_lost(self, name: str) -> bool:
        """Whether the lock of this name was held and is lost, as far as the program knows."""
        return name in self._grants and self._grants[name].lost.is_set()


class Stage:
    """Everything that a script plays with.

    Attributes:
        programs: the clients by name.
        by_hand: whether elections happen only when the script says so.
    """

    def __init__(self, simulation: Simulation, servers: int) -> None:
        self.simulation = simulation
        self.network = simulation.network = StagedNetwork(simulation)
        self.cluster = StagedCluster(simulation, servers)
        self.programs: dict[str, Program] = {}
        self.by_hand = True

    @contextmanager
    def elections_in_hand(self) -> Iterator[None]:
        """Give followers endless patience, while elections are by hand."""
        wait = Follower._wait

        def wait_for_the_script(follower: Follower, patience_s: float | None = None) -> None:
            wait(follower, inf if self.by_hand else patience_s)

        with patch.object(Follower, "_wait", wait_for_the_script):
            yield

    # Nodes.

    def end_patience(self, name: str) -> None:
        """Let a follower ask for an election now; any other server is left alone."""
        server = self.cluster.server(name)
        if server.role_title == Follower.title:
            role = self.cluster.node(name).actor_at(server.role.serial)
            role._deadline_s = server.now_s()
            server.wake_at(role._deadline_s)

    def let_elections_happen(self) -> None:
        """From now on patience is as long as chance will have it."""
        self.by_hand = False
        for name in self.cluster.running:
            server = self.cluster.server(name)
            if server.role_title == Follower.title:
                role = self.cluster.node(name).actor_at(server.role.serial)
                role._wait()
                server.wake_at(role._deadline_s)

    def start(self, name: str) -> None:
        """Start a server, which may refuse to."""
        self.cluster.ends.pop(name, None)
        try:
            self.cluster.start(name)
        except (StorageError, ServerError) as error:
            self.cluster.ends[name] = type(error).__name__

    def crash(self, name: str, *, silent: bool = False, torn: bool = False) -> None:
        """Cut the power of a node: all that was not synced is lost, or all but half a write."""
        disk = self.simulation.nodes[name].disk
        image = disk.image()
        if torn:
            tear(disk, image)
        self.kill(name, silent=silent)
        disk.restore(image)

    def kill(self, name: str, *, silent: bool = False) -> None:
        """End the process of a node; what was written stays."""
        self.simulation.crash(name, lose_unsynced=False, silent=silent)

    # Clients.

    def connect(self, name: str, at: str | None, **options: Any) -> str | None:
        """Connect a client of this name; returns its error if it has one."""
        endpoints = list(self.cluster.endpoints)
        if at is not None:
            endpoints = [self.cluster.peers[at]]
            options["server_selection"] = "any"
        options.setdefault("session_timeout_s", SESSION_TIMEOUT_S)
        node = self.simulation.node(Identity(name))
        client = AsyncClient(*endpoints, node=node, name=name, **options)
        self.programs[name] = Program(client)

        async def connect() -> str | None:
            try:
                await client.connect()
            except CopycatError as error:
                return type(error).__name__
            return None

        return self.simulation.run(connect(), WAIT_MAX_S)

    def begin(self, name: str, call: tuple[str, str, str, list[Any]]) -> None:
        """Let a client begin something, without waiting for it."""
        program = self.programs[name]
        program.under_way.append(self.simulation.loop.create_task(program.perform(*call)))
        self.simulation.loop.settle()

    def result(self, name: str) -> str:
        """Wait for what the client began first of what has not been asked for."""
        task = self.programs[name].under_way.popleft()

        async def wait() -> str:
            return await task

        return self.simulation.run(wait(), WAIT_MAX_S)


def tear(disk: SimulatedDisk, image: dict[str, bytes]) -> None:
    """Let half of what was written to the log since the last sync have reached the disk."""
    for name in disk.names():
        written, durable = disk.load(name) or b"", bytearray(image.get(name, b""))
        places = [at for at, byte in enumerate(written) if durable[at : at + 1] != bytes([byte])]
        if name.startswith("log-") and places:
            middle = (places[0] + places[-1] + 1) // 2
            image[name] = written[:middle] + bytes(durable[middle:])
            return
    raise ScriptError("everything in its log is durable: nothing can be torn")
