"""Calm: what must come soon is only demanded of servers and links that are well.

A *core* is a majority of the servers that are well, and linked with each other and with all
clients. What the others are does not matter: they are stopped, or deaf, or slow, or cut from some.
But it must not change meanwhile, since every change has its aftermath.
"""

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copycat.testing.cluster import SimulatedCluster


class Calm:
    """The calm of one world.

    Attributes:
        since_s: since when there is calm; None: there is none.
        core: the names of the servers that make it, while there is calm.
        bears_clogs: whether links that carry little are no fault.
    """

    def __init__(self, cluster: "SimulatedCluster") -> None:
        self.since_s: float | None = None
        self.core: tuple[str, ...] = ()
        self.bears_clogs = False
        self._cluster = cluster
        self._circumstances: Hashable = None

    def look(self, now_s: float) -> None:
        """See whether there is calm, and whether it is still the same."""
        network = self._cluster.simulation.network
        cuts = network.cuts
        conditions = {
            name: self._condition(name) for name in self._cluster.names if self._runs(name)
        }
        circumstances = (tuple(conditions.items()), cuts)
        if circumstances != self._circumstances:
            self._circumstances = circumstances
            self.since_s = None
        well = [
            name
            for name, condition in conditions.items()
            if condition[1:] == _WELL and name not in self._cluster.lost
        ]
        self.core = self._core(well, cuts)
        if len(self.core) < self._cluster.majority or not network.is_well(
            with_clogs=self.bears_clogs
        ):
            self.since_s = None
        elif self.since_s is None:
            self.since_s = now_s

    @property
    def lives(self) -> dict[str, int]:
        """The lives of the servers of the core, by name."""
        return {name: self._cluster.node(name).incarnation for name in self.core}

    def _runs(self, name: str) -> bool:
        return self._cluster.is_running(name)

    def _condition(self, name: str) -> tuple[int, bool, float, bool]:
        node = self._cluster.node(name)
        return node.incarnation, node.paused, node.clock.rate, node.disk.is_well

    def _core(self, well: list[str], cuts: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
        """Those of these servers that are cut from no client and from none of each other; who is
        cut from fewest comes first."""
        if not cuts:
            return tuple(well)
        nodes = self._cluster.simulation.nodes
        clients = {
            name
            for name, node in nodes.items()
            if name not in self._cluster.peers and not node.stopped
        }
        apart = {name: _cut_from(name, cuts) for name in well}
        core: list[str] = []
        for name in sorted(well, key=lambda name: len(apart[name].intersection(well))):
            if not apart[name].intersection((*core, *clients)):
                core.append(name)
        return tuple(sorted(core))


_WELL = (False, 1.0, True)


def _cut_from(name: str, cuts: tuple[tuple[str, str], ...]) -> set[str]:
    """The nodes between which and this one something is stopped, whichever way."""
    return {node for pair in cuts if name in pair for node in pair if node != name}
