"""What a session promises holds under every fault of the simulated network."""

import asyncio
import random
from dataclasses import replace
from math import inf
from typing import Any

from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from copycat.errors import (
    NotApplied,
    OutcomeUnknown,
)
from fake_cluster import FakeCluster, client_of


def test_hostile_network(seed: int) -> None:
    """Under loss, reordering, duplication and resets every command is applied once, in order."""
    with Simulation(seed) as simulation:
        cluster = FakeCluster(simulation)
        chance = random.Random(seed)

        async def run() -> None:
            async with client_of(cluster, timeout_s=inf, session_timeout_s=600.0) as client:
                told: list[int] = []
                client.listen(1, lambda event, values, index: told.append(values[0]))
                simulation.faults = replace(NetworkFaults.random(chance), silent_crash=0.0)
                calls = []
                for number in range(120):
                    calls.append(client.submit_command(1, "append", number))
                    calls.append(client.submit_command(1, "publish", number))
                    calls.append(client.submit_query(1, "items"))
                    await asyncio.sleep(chance.random() * 0.2)
                    if chance.random() < 0.1:
                        cluster.elect(chance.choice([*cluster.names, ""]))
                cluster.elect("n1")
                results = await asyncio.gather(*calls)
                simulation.faults = NetworkFaults.none()
                assert results[::3] == list(range(1, 121))
                for number, items in enumerate(results[2::3], 1):
                    assert items[:number] == list(range(number))
                await client.submit_command(2, "append", 0)
                await asyncio.sleep(300.0)  # a keep-alive asks for events whose loss nothing shows
                assert told == list(range(120))

        simulation.run(run(), timeout_s=3600.0)
        assert cluster.lists[1] == list(range(120))


def test_errors_tell_the_truth(seed: int) -> None:
    """Whatever fails, NotApplied never happened and a result always did, exactly once.

    Links do not double messages here: no transport does, and a doubled batch would be a copy
    that nobody has counted.
    """
    with Simulation(seed) as simulation:
        cluster = FakeCluster(simulation)
        chance = random.Random(seed)

        async def run() -> Any:
            client = await client_of(cluster, session_timeout_s=600.0).connect()
            faults = NetworkFaults.random(chance)
            simulation.faults = replace(faults, duplicate=0.0, silent_crash=0.0)
            calls = []
            for number in range(150):
                calls.append(
                    client.submit_command(1, "append", number, timeout_s=chance.random() * 3)
                )
                await asyncio.sleep(chance.random() * 0.3)
                if chance.random() < 0.15:
                    cluster.elect(chance.choice([*cluster.names, "", ""]))
                if chance.random() < 0.02:
                    cluster.expire()
            simulation.faults = NetworkFaults.none()
            cluster.elect("n1")
            results = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(60.0)
            await client.close()
            return results

        results = simulation.run(run(), timeout_s=3600.0)
        applied = cluster.lists[1]
        assert len(set(applied)) == len(applied)
        assert applied == sorted(applied)
        for number, result in enumerate(results):
            if isinstance(result, int):
                assert number in applied
            elif isinstance(result, NotApplied):
                assert number not in applied
            else:
                assert isinstance(result, OutcomeUnknown)


def test_a_seed_repeats_its_run() -> None:
    """Nothing in the client depends on anything but the seed."""

    def trace() -> int:
        with Simulation(3) as simulation:
            cluster = FakeCluster(simulation)
            simulation.faults = replace(NetworkFaults.none(), loss=0.05, reorder=0.1)

            async def run() -> None:
                async with client_of(cluster, timeout_s=60.0) as client:
                    for number in range(50):
                        await client.submit_command(1, "append", number)

            simulation.run(run())
            return simulation.trace_hash

    assert trace() == trace()
