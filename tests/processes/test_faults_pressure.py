"""More at once than the cluster can take: callers wait, and nobody else is harmed."""

import asyncio
from collections.abc import Iterator

import pytest

from copycat import AsyncClient
from copycat.client.options import ServerSelection
from copycat.client.window import BYTES_MAX
from copycat.resources import AsyncDistributedCounter, AsyncDistributedMap
from copycat.types import VALUE_BYTES_MAX
from process_cluster import ProcessCluster

LARGEST = b"x" * (VALUE_BYTES_MAX - 5)
PUTS = 60
SESSIONS = 6
TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Three servers."""
    with ProcessCluster(tmp_path_factory.mktemp("pressure")) as cluster:
        cluster.leader()
        yield cluster


def terms(cluster: ProcessCluster) -> set[int]:
    return {status.term for status in cluster.statuses().values()}


@pytest.mark.parametrize("through", ["the leader", "a follower"])
def test_a_flood_of_the_largest_values_gets_through(cluster: ProcessCluster, through: str) -> None:
    """All puts succeed; what is under way stays in the window, no session comes into doubt or
    changes its server, nobody is elected, and another client is served meanwhile."""
    leader = cluster.leader()
    endpoints = cluster.endpoints
    selection: ServerSelection = "leader"
    if through == "a follower":
        endpoints, selection = (cluster.peers[cluster.others(leader)[0]],), "any"
    before = terms(cluster)
    told: list[str] = []
    most_bytes = 0

    async def flood() -> int:
        nonlocal most_bytes
        async with AsyncClient(
            *endpoints, server_selection=selection, timeout_s=TIMEOUT_S
        ) as first:
            sessions = [first, *[await first.new_session() for _ in range(SESSIONS - 1)]]
            maps = [await session.open(AsyncDistributedMap, "m") for session in sessions]
            for session in sessions:
                session.on_session(lambda state, _: told.append(state))
            assert first._household is not None
            window, node = first._household.links.window, first._household.node
            attached = {
                session._session: node.actor_at(session._session.serial) for session in sessions
            }
            servers = {at: actor._attachment.connection for at, actor in attached.items()}
            puts = [
                asyncio.ensure_future(maps[number % SESSIONS].put(f"k{number}", LARGEST))
                for number in range(PUTS)
            ]
            while not all(put.done() for put in puts):
                most_bytes = max(most_bytes, window.taken_bytes)
                await asyncio.sleep(0.001)
            assert [await put for put in puts] == [None] * PUTS
            assert servers == {at: actor._attachment.connection for at, actor in attached.items()}
            assert told == []
            size = await maps[0].length()
            await asyncio.gather(*[session.close() for session in sessions])
            return size

    async def others(flooding: "asyncio.Task[int]") -> int:
        done = 0
        async with AsyncClient(*cluster.endpoints, timeout_s=TIMEOUT_S) as client:
            counter = await client.open(AsyncDistributedCounter, "c")
            while not flooding.done():
                await counter.increment()
                done += 1
        return done

    async def story() -> tuple[int, int]:
        flooding = asyncio.ensure_future(flood())
        return await others(flooding), await flooding

    done, size = asyncio.run(story())
    assert size == PUTS
    assert done > 10
    assert len(LARGEST) < most_bytes <= max(BYTES_MAX, len(LARGEST) + 100)  # one alone in any case
    assert terms(cluster) == before
    asyncio.run(clear(cluster.endpoints))


async def clear(endpoints: tuple[str, ...]) -> None:
    async with AsyncClient(*endpoints, timeout_s=TIMEOUT_S) as client:
        values = await client.open(AsyncDistributedMap, "m")
        await values.clear()
