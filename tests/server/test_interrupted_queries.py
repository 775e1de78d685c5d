"""A query that holds up its server is interrupted by a watchdog, which hits it or nothing."""

import asyncio
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import copycat
from copycat import AsyncClient, watchdog
from copycat.actors.simulation import Simulation
from copycat.errors import QueryFailed
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.protocol.client import Branch
from copycat.server.resource import REST_S, RESTS, TOOK_TOO_LONG, Resource
from copycat.server.steps import AnswerQueries, ApplyOperations
from copycat.server.users_code import QueryInterrupted, UsersCode
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.replicated_state import children_of
from copycat.watchdog import Watchdog
from simulated_servers import TallyHandle

LOOK_S = 0.001


def work(seconds: float) -> float:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


class Searcher(StateMachine):
    """Searches for as long as it is told, stubbornly or not."""

    @query
    def search(self, seconds: float) -> float:
        return work(seconds)

    @query
    def count(self, rounds: int) -> int:
        for _ in range(rounds):
            pass
        return rounds

    @query
    def search_stubbornly(self, seconds: float) -> float:
        try:
            return work(seconds)
        except BaseException:
            return -1.0

    @query
    def interrupt_itself(self, _seconds: float) -> float:
        raise QueryInterrupted

    @command
    def search_first(self, commit: Commit, seconds: float) -> float:
        return work(seconds)


class SearcherHandle(TallyHandle):
    """The least a handle of it can be."""

    resource_type: ClassVar[str] = "searcher"


@pytest.fixture
def searcher() -> Iterator[Resource]:
    """A resource on its own, in the thread of this test."""
    with Simulation(1) as simulation:
        catalog = Catalog({"searcher": Searcher})
        cluster = SimulatedCluster(simulation, servers=1, catalog=catalog, monitored=False)
        cluster.start()

        async def story() -> None:
            async with cluster.client() as client:
                await client.open(SearcherHandle, "s")

        cluster.run(story(), timeout_s=60)
        server = cluster.server(cluster.names[0])
        applier: Any = cluster.node(cluster.names[0]).actor_at(server.applier.serial)
        [found] = [
            cell.actor for cell in children_of(applier).values() if type(cell.actor) is Resource
        ]
        yield found


@pytest.fixture
def watched(searcher: Resource, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsersCode]:
    """It, watched by a dog that has no time."""
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", LOOK_S)
    dog = Watchdog(searcher._users_code)
    dog.start()
    yield searcher._users_code
    dog.stop()


def ask(searcher: Resource, *calls: tuple[str, float]) -> tuple[list[Any], list[Any]]:
    message = AnswerQueries([[0, *call] for call in calls])
    return searcher.answer_queries(message, searcher.address)


def test_the_interruption_hits_the_query_or_nothing(
    searcher: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However close it comes to the end of a query, or to the next one, it is never met behind it."""
    users_code, over = searcher._users_code, threading.Event()
    late = itertools.cycle((False, True))
    raise_in_thread = watchdog._raise_in_thread

    def raise_late(thread: Any, error: Any) -> None:
        if error is not None and next(late):
            time.sleep(2e-5)  # it was decided, and the query goes on meanwhile
        raise_in_thread(thread, error)

    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 3600.0)
    monkeypatch.setattr(watchdog, "_raise_in_thread", raise_late)
    dog = Watchdog(users_code)
    dog.start()

    def interrupt_all() -> None:
        last: Any = None
        while not over.is_set():
            row = users_code.running
            if row is not None and row is not last:
                last = row
                dog.interrupt(row, 0)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    interrupting = threading.Thread(target=interrupt_all)
    interrupting.start()
    ends: Counter[int] = Counter()
    try:
        until_s = time.monotonic() + 2.0
        while time.monotonic() < until_s:
            rounds = sum(ends.values()) % 60
            searcher._resting.clear()
            values, failures = ask(searcher, ("count", rounds), ("count", rounds))
            for _ in range(200):
                pass  # nothing may be met here
            ends[len(values) if not failures else 0] += 1
            assert (values, failures) in (
                ([rounds], []),  # it came between the two
                ([rounds, rounds], []),
                ([None], [(0, Branch.QUERY_FAILED, *TOOK_TOO_LONG)]),
            )
    finally:
        over.set()
        interrupting.join()
        sys.setswitchinterval(interval_s)
        dog.stop()
    assert ends[0] > 10
    assert ends[2] > 10


def test_the_rest_of_a_row_is_asked_later(searcher: Resource, watched: UsersCode) -> None:
    """One row is interrupted once, and then others have their turn."""
    values, failures = ask(searcher, ("search", 0.0), ("search", 60.0), ("search", 0.0))
    assert values == [0.0, None]
    assert [each[0] for each in failures] == [1]


def test_nobody_watches_while_nothing_runs(searcher: Resource, watched: UsersCode) -> None:
    """An idle server's watchdog takes no time, and what begins next is watched all the same."""
    for _ in range(3):
        while watched.unwatched is None:
            time.sleep(LOOK_S)
        for _ in range(20):
            time.sleep(LOOK_S)
            assert watched.unwatched is not None
        searcher._resting.clear()
        assert ask(searcher, ("search", 60.0)) == (
            [None], [(0, Branch.QUERY_FAILED, *TOOK_TOO_LONG)]
        )  # fmt: skip


def test_a_query_that_wakes_the_watchdog_is_not_looked_at_more_often(
    searcher: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two looks after an idle server has begun it, it is interrupted, before its client goes on."""
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", LOOK_S)
    users_code, waits = searcher._users_code, []

    class Counting(threading.Event):
        """Notes whether something runs when a wait begins."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.append(users_code.running is not None)
            return super().wait(timeout)

    class Noting(Watchdog):
        """Notes how many such waits there were before it interrupts."""

        def interrupt(self, row: object, at: int) -> bool:
            waited.append(sum(waits))
            return super().interrupt(row, at)

    waited: list[int] = []
    dog = Noting(users_code)
    dog._over = Counting()
    dog.start()
    try:
        while users_code.unwatched is None:
            time.sleep(LOOK_S)
        assert ask(searcher, ("search", 60.0))[0] == [None]
    finally:
        dog.stop()
    assert waited == [watchdog.QUERY_LOOKS]


def test_the_like_of_it_are_left_out_for_a_while(
    searcher: Resource, watched: UsersCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are asked, each method holds up its server once in ten seconds."""
    assert ask(searcher, ("search", 60.0)) == ([None], [(0, Branch.QUERY_FAILED, *TOOK_TOO_LONG)])
    values, failures = ask(searcher, ("search", 60.0), ("count", 1), ("search", 0.0))
    assert values == [None, 1, None]
    assert failures == [(place, Branch.QUERY_FAILED, *RESTS) for place in (0, 2)]
    now_s = searcher.environment.clock.monotonic_s()
    monkeypatch.setattr(
        searcher.environment.clock, "monotonic_s", lambda: now_s + REST_S, raising=False
    )
    assert ask(searcher, ("search", 0.0)) == ([0.0], [])


def test_a_query_that_swallows_the_interruption_has_its_answer(
    searcher: Resource, watched: UsersCode
) -> None:
    """Nothing of it comes later; the next one of the row goes on."""
    assert ask(searcher, ("search_stubbornly", 60.0), ("search", 0.0)) == ([-1.0, 0.0], [])


def test_an_interruption_that_nobody_has_sent_is_a_failure(searcher: Resource) -> None:
    """A machine may raise what it finds."""
    values, failures = ask(searcher, ("interrupt_itself", 0.0), ("search", 0.0))
    assert (values, [each[0] for each in failures]) == ([None], [0])


def test_a_command_is_never_interrupted(searcher: Resource, watched: UsersCode) -> None:
    """Its end would be this server's own."""
    step = ApplyOperations(9, 0, 1, [[0, "search_first", 20 * LOOK_S]], [], 0)
    assert searcher.apply_operations(step, searcher.address) == ([20 * LOOK_S], [])


def test_a_query_without_end_stops_no_cluster_in_a_thread() -> None:
    """Servers that share a thread of a user's program are watched as those of ``serve`` are."""
    with copycat.local(nodes=3, types={"searcher": Searcher}) as servers:

        async def story() -> None:
            async with AsyncClient(*servers.endpoints, timeout_s=30.0) as client:
                searcher = await client.open(SearcherHandle, "s")
                with pytest.raises(QueryFailed) as caught:
                    await searcher.query("search", 3600.0)
                assert caught.value.kind == TOOK_TOO_LONG[0]
                assert await searcher.query("count", 1) == 1

        asyncio.run(story())
    assert not [each for each in threading.enumerate() if each.name == "copycat-watchdog"]
