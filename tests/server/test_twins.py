"""Two processes with the past of one server, in every order in which they can reach the others: the
first stays, and is fed; the copy stops."""

import random
from functools import partial

import pytest

from copycat.actors import Identity
from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from copycat.errors import IdentityRefused
from copycat.protocol.client import SERVER
from copycat.server.server import Server
from copycat.testing.cluster import SimulatedCluster

SLOW = NetworkFaults(delay_s=0.002, jitter_s=0.06)


class Twins:
    """A cluster of which one follower was started again, to have a twin.

    Attributes:
        ended: why the first or the twin has stopped.
    """

    def __init__(
        self, simulation: Simulation, chance: random.Random, *, is_hidden: bool = False
    ) -> None:
        self.simulation = simulation
        self.cluster = SimulatedCluster(simulation, monitored=False)
        self.cluster.start()
        leader = self.cluster.wait_for_leader()
        self.victim = chance.choice([name for name in self.cluster.names if name != leader])
        self.others = [name for name in self.cluster.names if name != self.victim]
        self.cluster.crash(self.victim, lose_unsynced=False, silent=False)
        simulation.run_for(chance.uniform(0.1, 1.5))
        self.cluster.start(self.victim)
        if is_hidden:
            first = self.cluster.node(self.victim)
            assert first.endpoint is not None
            del simulation.network._listeners[first.endpoint]
            first.endpoint = None
        self.cluster.run_until(self.is_followed)
        self.ended: dict[str, BaseException] = {}

    def is_followed(self) -> bool:
        """Whether all others are connected with the victim."""
        return all(
            peer.connected
            for name in self.others
            for peer in self.cluster.server(name).peers.values()
            if peer.name == self.victim
        )

    def start(self) -> None:
        """Start the twin, with a copy of all that the first has on its disk."""
        first, disk = self.cluster.node(self.victim), self.simulation.disk("twin")
        disk.restore(self.cluster.disks[self.victim].image())
        twin = self.simulation.node(Identity(self.victim), endpoint="twin:7401", disk=disk)
        self.simulation.nodes[self.victim] = first
        for name, node in (("first", first), ("twin", twin)):
            node.on_failure = partial(self.ended.__setitem__, name)
        twin.spawn(Server, self.cluster.options(self.victim), serial=SERVER)

    def check(self) -> None:
        """The twin stops, and the first stays and is connected."""
        self.simulation.run_for(5)
        assert list(self.ended) == ["twin"]
        assert type(self.ended["twin"]) is IdentityRefused
        assert self.is_followed()


@pytest.mark.parametrize("world", range(8))
def test_a_copy_that_comes_before_the_first_was_dialled_is_refused(world: int) -> None:
    """A peer has only the link that the first has dialled, as it does for half a second after that
    has started. The copy's link took its place, and so the copy was met: the first, which does not
    know the copy's life, stopped when it came back, and the copy at the other peer."""
    chance = random.Random(world)
    with Simulation(world) as simulation:
        twins = Twins(simulation, chance)
        twins.start()
        twins.check()


@pytest.mark.parametrize("world", range(8))
def test_a_copy_is_refused_where_the_first_cannot_be_dialled(world: int) -> None:
    """The peers have only the links that the first has dialled, for good. They are not taken from it
    by the copy, so that the first can be asked."""
    chance = random.Random(world)
    with Simulation(world) as simulation:
        twins = Twins(simulation, chance, is_hidden=True)
        simulation.run_for(chance.uniform(0, 2))
        twins.start()
        twins.check()


@pytest.mark.parametrize("world", range(8))
def test_a_copy_that_comes_with_a_peers_restart_is_refused(world: int) -> None:
    """The peer has no link at all yet when the copy reaches it: it was met then, before the peer's
    own dial had found the first."""
    chance = random.Random(world)
    with Simulation(world) as simulation:
        twins = Twins(simulation, chance)
        simulation.run_for(1.5)
        peer = chance.choice(twins.others)
        twins.cluster.crash(peer, lose_unsynced=False, silent=False)
        simulation.run_for(1)
        simulation.faults = SLOW
        simulation.loop.call_later(chance.uniform(0, 0.02), twins.cluster.start, peer)
        simulation.run_for(chance.uniform(0, 0.02))
        twins.start()
        twins.check()
