"""What most tests of the session stand on: a simulated world with a cluster in it."""

from collections.abc import Iterator

import pytest

from copycat.actors.simulation import Simulation
from fake_cluster import FakeCluster


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """The world."""
    with Simulation(8) as simulation:
        yield simulation


@pytest.fixture
def cluster(simulation: Simulation) -> FakeCluster:
    """Three servers in it, of which n1 leads."""
    return FakeCluster(simulation)
