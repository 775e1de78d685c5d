"""Two simulated nodes that write down all that reaches them."""

from typing import Any

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import (
    Identity,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
)
from copycat.actors.message import Plain, message
from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulated_node import SimulatedNode
from copycat.actors.simulation import Simulation

ENDPOINT = "n2:7401"
WITNESS = 1  # the well-known serial of the witness of each node


@message(61001)
class Note:
    number: int
    content: Plain


class Witness(Actor):
    """Writes down everything that reaches it, and when."""

    fail_stop = True

    def __init__(self, seen: list[tuple[float, Any]], node: SimulatedNode) -> None:
        self.seen = seen
        self.node = node
        self.environment.links.watch(self.address)

    def note(
        self,
        message: Note | NodeConnected | NodeDisconnected | NodeUnreachable,
        sender: NodeAddress,
    ) -> None:
        self.seen.append((self.node.loop.time(), message))

    def unrecognized(self, message: Any, sender: NodeAddress) -> None:
        self.seen.append((self.node.loop.time(), message))


class Pair:
    """Nodes n1 and n2 of one world; n1 dials n2."""

    def __init__(self, seed: int = 1, faults: NetworkFaults | None = None) -> None:
        self.simulation = Simulation(seed, faults=faults)
        self.network = self.simulation.network
        self.seen: dict[str, list[tuple[float, Any]]] = {"n1": [], "n2": []}
        self.start("n2")
        self.start("n1")
        self.nodes["n1"].links.dial(ENDPOINT)

    @property
    def nodes(self) -> dict[str, SimulatedNode]:
        return self.simulation.nodes

    def start(self, name: str, **identity: Any) -> SimulatedNode:
        endpoint = ENDPOINT if name == "n2" else None
        node = self.simulation.node(Identity(name, **identity), endpoint=endpoint)
        node.spawn(Witness, self.seen[name], node, serial=WITNESS)
        return node

    def send(self, source: str, *numbers: int) -> None:
        target = NodeAddress.well_known("n2" if source == "n1" else "n1", WITNESS)
        for number in numbers:
            self.nodes[source].tell(target, Note(number, None))

    def numbers(self, name: str) -> list[int]:
        return [one.number for _, one in self.seen[name] if type(one) is Note]

    def news(self, name: str) -> list[Any]:
        return [one for _, one in self.seen[name] if type(one) is not Note]

    def forget(self) -> None:
        for seen in self.seen.values():
            seen.clear()

    def wait(self, duration_s: float = 1.0) -> None:
        self.simulation.run_for(duration_s)


def kinds(news: list[Any]) -> list[str]:
    return [type(one).__name__ for one in news]
