"""A cluster that is perfect in all but what a test tells it: servers with one shared state.

It applies commands the moment they arrive, each once and in order of their sequences, and keeps
the answers for ever. What it does wrong is decided by the test: it has no leader, is silent, or
forgets sessions.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.codec import decode, encode
from copycat.actors.environment import Identity
from copycat.actors.simulation import Simulation
from copycat.actors.system import Node
from copycat.client.asynchronous import AsyncClient
from copycat.protocol.client import (
    SERVER,
    AttachSession,
    AttachSessionReply,
    Branch,
    CloseSession,
    CommandsReply,
    DetachSession,
    Events,
    KeepAlive,
    KeepAliveReply,
    LeaderChanged,
    OpenResource,
    OpenResourceReply,
    OpenSession,
    OpenSessionReply,
    QueriesReply,
    Refusal,
    Refused,
    Request,
    ResetEvents,
    ResetEventsReply,
    SessionEnded,
    SubmitCommands,
    SubmitQueries,
)

NO_LEADER = "no leader known"


def refused(session: int, request: Request, number: int, reason: Refusal, text: str) -> Refused:
    """A refusal as it travels."""
    return Refused(session, int(request), number, int(reason), text)


@dataclass
class FakeSession:
    """What the cluster knows of a session."""

    number: int
    timeout_ms: int
    sequence: int = 0
    answers: dict[int, CommandsReply] = field(default_factory=dict)
    seen: dict[int, SubmitCommands] = field(default_factory=dict)
    early: dict[int, tuple[SubmitCommands, "FakeConnection"]] = field(default_factory=dict)
    waiting: list[tuple[SubmitQueries, "FakeConnection"]] = field(default_factory=list)
    events: list[Events] = field(default_factory=list)
    event_sequence: int = 0
    connection: "FakeConnection | None" = None


class FakeCluster:
    """The shared state, and what the test does to it."""

    def __init__(
        self,
        simulation: Simulation | None,
        servers: int = 3,
        *,
        prefix: str = "n",
        cluster_id: int = 7,
    ) -> None:
        self._simulation = simulation
        self.cluster_id = cluster_id
        self.index = 100
        self.term = 1
        self.leader = "n1"  # "" for none
        self.forwards = True  # whether followers take commands
        self.silent: set[str] = set()  # servers that take requests and do not answer
        self.mute = False  # commands are applied, but not answered
        self.carries_out = inf  # so many commands of a batch; the rest counts as not received
        self.refusal: tuple[Refusal, str] | None = None  # of everything
        self.swallows = False  # what is sent on to the leader gets lost
        self.refuses_queries = True  # by that, too
        self.ignores_resets = False
        self.detached: dict[int, None] = {}  # sessions that have to attach again
        self.session_timeout_ms: int | None = None
        self.sessions: dict[int, FakeSession] = {}
        self.nonces: dict[bytes, int] = {}
        self.resources: dict[str, tuple[int, str]] = {}
        self.lists: dict[int, list[Any]] = {}
        self.received: list[Any] = []  # every request
        self.names = [f"{prefix}{place}" for place in range(1, servers + 1)]
        self.endpoints = tuple(f"{name}:7400" for name in self.names)
        self.nodes: dict[str, Node] = {}
        self.connections: list[FakeConnection] = []
        for name in self.names if simulation is not None else ():
            self.start(name)

    def identity(self, name: str) -> Identity:
        """How a server introduces itself."""
        return Identity(name, cluster_id=self.cluster_id, node_id=self.names.index(name) + 1)

    def start(self, name: str) -> None:
        """Start a server, or start it again."""
        assert self._simulation is not None, "elsewhere the test starts the nodes"
        self.settle(self._simulation.node(self.identity(name), endpoint=self.endpoint_of(name)))

    def settle(self, node: Node) -> None:
        """Make a node a server."""
        node.spawn(FakeServer, self, serial=SERVER)
        self.nodes[node.name] = node

    def endpoint_of(self, name: str) -> str:
        """What clients dial to reach a server."""
        return self.endpoints[self.names.index(name)]

    def elect(self, leader: str) -> None:
        """Change the leader, and tell everybody."""
        self.term += 1
        self.leader = leader
        for connection in self.connections:
            connection.tell_leader()

    def expire(self) -> None:
        """End all sessions."""
        for session in self.sessions.values():
            if session.connection is not None:
                session.connection.say(SessionEnded(session.number, "as planned"))
        self.sessions.clear()

    def publish(self, session: FakeSession, *events: list[Any], lose: bool = False) -> None:
        """Publish events of one entry to a session."""
        self.index += 1
        encoded = tuple(encode(event) for event in events)
        made = Events(session.number, session.event_sequence + 1, self.index, encoded)
        session.event_sequence = made.last_sequence
        session.events.append(made)
        if session.connection is not None and not lose:
            session.connection.say(made)

    def count(self, kind: type) -> int:
        """How many requests of a kind have arrived."""
        return sum(type(message) is kind for message in self.received)

    def execute(self, session: FakeSession, operations: list[Any]) -> bytes:
        """Carry out operations on lists."""
        values: list[Any] = []
        failures: list[Any] = []
        for resource, method, *arguments in operations:
            items = self.lists.setdefault(resource, [])
            value: Any = None
            if method == "append":
                items.append(*arguments)
                value = len(items)
            elif method == "items":
                value = list(items)
            elif method == "publish":
                self.publish(session, [resource, "said", arguments])
            else:
                failures.append([len(values), Branch.REJECTED.value, "UnknownOperation", method])
            values.append(value)
        return encode([values, failures])


class FakeServer(Actor):
    """The well-known actor of a server."""

    fail_stop = True

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.name = self.address.node

    def open_session(self, message: OpenSession, sender: NodeAddress) -> None:
        """Open a session, or find it again by its nonce."""
        cluster = self.cluster
        cluster.received.append(message)
        if self.name in cluster.silent:
            return
        if not cluster.leader:
            self.send(sender, refused(0, Request.OPEN_SESSION, 0, Refusal.NO_LEADER, NO_LEADER))
            return
        number = cluster.nonces.get(message.nonce)
        if number is None:
            cluster.index += 1
            number = cluster.nonces[message.nonce] = cluster.index
            timeout_ms = cluster.session_timeout_ms or message.timeout_ms
            cluster.sessions[number] = FakeSession(number, timeout_ms)
        session = cluster.sessions.get(number)
        if session is None:
            return
        connection = self._connect(session, sender)
        connection.say(
            OpenSessionReply(message.nonce, number, session.timeout_ms, cluster.endpoints)
        )
        connection.tell_leader()

    def attach_session(self, message: AttachSession, sender: NodeAddress) -> None:
        """Go on with a session."""
        cluster = self.cluster
        cluster.received.append(message)
        if self.name in cluster.silent:
            return
        session = cluster.sessions.get(message.session)
        if session is None:
            self.send(sender, SessionEnded(message.session, "there is none"))
            return
        connection = self._connect(session, sender)
        connection.say(AttachSessionReply(message.session, cluster.endpoints))
        connection.tell_leader()
        connection.say_events_after(message.event_sequence)

    def _connect(self, session: FakeSession, client: NodeAddress) -> "FakeConnection":
        self.cluster.detached.pop(session.number, None)
        self.spawn(FakeConnection, self.cluster, session, client)
        connection = self.cluster.connections[-1]
        session.connection = connection
        return connection


class FakeConnection(Actor):
    """What a server keeps for a client."""

    fail_stop = True

    def __init__(self, cluster: FakeCluster, session: FakeSession, client: NodeAddress) -> None:
        self.cluster = cluster
        self.session = session
        self.client = client
        self.name = self.address.node
        cluster.connections.append(self)

    def say(self, message: Any) -> None:
        """Send something to the client."""
        if self.name not in self.cluster.silent and not self.cluster.nodes[self.name].stopped:
            self.send(self.client, message)

    def tell_leader(self) -> None:
        """Say who leads."""
        leader = self.cluster.leader
        endpoint = self.cluster.endpoint_of(leader) if leader else ""
        self.say(LeaderChanged(endpoint, self.cluster.term))

    def say_events_after(self, event_sequence: int) -> None:
        """Send again what the client misses."""
        for events in self.session.events:
            if events.last_sequence > event_sequence:
                self.say(events)

    def _takes(self, session: int, request: Request, number: int) -> bool:
        cluster = self.cluster
        if self.name in cluster.silent or cluster.swallows:
            return False
        refusal = cluster.refusal
        if request == Request.QUERIES and not cluster.refuses_queries:
            refusal = None
        if session not in cluster.sessions:
            refusal = (Refusal.UNKNOWN_SESSION, "this session has ended")
        elif self.session.number in cluster.detached:
            refusal = (Refusal.NOT_ATTACHED, "the session is not attached to this connection")
        elif not cluster.leader or (self.name != cluster.leader and not cluster.forwards):
            refusal = (Refusal.NO_LEADER, NO_LEADER)
        if refusal is not None:
            self.say(refused(session, request, number, *refusal))
        return refusal is None

    def submit_commands(self, message: SubmitCommands, sender: NodeAddress) -> None:
        """Apply what is next, keep what is early, answer what was applied before."""
        cluster, session = self.cluster, self.session
        cluster.received.append(message)
        if not self._takes(message.session, Request.COMMANDS, message.first_sequence):
            return
        seen = session.seen.setdefault(message.first_sequence, message)
        assert seen == message, "a batch is resent exactly as it was"
        session.early[message.first_sequence] = (message, self)
        for first in sorted(session.early):
            batch, connection = session.early[first]
            if first == session.sequence + 1:
                cluster.index += batch.count
                base = cluster.index - batch.count + 1
                count = round(min(batch.count, cluster.carries_out))
                results = cluster.execute(session, decode(batch.operations)[:count])
                session.sequence += count
                session.answers[first] = CommandsReply(session.number, first, base, results)
            if first in session.answers:
                del session.early[first]
                if not cluster.mute:
                    connection.say(session.answers[first])
        waiting, session.waiting = session.waiting, []
        for query, connection in waiting:
            connection.submit_queries(query, sender)

    def submit_queries(self, message: SubmitQueries, sender: NodeAddress) -> None:
        """Answer when the commands before are applied."""
        cluster, session = self.cluster, self.session
        cluster.received.append(message)
        if not self._takes(message.session, Request.QUERIES, message.read):
            return
        if session.sequence < message.sequence:
            session.waiting.append((message, self))
            return
        assert cluster.index >= message.index, "a client has not seen the future"
        results = cluster.execute(session, decode(message.operations))
        self.say(QueriesReply(session.number, message.read, cluster.index, results))

    def open_resource(self, message: OpenResource, sender: NodeAddress) -> None:
        """Open a list."""
        cluster = self.cluster
        cluster.received.append(message)
        if not self._takes(message.session, Request.OPEN_RESOURCE, message.request):
            return
        if message.name not in cluster.resources:
            cluster.index += 1
            cluster.resources[message.name] = (cluster.index, message.type)
        number, kind = cluster.resources[message.name]
        if kind != message.type:
            reason, text = Refusal.WRONG_TYPE, f"{message.name!r} is a {kind}"
            request = Request.OPEN_RESOURCE
            self.say(refused(message.session, request, message.request, reason, text))
            return
        self.say(OpenResourceReply(message.session, message.request, number))

    def keep_alive(self, message: KeepAlive, sender: NodeAddress) -> None:
        """Note a sign of life, and say which events were sent."""
        self.cluster.received.append(message)
        if self._takes(message.session, Request.KEEP_ALIVE, 0):
            number, event_sequence = message.number, self.session.event_sequence
            self.say(KeepAliveReply(message.session, number, event_sequence))

    def close_session(self, message: CloseSession, sender: NodeAddress) -> None:
        """End the session."""
        self.cluster.received.append(message)
        if self._takes(message.session, Request.CLOSE_SESSION, 0):
            self.cluster.sessions.pop(message.session, None)
            self.say(SessionEnded(message.session, "it was closed"))

    def reset_events(self, message: ResetEvents, sender: NodeAddress) -> None:
        """Send again what the client misses."""
        self.cluster.received.append(message)
        if not self.cluster.ignores_resets:
            self.say(ResetEventsReply(message.session, message.number))
            self.say_events_after(message.event_sequence)

    def detach_session(self, message: DetachSession, sender: NodeAddress) -> None:
        """The client has gone elsewhere."""
        self.cluster.received.append(message)


class AsyncBag:
    """A handle of the least kind, of one of the cluster's lists."""

    resource_type: ClassVar[str] = "bag"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: AsyncClient, resource_id: int, name: str) -> None:
        self.client = client
        self.id = resource_id

    async def add(self, value: Any, *, timeout_s: float | None = None) -> int:
        count: int = await self.client.submit_command(self.id, "append", value, timeout_s=timeout_s)
        return count


class AsyncSack(AsyncBag):
    """Another type of the same."""

    resource_type = "sack"


def client_of(cluster: FakeCluster, **options: Any) -> AsyncClient:
    return AsyncClient(*cluster.endpoints, **options)


def session_of(cluster: FakeCluster, client: AsyncClient) -> FakeSession:
    return cluster.sessions[client.session_id]


def batches(cluster: FakeCluster) -> list[SubmitCommands]:
    return [message for message in cluster.received if type(message) is SubmitCommands]
