"""Commands are applied once and in order, and every failed one says whether it happened."""

import asyncio
from math import inf
from typing import Any

import pytest

from copycat.actors.codec import encode
from copycat.actors.simulation import Simulation
from copycat.errors import (
    InvalidType,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    Rejected,
    TooLarge,
)
from copycat.protocol.client import (
    Refusal,
)
from copycat.types import OPERATION_BYTES_MAX, OPERATION_VALUES_MAX
from fake_cluster import FakeCluster, batches, client_of


def test_commands_of_one_turn_are_one_batch(simulation: Simulation, cluster: FakeCluster) -> None:
    """What is submitted without awaiting travels together, and is answered in order."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            return await asyncio.gather(
                *[client.submit_command(1, "append", value) for value in range(100)]
            )

    assert simulation.run(run()) == list(range(1, 101))
    assert [batch.count for batch in batches(cluster)] == [100]
    assert not cluster.sessions  # closed


def test_arguments_may_change_when_the_turn_is_over(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Operations are encoded in their own turn, even when they cannot be sent yet."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.leader = ""
            await_refusal = client.submit_command(1, "append", 0)
            await asyncio.sleep(0.01)
            value = [1]
            later = client.submit_command(1, "append", value)
            await asyncio.sleep(0)
            value.append(2)
            cluster.elect("n2")
            await asyncio.gather(await_refusal, later)

    simulation.run(run())
    assert cluster.lists[1] == [0, [1]]


def test_everything_unanswered_is_sent_again_after_a_disconnection(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Another server gets the same batches in the same order; nothing is applied twice."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.mute = True
            first = client.submit_command(1, "append", "a")
            await asyncio.sleep(0.01)
            second = client.submit_command(1, "append", "b")
            await asyncio.sleep(0.01)
            cluster.mute = False
            simulation.crash("n1", silent=False)
            begin_s = simulation.now_s
            results = await asyncio.gather(first, second)
            assert simulation.now_s - begin_s < 0.1  # at once, not when patience ends
            return results

    assert simulation.run(run()) == [1, 2]
    assert cluster.lists[1] == ["a", "b"]
    assert [batch.first_sequence for batch in batches(cluster)] == [1, 2, 1, 2]


def test_refused_until_the_deadline_is_no_leader(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A command that every server has refused is withdrawn for good, and the error says why."""

    async def run() -> NoLeader:
        async with client_of(cluster) as client:
            cluster.leader = ""
            with pytest.raises(NoLeader) as caught:
                await client.submit_command(1, "append", "never", timeout_s=1.0)
            cluster.elect("n1")
            await client.submit_command(1, "append", "later")
            return caught.value

    error = simulation.run(run())
    assert cluster.lists[1] == ["later"]
    assert batches(cluster)[-1].first_sequence == 1  # the sequence was given anew
    assert isinstance(error, NotApplied)
    assert dict(error.causes)["n1:7400"] == "no leader known"


def test_a_withdrawn_command_leaves_its_neighbours_alone(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Only the calls whose deadline has passed fail; the others of their batch still happen."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.leader = ""
            calls = [
                client.submit_command(1, "append", place, timeout_s=0.5 if place % 2 else 5.0)
                for place in range(6)
            ]
            query = client.submit_query(1, "items")
            await asyncio.sleep(1.0)
            cluster.elect("n2")
            return await asyncio.gather(*calls, query, return_exceptions=True)

    *results, items = simulation.run(run())
    assert [type(result) for result in results] == [int, NoLeader] * 3
    assert items == cluster.lists[1] == [0, 2, 4]


def test_silence_until_the_deadline_is_outcome_unknown(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A command that may be on its way keeps its sequence, and is applied once at most."""

    async def run() -> None:
        async with client_of(cluster, session_timeout_s=60.0) as client:
            cluster.silent.update(cluster.names)
            with pytest.raises(OutcomeUnknown):
                await client.submit_command(1, "append", "perhaps", timeout_s=0.5)
            later = client.submit_command(1, "append", "later", timeout_s=30.0)
            await asyncio.sleep(5.0)
            cluster.silent.clear()
            assert await later == 2

    simulation.run(run())
    assert cluster.lists[1] == ["perhaps", "later"]


def test_a_refused_command_before_one_on_its_way_is_outcome_unknown(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A hole in the sequences would stop the session, so what precedes a sent batch stays."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "too much")
            first = client.submit_command(1, "append", "first", timeout_s=1.0)
            await asyncio.sleep(0)  # another turn, another batch
            second = client.submit_command(1, "append", "second", timeout_s=1.0)
            await asyncio.sleep(0.002)
            cluster.refusal = None
            for name in cluster.names:
                simulation.network.cut_one_way(name, client._household.node.name)  # type: ignore[union-attr]
            assert await asyncio.gather(first, second, return_exceptions=True) is not None
            assert isinstance(first.exception(), OutcomeUnknown)
            simulation.network.heal()
            assert await client.submit_command(1, "append", "third") == 3

    simulation.run(run())
    assert cluster.lists[1] == ["first", "second", "third"]


def test_a_refused_copy_is_sent_again_soon_when_another_was_lost(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A copy that is never answered does not make the next one, which is refused, wait for seconds."""

    async def run() -> float:
        async with client_of(cluster, session_timeout_s=60.0) as client:
            cluster.swallows = True
            call = client.submit_command(1, "append", 1, timeout_s=30.0)
            await asyncio.sleep(0.1)
            cluster.swallows = False
            cluster.refusal = (Refusal.OVERLOADED, "no room")
            while len(batches(cluster)) < 2:
                await asyncio.sleep(0.001)
            cluster.refusal = None
            begin_s = simulation.now_s
            assert await call == 1
            return simulation.now_s - begin_s

    assert simulation.run(run()) < 0.1


def test_overload_is_told_apart(simulation: Simulation, cluster: FakeCluster) -> None:
    """The last reason for the refusals is the reason of the error."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.refusal = (Refusal.OVERLOADED, "too many proposals")
            with pytest.raises(Overloaded, match="too many proposals"):
                await client.submit_command(1, "append", 1, timeout_s=0.5)
            with pytest.raises(Overloaded):
                await client.submit_query(1, "items", timeout_s=0.5)

    simulation.run(run())


def test_refusals_are_answered_with_patience(simulation: Simulation, cluster: FakeCluster) -> None:
    """While there is no leader a client asks a few times a second, and at once when there is one."""

    async def run() -> float:
        async with client_of(cluster) as client:
            cluster.leader = ""
            call = client.submit_command(1, "append", 1, timeout_s=30.0)
            await asyncio.sleep(3.0)
            begin_s = simulation.now_s
            cluster.elect("n3")
            await call
            return simulation.now_s - begin_s

    assert simulation.run(run()) < 0.025
    assert 10 < len(batches(cluster)) < 60


def test_what_cannot_be_sent_fails_alone(simulation: Simulation, cluster: FakeCluster) -> None:
    """An argument of a wrong type or size fails its own call; what is large goes in parts."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            calls = [
                client.submit_command(1, "append", argument)
                for argument in (1, object(), bytes(2_000_000), [0] * 300_000, bytes(1_000_000), 5)
            ]
            calls += [client.submit_command(1, "append", bytes(1000)) for _ in range(700)]
            calls += [client.submit_command(1, "explode")]
            return await asyncio.gather(*calls, return_exceptions=True)

    results = simulation.run(run())
    assert [type(result) for result in results[:6]] == [
        int, InvalidType, TooLarge, TooLarge, int, int,
    ]  # fmt: skip
    assert isinstance(results[-1], Rejected)
    assert results[4:-1] == list(range(2, 704))
    sizes = [len(batch.operations) for batch in batches(cluster)]
    assert sum(size > 256 * 1024 for size in sizes) == 1
    assert len(sizes) < 10


def test_the_largest_operation_is_what_a_server_takes(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """One byte or one value more fails at the client, and not for ever at the servers."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            around_bytes = len(encode([[1, "append", bytes(1_000_000)]])) - 1_000_000
            around_values = 6  # batch, operation, resource, method, argument, and its one text
            return await asyncio.gather(
                *[
                    client.submit_command(1, "append", argument)
                    for more in (0, 1)
                    for argument in (
                        bytes(OPERATION_BYTES_MAX - around_bytes + more),
                        ["x" * 300_000, *[0] * (OPERATION_VALUES_MAX - around_values + more)],
                    )
                ],
                return_exceptions=True,
            )

    results = simulation.run(run())
    assert [type(result) for result in results] == [int, int, TooLarge, TooLarge]
    assert len(batches(cluster)[0].operations) == OPERATION_BYTES_MAX


def test_deadlines_need_no_tasks(simulation: Simulation, cluster: FakeCluster) -> None:
    """A thousand calls that wait are a thousand futures and one timer."""

    async def run() -> None:
        async with client_of(cluster) as client:
            cluster.leader = ""
            calls = [client.submit_command(1, "append", 1, timeout_s=1.0) for _ in range(1000)]
            await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) == 1
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {NoLeader}
            assert 0.9 < simulation.now_s < 1.3

    simulation.run(run())


def test_a_cancelled_call_may_still_happen(simulation: Simulation, cluster: FakeCluster) -> None:
    """Cancelling stops the waiting and nothing else."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            client.submit_command(1, "append", 1).cancel()
            return await client.submit_command(1, "append", 2)

    assert simulation.run(run()) == 2


def test_calls_wait_for_ever_only_when_told_to(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """``math.inf`` has no deadline."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.leader = ""
            call = client.submit_command(1, "append", 1, timeout_s=inf)
            await asyncio.sleep(1000.0)
            cluster.elect("n1")
            return await call

    assert simulation.run(run()) == 1


def test_the_window_gathers_what_has_to_wait(simulation: Simulation, cluster: FakeCluster) -> None:
    """Beyond the batches in flight small ones are joined, and all keep their order."""

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.mute = True
            calls = []
            for number in range(200):
                calls.append(client.submit_command(1, "append", number))
                calls.append(client.submit_query(1, "items"))
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            cluster.mute = False
            return (await asyncio.gather(*calls))[::2]

    assert simulation.run(run()) == list(range(1, 201))
    assert cluster.lists[1] == list(range(200))
    assert len({batch.first_sequence for batch in batches(cluster)}) < 40
