"""What a client has on its way is bounded, and shared fairly by its sessions."""

import asyncio
import time
import tracemalloc
from typing import Any

import pytest

from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.client.commands import CommandBatch
from copycat.client.deadlines import TIDIED_MIN, Deadlines
from copycat.client.window import BYTES_MAX, SESSION_BYTES_MAX
from copycat.errors import CopycatError, InvalidType, TooLarge
from copycat.protocol.client import OpenResource, Refusal, SubmitCommands, SubmitQueries
from copycat.types import OPERATION_BYTES_MAX
from fake_cluster import AsyncBag, FakeCluster, batches, client_of

LARGE = b"x" * (300 << 10)


async def sessions_of(first: AsyncClient, count: int) -> list[AsyncClient]:
    return [first, *[await first.new_session() for _ in range(count - 1)]]


def unanswered_bytes(cluster: FakeCluster) -> dict[int, int]:
    """What of each session has arrived at a cluster that answers nothing."""
    sizes: dict[int, int] = {}
    for message in batches(cluster):
        sizes[message.session] = sizes.get(message.session, 0) + len(message.operations)
    return sizes


def test_sessions_together_send_no_more_than_the_window(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """What is not answered is bounded, for one session and for all of a client; then all go through."""
    cluster.forwards = True

    async def run() -> None:
        async with client_of(cluster, timeout_s=60.0) as first:
            sessions = await sessions_of(first, 5)
            cluster.mute = True
            puts = [
                session.submit_command(1, "append", LARGE)
                for _ in range(10)
                for session in sessions
            ]
            await asyncio.sleep(0.3)
            sizes = unanswered_bytes(cluster)
            assert 0 < max(sizes.values()) <= SESSION_BYTES_MAX
            assert SESSION_BYTES_MAX < sum(sizes.values()) <= BYTES_MAX
            cluster.mute = False
            await asyncio.gather(*puts)

    simulation.run(run())
    assert len(cluster.lists[1]) == 50


def test_sessions_take_turns(simulation: Simulation, cluster: FakeCluster) -> None:
    """A session with one command does not wait for all that another one has before it."""

    async def run() -> None:
        async with client_of(cluster, timeout_s=60.0) as first:
            greedy, greedier, modest = await sessions_of(first, 3)
            puts = [
                session.submit_command(1, "append", LARGE)
                for _ in range(40)
                for session in (greedy, greedier)
            ]
            await asyncio.sleep(0.001)
            await modest.submit_command(1, "append", b"little")
            assert not puts[-1].done()
            await asyncio.gather(*puts)

    simulation.run(run())
    assert cluster.lists[1].index(b"little") < 40


def test_a_session_that_ends_lets_the_next_one_proceed(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Room that a closed or lost session has taken, and its place in the queue, go to others."""

    async def run() -> None:
        async with client_of(cluster, timeout_s=60.0) as first:
            one, two, three, last = await sessions_of(first, 4)
            cluster.mute = True
            puts = [
                session.submit_command(1, "append", LARGE)
                for session in (one, two, three)
                for _ in range(10)
            ]
            await asyncio.sleep(0.1)
            waits = last.submit_command(1, "append", b"last")
            await asyncio.sleep(0.1)
            cluster.mute = False
            for session in (one, two, three):
                await session.close()
            await asyncio.gather(*puts, return_exceptions=True)
            await waits

    simulation.run(run())


def test_a_refused_client_sends_less_at_once(simulation: Simulation, cluster: FakeCluster) -> None:
    """A cluster without room is asked again with ever less, and then with more again."""

    async def run() -> tuple[int, int]:
        async with client_of(cluster, timeout_s=60.0) as client:
            puts = [client.submit_command(1, "append", LARGE) for _ in range(30)]
            cluster.refusal = (Refusal.OVERLOADED, "no room")
            await asyncio.sleep(1.0)
            window = client._household.links.window  # type: ignore[union-attr]
            narrowest = window.limit_bytes
            cluster.refusal = None
            await asyncio.gather(*puts)
            return narrowest, window.limit_bytes

    narrowest, widest = simulation.run(run())
    assert narrowest < len(LARGE) < widest == BYTES_MAX


def test_what_waits_is_not_encoded(simulation: Simulation, cluster: FakeCluster) -> None:
    """Two hundred large commands that wait take no memory besides the program's own value."""

    async def run() -> int:
        async with client_of(cluster, timeout_s=60.0) as client:
            cluster.mute = True
            tracemalloc.start()
            puts = [client.submit_command(1, "append", LARGE) for _ in range(200)]
            await asyncio.sleep(0.05)
            held_bytes = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            cluster.mute = False
            await asyncio.gather(*puts)
            return held_bytes

    assert simulation.run(run()) < 30 * len(LARGE)


def test_a_program_may_change_what_it_has_submitted(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """A list is sent as it was when it was submitted, however long it has to wait."""

    async def run() -> None:
        async with client_of(cluster, timeout_s=60.0) as client:
            cluster.mute = True
            puts = [client.submit_command(1, "append", LARGE) for _ in range(20)]
            value = ["before", LARGE]
            waits = client.submit_command(1, "append", value)
            await asyncio.sleep(0.1)
            value[0] = "after"
            cluster.mute = False
            await asyncio.gather(*puts, waits)

    simulation.run(run())
    assert cluster.lists[1][-1][0] == "before"


def test_a_late_failure_is_of_that_call_alone(simulation: Simulation, cluster: FakeCluster) -> None:
    """What turns out not to be sendable when its turn comes fails, and those beside it go on."""

    async def run() -> list[Any]:
        async with client_of(cluster, timeout_s=60.0) as client:
            values = [
                "a" * 20_000,
                "\ud800" * 20_000,
                "b" * 20_000,
                "x" * (OPERATION_BYTES_MAX + 1),
            ]
            puts = [client.submit_command(1, "append", value) for value in values]
            puts.append(client.submit_query(1, "items"))
            return await asyncio.gather(*puts, return_exceptions=True)

    ends = simulation.run(run())
    assert [type(end) for end in ends] == [int, InvalidType, int, TooLarge, list]
    assert [value[0] for value in cluster.lists[1]] == ["a", "b"]


def test_many_openings_go_in_groups(simulation: Simulation, cluster: FakeCluster) -> None:
    """A thousand resources opened at once are asked for by and by, each once."""

    async def run() -> None:
        async with client_of(cluster, timeout_s=60.0) as client:
            await asyncio.gather(*[client.open(AsyncBag, f"b{number}") for number in range(1000)])

    simulation.run(run())
    asked = [message.name for message in cluster.received if type(message) is OpenResource]
    assert asked == [f"b{number}" for number in range(1000)]


@pytest.mark.parametrize("kind", ["commands", "queries", "openings"])
def test_expiry_costs_each_call_the_same(
    simulation: Simulation, cluster: FakeCluster, kind: str
) -> None:
    """Four times as many calls that wait in vain take about four times as long to expire."""

    def cpu_s(count: int) -> float:
        async def run() -> float:
            async with client_of(cluster, timeout_s=60.0) as client:
                for name in cluster.names:
                    cluster.nodes[name].stop()
                await asyncio.sleep(0.5)
                calls: list[asyncio.Future[Any]] = []
                for number in range(count):
                    if kind == "commands":
                        calls.append(client.submit_command(1, "append", 0, timeout_s=5.0))
                    elif kind == "queries":
                        calls.append(client.submit_query(1, "items", timeout_s=5.0))
                    else:
                        opening = client.open(AsyncBag, f"b{number}", timeout_s=5.0)
                        calls.append(asyncio.ensure_future(opening))
                    await asyncio.sleep(0.0001)  # a turn, and so a batch, of its own
                began_s = time.process_time()
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(end, CopycatError) for end in ends)
                taken_s = time.process_time() - began_s
                for name in cluster.names:
                    cluster.start(name)
                return taken_s

        return simulation.run(run())

    few_s = min(cpu_s(500) for _ in range(2))
    many_s = min(cpu_s(4000) for _ in range(2))
    assert many_s < 20 * few_s, "8 times the calls, and not 64 times the time"


def test_what_has_ended_is_forgotten_before_its_deadline(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Answered commands with far deadlines leave neither their bytes behind nor themselves."""

    async def run() -> tuple[int, int]:
        async with client_of(cluster, timeout_s=1000.0) as client:
            for _ in range(20):
                await client.submit_command(1, "append", LARGE)
            session = client._household.node.actor_at(client._session.serial)  # type: ignore[union-attr]
            held = [
                entry[2] for entry in session._deadlines._heap if isinstance(entry[2], CommandBatch)
            ]
            held_bytes = sum(
                len(batch.operations) + len(batch.message.operations if batch.message else b"")
                for batch in held
            )
            for _ in range(5 * TIDIED_MIN):
                await client.submit_command(2, "append", 1)
            return held_bytes, len(session._deadlines._heap)

    held_bytes, held = simulation.run(run())
    assert held_bytes == 0
    assert held <= TIDIED_MIN


def test_calls_expire_as_far_as_the_budget_goes() -> None:
    """What is left when the budget is spent stays for the next turn."""

    class Item:
        deadline_s = 1.0
        is_open = True

    class Short:
        left = 3

        @property
        def spent(self) -> bool:
            self.left -= 1
            return self.left < 0

    deadlines = Deadlines()
    ended: list[object] = []
    for _ in range(5):
        deadlines.add(Item(), lambda item, *_: ended.append(item))
    deadlines.expire(2.0, Exception, Short())  # type: ignore[arg-type]  # all that it asks
    assert (len(ended), deadlines.next_s) == (3, 1.0)


def servers_that_took(cluster: FakeCluster) -> list[str]:
    """The servers that sessions were attached to, in the order of their connections."""
    return [connection.name for connection in cluster.connections]


@pytest.mark.parametrize("direction", ["sending", "receiving"])
def test_a_server_is_not_left_while_bytes_move(
    simulation: Simulation, cluster: FakeCluster, direction: str
) -> None:
    """A slow link is no silent server: nothing is sent twice, and nobody is asked instead."""
    large = b"x" * OPERATION_BYTES_MAX

    async def run() -> float:
        async with client_of(cluster, timeout_s=60.0) as client:
            name = client._household.node.name  # type: ignore[union-attr]
            if direction == "receiving":
                await client.submit_command(1, "append", large[:-1000])
                simulation.network.clog("n1", name, 100_000, 1 << 30)
            else:
                simulation.network.clog(name, "n1", 100_000, 1 << 30)
            began_s = simulation.now_s
            await client.submit_command(1, "append", large[:-1000])
            await client.submit_query(1, "items") if direction == "receiving" else None
            return simulation.now_s - began_s

    assert simulation.run(run()) > 10.0
    assert servers_that_took(cluster) == ["n1"]
    sent = [m for m in cluster.received if isinstance(m, SubmitCommands | SubmitQueries)]
    assert len(sent) == (1 if direction == "sending" else 3)


def test_a_server_that_takes_no_more_bytes_is_left(
    simulation: Simulation, cluster: FakeCluster
) -> None:
    """Bytes that wait for a link which carries nothing are no sign of life."""

    async def run() -> float:
        async with client_of(cluster, timeout_s=60.0) as client:
            name = client._household.node.name  # type: ignore[union-attr]
            simulation.network.clog(name, "n1", 1.0, 1 << 30)
            cluster.elect("n2")
            began_s = simulation.now_s
            await client.submit_command(1, "append", LARGE)
            return simulation.now_s - began_s

    assert simulation.run(run()) < 4.0
