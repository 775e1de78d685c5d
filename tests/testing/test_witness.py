"""The witness: the order of the log is held against the clock and against every result."""

import asyncio
import random
from collections.abc import Callable
from math import inf

import pytest

from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.errors import InvalidArgument
from copycat.local_cluster import local
from copycat.protocol.client import Consistency
from copycat.resources.counter import AsyncDistributedCounter
from copycat.resources.map import AsyncDistributedMap
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.history import History, Operation, Outcome
from copycat.testing.linearizability import check
from copycat.testing.map_model import MapModel
from copycat.testing.models import CounterModel, Model, RegisterModel
from copycat.testing.search import Verdict
from copycat.testing.witness import check_by_index, watch
from hand_made import at, maybe, ok
from simulated_object import MODELS, Invocation, simulated

REGISTER = RegisterModel()


def verdict(*operations: Operation) -> Verdict:
    return check_by_index(operations, REGISTER).verdict


def test_the_log_explains_what_the_clock_leaves_open() -> None:
    """Two writes at once: a read returns the one that comes later in the log."""
    writes = [at(5, ok(0, 9, "a.write", 1)), at(4, ok(0, 9, "b.write", 2))]
    good, bad = (at(5, ok(10, 11, "c.read", returns=value), is_query=True) for value in (1, 2))
    assert verdict(*writes, good) is Verdict.LINEARIZABLE
    assert check([*writes, bad], REGISTER).verdict is Verdict.LINEARIZABLE
    assert verdict(*writes, bad) is Verdict.NOT_LINEARIZABLE


def test_a_query_sees_its_index_and_no_more() -> None:
    """It comes after the command at its index, and before the next one."""
    writes = [at(5, ok(0, 9, "a.write", 1)), at(6, ok(0, 9, "b.write", 2))]
    for value, expected in ((1, Verdict.LINEARIZABLE), (2, Verdict.NOT_LINEARIZABLE)):
        reads = [at(5, ok(begin, 9, "c.read", returns=value), is_query=True) for begin in (1, 2)]
        assert verdict(*writes, *reads) is expected


def test_the_log_respects_the_clock() -> None:
    """What had ended when another one began comes before it, even if no result shows it."""
    first, second = at(7, ok(0, 1, "a.write", 1)), at(6, ok(2, 3, "b.write", 1))
    report = check_by_index([first, second], REGISTER)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert report.counterexample is not None
    assert set(report.counterexample.operations) == {first, second}
    assert str(report.counterexample).startswith("the log has another order than the clock")


def test_a_stale_query_is_behind_its_time() -> None:
    """It saw an index that had been passed when it began."""
    write = at(7, ok(0, 1, "a.write", 1))
    stale = at(6, ok(2, 3, "b.read", returns=None), is_query=True)
    assert verdict(write, stale) is Verdict.NOT_LINEARIZABLE
    stale.index = 7
    stale.result = 1
    assert verdict(write, stale) is Verdict.LINEARIZABLE


def test_one_index_is_for_one_command() -> None:
    """Queries may share it, with each other and with the command that made what they see."""
    write = at(7, ok(0, 9, "a.write", 1))
    reads = [at(7, ok(0, 9, "b.read", returns=1), is_query=True) for _ in range(2)]
    assert verdict(write, *reads) is Verdict.LINEARIZABLE
    assert verdict(write, at(7, ok(0, 9, "b.write", 1))) is Verdict.NOT_LINEARIZABLE


def test_unknown_ones_need_no_index() -> None:
    """They took effect anywhere in the log after what had ended before they began, or nowhere."""
    first, doubt = at(5, ok(0, 1, "a.write", 1)), maybe(2, "b.write", 2)
    late = at(9, ok(3, 4, "c.read", returns=2), is_query=True)
    early = at(5, ok(3, 4, "c.read", returns=2), is_query=True)
    never = at(9, ok(3, 4, "c.read", returns=1), is_query=True)
    assert verdict(first, doubt, late) is Verdict.LINEARIZABLE
    assert verdict(first, doubt, never) is Verdict.LINEARIZABLE
    assert verdict(first, doubt, early) is Verdict.NOT_LINEARIZABLE
    assert verdict(first, late) is Verdict.NOT_LINEARIZABLE


def test_the_story_is_told_in_time_and_index() -> None:
    """A counterexample shows the operations as they were recorded."""
    write = at(5, ok(0, 1, "a.write", 1))
    read = at(5, ok(2, 3, "c.read", returns=2), is_query=True)
    report = check_by_index([write, read], REGISTER)
    assert report.counterexample is not None
    assert report.counterexample.blocked is read
    told, line = str(report.counterexample).splitlines()
    assert told.startswith("the order of the log does not explain this, whatever 1 other operation")
    assert line == (
        "  c  |---|  read() -> 2  (index 5, 2.000000 to 3.000000 s)  <- nothing explains this"
    )


def test_an_operation_without_an_index_is_no_witness() -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidArgument, match="does not know the index"):
        check_by_index([ok(0, 1, "a.write", 1)], REGISTER)


@pytest.mark.parametrize(("model", "call"), MODELS, ids=["registers", "counter"])
def test_what_a_linearizable_object_does_is_accepted(
    model: Model, call: Callable[[random.Random], Invocation], seed: int
) -> None:
    """With the index of each command, and twenty clients at once on few parts."""
    history = simulated(random.Random(seed), model, call, operations=1_000, clients=20)
    report = check_by_index(history, model)
    assert report.verdict is Verdict.LINEARIZABLE, report
    known = [each for each in history if each.outcome is Outcome.OK]
    one, other = random.Random(seed).sample(known, 2)
    one.index, other.index = other.index, one.index
    if abs(one.index - other.index) > 100:
        assert check_by_index(history, model).verdict is Verdict.NOT_LINEARIZABLE


def test_clients_learn_the_indexes_of_their_calls() -> None:
    """Commands count on within a batch, queries have that of the state, and both explain all."""
    with Simulation(7) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        users = History(lambda: simulation.now_s)
        hits = History(lambda: simulation.now_s)

        async def work(place: int) -> None:
            async with cluster.client(timeout_s=inf) as client:
                watch(client)
                name = f"c{place}"
                a_map = await client.open(AsyncDistributedMap[str, int], "users")
                counter = await client.open(AsyncDistributedCounter, "hits")
                for number in range(5):
                    await asyncio.gather(
                        users.record(name, "put", "k", number, call=a_map.put("k", number)),
                        hits.record(name, "increment", call=counter.increment()),
                        hits.record(name, "increment", call=counter.increment()),
                        users.record(name, "get_entry", "k", call=a_map.get_entry("k")),
                        hits.record(name, "value", call=counter.value()),
                    )
                    await counter.value(consistency=Consistency.SEQUENTIAL)

        async def everybody() -> None:
            await asyncio.gather(*(work(place) for place in range(4)))

        cluster.run(everybody(), timeout_s=60)
    assert (len(users), len(hits)) == (40, 60)
    assert all(each.index > 0 for each in (*users, *hits))
    assert {each.is_query for each in hits if each.method == "value"} == {True}
    commands = [each.index for each in (*users, *hits) if not each.is_query]
    assert len(set(commands)) == len(commands) == 60
    # The version of a value is the index of the command that wrote it.
    versions = {each.result.version for each in users if each.method == "get_entry"}
    assert versions <= set(commands)
    for history, model in ((users, MapModel()), (hits, CounterModel())):
        assert check_by_index(history, model).verdict is Verdict.LINEARIZABLE
        assert check(history, model).verdict is Verdict.LINEARIZABLE


def test_clients_of_real_servers_learn_them_too() -> None:
    """The same over sockets, with the clock of the loop."""

    async def everybody(endpoints: tuple[str, ...]) -> History:
        hits = History(asyncio.get_running_loop().time)

        async def work(name: str) -> None:
            async with AsyncClient(*endpoints) as client:
                watch(client)
                counter = await client.open(AsyncDistributedCounter, "hits")
                for _ in range(10):
                    await hits.record(name, "increment", call=counter.increment())
                    await hits.record(name, "value", call=counter.value())

        await asyncio.gather(*(work(f"c{place}") for place in range(3)))
        return hits

    with local() as cluster:
        hits = asyncio.run(everybody(cluster.endpoints))
    assert len(hits) == 60
    assert check_by_index(hits, CounterModel()).verdict is Verdict.LINEARIZABLE
    assert check(hits, CounterModel()).verdict is Verdict.LINEARIZABLE
