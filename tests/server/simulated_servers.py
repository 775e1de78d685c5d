"""Three servers in the simulated world, with machines of the tests' own."""

from typing import Any, ClassVar

from copycat.actors import Identity
from copycat.actors.simulation import Simulation
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.server.options import ServerOptions
from copycat.server.server import Server

PEERS = {f"n{place}": f"n{place}:740{place}" for place in (1, 2, 3)}
ENDPOINTS = tuple(PEERS.values())


class Tally(StateMachine):
    """Counts; can also misbehave."""

    def __init__(self) -> None:
        self.total = 0
        self.fired: list[float] = []

    @command
    def add(self, commit: Commit, amount: int = 1) -> int:
        """Add and answer the total."""
        self.total += amount
        return self.total

    @command
    def fail_after_publishing(self, commit: Commit) -> None:
        """Publish and schedule, then raise: both must be dropped."""
        commit.publish(commit.session, "ghost")
        commit.schedule(0.0, self.fire)
        raise ValueError("as planned")

    @command
    def answer_with_a_set(self, commit: Commit) -> Any:
        """Answer with something that cannot travel."""
        return {1, 2}

    @command
    def later(self, commit: Commit, delay_s: float) -> None:
        """Fire after a while of log time, and tell the session."""
        commit.schedule(delay_s, self.fire)

    def fire(self, commit: Commit) -> None:
        """A timer has come due."""
        self.fired.append(commit.log_time_s)
        commit.publish(commit.session, "fired", commit.log_time_s)

    @query
    def value(self) -> int:
        """The total."""
        return self.total


class Note(StateMachine):
    """A second type, with large answers."""

    def __init__(self) -> None:
        self.text = b""
        self.writes = 0

    @command
    def write(self, commit: Commit, size_bytes: int) -> bytes:
        """Write and answer that many bytes."""
        self.writes += 1
        self.text = bytes(size_bytes)
        return self.text

    @query
    def read(self) -> bytes:
        """All that was written last."""
        return self.text

    @query
    def count(self) -> int:
        """How often something was written."""
        return self.writes


class Unborn(StateMachine):
    """A type that cannot be made."""

    def __init__(self) -> None:
        raise ValueError("as planned")


CATALOG = Catalog({"tally": Tally, "note": Note, "unborn": Unborn})


class TallyHandle:
    """The least a handle can be."""

    resource_type: ClassVar[str] = "tally"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: Any, resource_id: int, name: str) -> None:
        self.client = client
        self.resource_id = resource_id
        self.name = name

    def command(self, method: str, *arguments: Any) -> Any:
        """Submit a command of any name."""
        return self.client.submit_command(self.resource_id, method, *arguments)

    def query(self, method: str, *arguments: Any) -> Any:
        """Submit a query of any name."""
        return self.client.submit_query(self.resource_id, method, *arguments)


def start_servers(simulation: Simulation, catalog: Catalog = CATALOG) -> dict[str, Server]:
    """Start all servers; returns their actors."""
    servers = {}
    for name, endpoint in PEERS.items():
        node = simulation.node(Identity(name), endpoint=endpoint, disk=simulation.disk(name))
        options = ServerOptions(name=name, peers=PEERS, catalog=catalog, segment_bytes=1 << 16)
        node.spawn(Server, options, serial=1)
        servers[name] = node.actor_at(1)
    return servers
