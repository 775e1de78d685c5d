"""The table of costs names functions that are there, and what it counts of them can be counted.

It stands among the tests of servers because it is their functions that are renamed.
"""

import inspect
import random
from typing import Any
from unittest.mock import patch

import pytest

from copycat.actors import actor
from copycat.actors.simulated_processor import Processor
from copycat.actors.simulation import Simulation
from copycat.resources.counter import AsyncDistributedCounter
from copycat.testing import costs
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.costs import COSTS, SCALE_MAX, SCALE_MIN, charging
from copycat.testing.seeds import run_seed


@pytest.mark.parametrize("name", COSTS)
def test_each_cost_has_its_function(name: str) -> None:
    """A function that was renamed would cost nothing, and nobody would notice."""
    cost = COSTS[name]
    assert callable(getattr(cost.owner, cost.attribute))
    assert cost.each_us > 0


def test_nothing_is_wrapped_outside_of_worlds() -> None:
    """What runs for real pays nothing, and after a world all is as it was."""
    functions = {
        name: inspect.getattr_static(cost.owner, cost.attribute) for name, cost in COSTS.items()
    }
    with charging():
        assert all(
            inspect.getattr_static(COSTS[name].owner, COSTS[name].attribute) is not function
            for name, function in functions.items()
        )
    for name, function in functions.items():
        cost = COSTS[name]
        assert inspect.getattr_static(cost.owner, cost.attribute) is function, name
    assert not costs._written


def busy_s(scale: float) -> dict[str, float]:
    """How long each server works for the same hundred commands."""
    names = ("n1", "n2", "n3")
    worked = dict.fromkeys(names, 0.0)
    processor_charge = Processor.charge
    with charging(), Simulation(1, processors=dict.fromkeys(names, scale)) as simulation:
        cluster = SimulatedCluster(simulation)

        def charge(processor: Processor, cost_s: float, *, of_users: bool = False) -> None:
            for name in cluster.running:
                if cluster.node(name).processor is processor:
                    worked[name] += cost_s * processor.scale
            processor_charge(processor, cost_s, of_users=of_users)

        with pytest.MonkeyPatch.context() as patching:
            patching.setattr(Processor, "charge", charge)
            cluster.start()

            async def count() -> None:
                async with cluster.client() as client:
                    hits = await client.open(AsyncDistributedCounter, "hits")
                    for _ in range(100):
                        await hits.increment()

            cluster.run(count(), timeout_s=60)
    return worked


def test_work_costs_more_on_slower_nodes() -> None:
    """About as much more as the scale says; nodes without a processor work for nothing."""
    fast, slow = busy_s(1.0), busy_s(5.0)
    assert all(0.002 < took_s < 1.0 for took_s in fast.values())
    assert sum(slow.values()) > 3 * sum(fast.values())
    assert set(busy_s(0.0).values()) == {0.0}


def test_nodes_are_drawn_alike_and_within_bounds() -> None:
    """Every scale is between the two ends, which are nearly reached, and the same seed draws the
    same."""
    drawn = [costs.draw_processors(random.Random(seed), ("a", "b", "c")) for seed in range(200)]
    scales = [scale for one in drawn for scale in one.values()]
    assert SCALE_MIN <= min(scales) < 0.5
    assert 20 < max(scales) <= SCALE_MAX
    again = [costs.draw_processors(random.Random(seed), ("a", "b", "c")) for seed in range(200)]
    assert drawn == again


def test_a_world_leaves_nothing_to_the_next() -> None:
    """The tables of handlers, which are made in the first world that needs them, hold no wrapper
    after it, neither of costs nor of the branches that are counted in the same functions."""
    with patch.dict(actor._tables, clear=True):
        first = run_seed(6, harm_s=1.0)
        wrapped = [
            handler
            for table in actor._tables.values()
            for handler in table.values()
            if inspect.unwrap(handler) in {inspect.unwrap(f) for f in charged_functions()}
        ]
        assert wrapped
        assert all(inspect.unwrap(handler) is handler for handler in wrapped)
        assert run_seed(6, harm_s=1.0).trace_hash == first.trace_hash


def charged_functions() -> list[Any]:
    """Every function of the table."""
    return [getattr(cost.owner, cost.attribute) for cost in COSTS.values()]
