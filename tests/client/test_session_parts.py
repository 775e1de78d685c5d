"""Of a batch that is answered in part, the rest goes on under its sequences, and before all else."""

import asyncio
from math import inf
from typing import Any

from copycat import AsyncClient
from copycat.actors.simulation import Simulation
from copycat.client import commands
from copycat.errors import NotApplied, OutcomeUnknown, SessionExpired
from fake_cluster import FakeCluster, batches, client_of, session_of


def append(client: AsyncClient, values: range, **options: Any) -> list[asyncio.Future[Any]]:
    return [client.submit_command(1, "append", value, **options) for value in values]


def sent(cluster: FakeCluster) -> list[tuple[int, int, int]]:
    return [
        (batch.first_sequence, batch.count, batch.response_sequence) for batch in batches(cluster)
    ]


def test_the_rest_of_a_batch_is_sent_again(simulation: Simulation, cluster: FakeCluster) -> None:
    """With the same sequences, at once, until all of it is answered; it acknowledges what was."""
    cluster.carries_out = 3

    async def run() -> Any:
        async with client_of(cluster) as client:
            begin_s = simulation.now_s
            answers = await asyncio.gather(*append(client, range(10)))
            assert simulation.now_s - begin_s < 0.1
            return answers

    assert simulation.run(run()) == list(range(1, 11))
    assert cluster.lists[1] == list(range(10))
    assert sent(cluster) == [(1, 10, 0), (4, 7, 3), (7, 4, 6), (10, 1, 9)]


def test_what_was_sent_behind_is_sent_again_one_by_one(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Each when all before it is answered; what is submitted meanwhile waits for them."""
    cluster.carries_out = 2

    async def run() -> Any:
        async with client_of(cluster) as client:
            cluster.mute = True
            calls = []
            for start in (0, 4, 8):
                calls += append(client, range(start, start + 4))
                await asyncio.sleep(0.001)
            cluster.mute = False
            session = session_of(cluster, client)
            for connection in cluster.connections:
                connection.say(session.answers[1])
            session.early.clear()
            await calls[0]
            calls += append(client, range(12, 14))
            read = client.submit_query(1, "items")
            answers = await asyncio.gather(*calls)
            assert await read == list(range(14))
            return answers

    assert simulation.run(run()) == list(range(1, 15))
    assert cluster.lists[1] == list(range(14))
    assert [each[:2] for each in sent(cluster)] == [
        (1, 4), (5, 4), (9, 4), (3, 2), (5, 4), (7, 2), (9, 4), (11, 2), (13, 2),
    ]  # fmt: skip


def test_a_part_that_is_answered_twice_counts_once(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A copy of the answer to the first part is none to the rest."""
    cluster.carries_out = 2

    async def run() -> Any:
        async with client_of(cluster) as client:
            calls = append(client, range(4))
            await asyncio.sleep(0.001)
            session = session_of(cluster, client)
            for _ in range(2):
                for connection in cluster.connections:
                    connection.say(session.answers[1])
            return await asyncio.gather(*calls)

    assert simulation.run(run()) == [1, 2, 3, 4]


def test_a_rest_that_cannot_be_sent_goes_over_the_next_connection(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Also when the server dies with the answer to the first part on its way."""
    cluster.carries_out = 2

    async def run() -> Any:
        async with client_of(cluster, timeout_s=20) as client:
            calls = append(client, range(6))
            await asyncio.sleep(0)
            while not any(call.done() for call in calls):
                await asyncio.sleep(0.0001)
            simulation.crash("n1", silent=False)
            return await asyncio.gather(*calls)

    assert simulation.run(run()) == list(range(1, 7))
    assert cluster.lists[1] == list(range(6))


def test_deadlines_of_a_rest(simulation: Simulation, cluster: FakeCluster) -> None:
    """A call whose command is in a rest ends in time, and nothing that comes later is lost."""

    async def run() -> None:
        async with client_of(cluster, timeout_s=20) as client:
            cluster.carries_out = 1
            first, *rest = append(client, range(4), timeout_s=2)
            await first
            cluster.swallows = True
            ends = await asyncio.gather(*rest, return_exceptions=True)
            assert all(isinstance(end, OutcomeUnknown | NotApplied) for end in ends)
            cluster.swallows, cluster.carries_out = False, inf
            place = await client.submit_command(1, "append", "later")
            assert cluster.lists[1][place - 1] == "later"

    simulation.run(run())
    assert cluster.lists[1][0] == 0


def test_a_rest_of_a_lost_session_was_not_applied(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """What was answered behind an answer that is missing is told, and the rest of it is certain."""

    async def run() -> None:
        async with client_of(cluster, timeout_s=20) as client:
            cluster.mute = True
            first = append(client, range(1))
            await asyncio.sleep(0.001)
            calls = append(client, range(1, 5))
            cluster.carries_out = 2
            await asyncio.sleep(0.01)
            session = session_of(cluster, client)
            for connection in cluster.connections:
                connection.say(session.answers[2])
            await asyncio.sleep(0.01)
            assert not any(call.done() for call in calls)
            cluster.expire()
            ends = await asyncio.gather(*first, *calls, return_exceptions=True)
            assert type(ends[0]) is OutcomeUnknown
            assert ends[1:3] == [2, 3]
            assert [type(end) for end in ends[3:]] == [SessionExpired] * 2
            cluster.mute, cluster.carries_out = False, inf
            assert await client.submit_command(1, "append", "later") == 4

    simulation.run(run())


def test_an_answer_to_nothing_is_none(simulation: Simulation, cluster: FakeCluster) -> None:
    """A server that carries out no command and says so is not asked for ever."""
    cluster.carries_out = 0

    async def run() -> None:
        async with client_of(cluster, timeout_s=20) as client:
            ends = await asyncio.gather(*append(client, range(2)), return_exceptions=True)
            assert [type(end) for end in ends] == [OutcomeUnknown] * 2

    simulation.run(run())
    assert len(sent(cluster)) == 1


def test_rests_take_their_room(simulation: Simulation, cluster: FakeCluster) -> None:
    """The window counts what is left of a batch, and in the end nothing."""
    cluster.carries_out = 1
    seen = []
    cut = commands.Commands._cut

    async def run() -> None:
        async with client_of(cluster) as client:
            assert client._household is not None
            session: Any = client._household.node.actor_at(client._session.serial)

            def watched(one: commands.Commands, *arguments: Any) -> None:
                cut(one, *arguments)
                seen.append(session._window.taken_bytes)

            session._commands._cut = watched.__get__(session._commands)
            await asyncio.gather(*append(client, range(5)))
            assert seen == sorted(seen, reverse=True)
            assert len(seen) == 4
            assert seen[-1] > 0
            assert session._window.taken_bytes == 0

    simulation.run(run())
