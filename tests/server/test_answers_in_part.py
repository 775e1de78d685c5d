"""What is called side by side answers as much together as it does one after the other."""

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from copycat import AsyncClient
from copycat.actors.simulation import Simulation
from copycat.errors import OperationFailed, Rejected
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.resources import AsyncDistributedMap
from copycat.resources.map import MapMachine
from copycat.server import operations
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.replicated_state import text_of
from simulated_servers import TallyHandle


class Scroll(StateMachine):
    """Appends, and answers anything."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    @command
    def add(self, commit: Commit, what: Any, times: int = 1) -> Any:
        self.lines.append(what)
        commit.publish(commit.session, "added", len(self.lines))
        if what == "fail":
            raise ValueError("as planned")
        if what == "reject":
            raise Rejected("as planned")
        return [len(self.lines), None if what is None else what * times]

    @query
    def length(self) -> int:
        return len(self.lines)


class ScrollHandle(TallyHandle):
    resource_type: ClassVar[str] = "scroll"


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Three servers in the simulated world."""
    with Simulation(17) as simulation:
        cluster = SimulatedCluster(
            simulation, catalog=Catalog({"map": MapMachine, "scroll": Scroll})
        )
        cluster.start()
        yield cluster


async def filled(client: AsyncClient, count: int, value: bytes) -> AsyncDistributedMap[str, bytes]:
    """A map with so many of this value, each with its number in front."""
    values = await client.open(AsyncDistributedMap[str, bytes], "values")
    await asyncio.gather(
        *[values.put(f"k{number}", b"%d " % number + value) for number in range(count)]
    )
    return values


@pytest.mark.parametrize("size_bytes", [10_000, 100_000, 1_000_000])
def test_what_is_taken_out_at_once_arrives(cluster: SimulatedCluster, size_bytes: int) -> None:
    """Whatever takes values out or replaces them gives all of them back, in the order of the calls."""
    count = min(500, 5_000_000 // size_bytes)
    value = bytes(size_bytes)
    expected = [b"%d " % number + value for number in range(count)]
    names = [f"k{number}" for number in range(count)]

    async def story() -> None:
        async with cluster.client(timeout_s=120) as client:
            values = await filled(client, count, value)
            assert await asyncio.gather(*[values.put(name, b"") for name in names]) == expected
            await filled(client, count, value)
            assert await asyncio.gather(*[values.remove(name) for name in names]) == expected
            await filled(client, count, value)
            popped = await asyncio.gather(
                *[values._command("popitem", timeout_s=None) for _ in names]
            )
            assert [key for key, _ in popped] == names[::-1]
            assert await values.length() == 0

    cluster.run(story(), timeout_s=600)
    cluster.settle()
    assert len({text_of(applier_of(cluster, name)) for name in cluster.names}) == 1


def applier_of(cluster: SimulatedCluster, name: str) -> Any:
    return cluster.node(name).actor_at(cluster.server(name).applier.serial)


def test_batches_behind_one_that_is_cut_keep_their_turn(cluster: SimulatedCluster) -> None:
    """What was sent behind a batch of which a part is applied comes after the rest of it, once, and so
    do queries; events come in that order."""

    async def story() -> None:
        async with cluster.client(timeout_s=60) as client:
            scroll = await client.open(ScrollHandle, "scroll")
            calls: list[Any] = []
            for batch in range(6):
                for place in range(10):
                    number = 10 * batch + place
                    times = 200_000 if batch % 2 == 0 else 1
                    call = scroll.command("add", b"%d" % number, times)
                    calls.append(asyncio.ensure_future(call))
                read = asyncio.ensure_future(scroll.query("length"))
                await asyncio.sleep(0.0001)
            answers = await asyncio.gather(*calls)
            assert [place for place, _ in answers] == list(range(1, 61))
            assert await read == 60
            assert [answer[:2] for _, answer in answers[10:]] == [b"%d" % n for n in range(10, 60)]

    cluster.run(story(), timeout_s=120)


def test_ends_other_than_answers_are_told_among_large_ones(cluster: SimulatedCluster) -> None:
    """Each call ends by what is its own, wherever batches are cut."""
    asked: list[Any] = [b"x", "fail", "x", b"x", "reject", 1, None, [b"x"], "fail", "é", b"x"]

    async def story() -> None:
        async with cluster.client(timeout_s=60) as client:
            scroll = await client.open(ScrollHandle, "scroll")
            ends = await asyncio.gather(
                *[scroll.command("add", what, 300_000) for what in asked], return_exceptions=True
            )
            for place, (what, end) in enumerate(zip(asked, ends, strict=True), 1):
                if what == "fail":
                    assert type(end) is OperationFailed
                elif what == "reject":
                    assert type(end) is Rejected
                else:
                    assert end == [place, None if what is None else what * 300_000]

    cluster.run(story(), timeout_s=60)


def test_resources_of_one_batch_share_its_room(cluster: SimulatedCluster) -> None:
    """Runs of commands for several resources are cut like those for one, between them too."""

    async def story() -> None:
        async with cluster.client(timeout_s=60) as client:
            scrolls = [await client.open(ScrollHandle, name) for name in ("a", "b", "c")]
            ends = await asyncio.gather(
                *[scrolls[place // 2 % 3].command("add", b"x", 300_000) for place in range(60)]
            )
            assert sorted(place for place, _ in ends) == sorted([*range(1, 21)] * 3)

    cluster.run(story(), timeout_s=60)


def test_a_batch_is_cut_at_the_same_place_by_every_replay(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts again, and one that was down meanwhile, come to the same state."""
    monkeypatch.setattr(operations, "ANSWERED_BYTES_MAX", 100)

    async def story() -> None:
        async with cluster.client(timeout_s=60) as client:
            scroll = await client.open(ScrollHandle, "scroll")
            for place in range(20):
                calls = [scroll.command("add", b"x", place * size) for size in range(30)]
                assert len(await asyncio.gather(*calls)) == 30
                if place == 5:
                    cluster.crash("n3")
            cluster.start("n3")

    cluster.run(story(), timeout_s=60)
    cluster.settle()
    before = text_of(applier_of(cluster, "n1"))
    for name in cluster.names:
        assert text_of(applier_of(cluster, name)) == before
    cluster.restart(*cluster.names)
    cluster.settle()

    async def look() -> int:
        async with cluster.client(timeout_s=60) as client:
            length: int = await (await client.open(ScrollHandle, "scroll")).query("length")
            return length

    assert cluster.run(look(), timeout_s=60) == 600


def test_leaders_that_die_between_the_parts_lose_nothing(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command is applied once, in order, and the client is told all that is applied."""
    monkeypatch.setattr(operations, "ANSWERED_BYTES_MAX", 100)

    async def story() -> None:
        async with cluster.client(timeout_s=120) as client:
            scroll = await client.open(ScrollHandle, "scroll")
            calls = []
            for _ in range(5):
                calls += [
                    asyncio.ensure_future(scroll.command("add", b"x" * 60)) for _ in range(20)
                ]
                await asyncio.sleep(0.0001)
            for end in range(10, 100, 20):
                while sum(call.done() for call in calls) < end:
                    await asyncio.sleep(0.0003)
                leader = cluster.leader()
                assert leader is not None, "it has answered"
                cluster.crash(leader)
                await asyncio.sleep(0.5)
                cluster.start(leader)
            answers = await asyncio.gather(*calls)
            assert [place for place, _ in answers] == list(range(1, 101))

    cluster.run(story(), timeout_s=200)
