"""Who must still apply much of its log leaves elections to others, for a while."""

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from copycat.actors.simulated_processor import Processor
from copycat.actors.simulation import Simulation
from copycat.machine import Catalog, Commit, StateMachine, command
from copycat.server.options import ServerOptions
from copycat.server.progress import Progress
from copycat.server.readiness import PATIENCE_TIMEOUTS, Readiness
from copycat.testing.cluster import CATALOG, SimulatedCluster

ENTRIES = 200
COST_S = 0.001
SLOW = 20.0
"""How slow n3 is: four seconds for all entries."""

OPTIONS = ServerOptions(name="n1", peers={"n1": "n1:1"}, catalog=CATALOG)
ELECTION_S = 2.5  # with a split vote


class Toil(StateMachine):
    """Takes its time."""

    @command
    def toil(self, commit: Commit) -> int:
        """Work on the server that runs this; answers where in the log that was."""
        assert Processor.at_work is not None, "servers run it"
        Processor.at_work.charge(COST_S)
        return commit.index


class ToilHandle:
    """The client's side."""

    resource_type: ClassVar[str] = "toil"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: Any, resource_id: int, name: str) -> None:
        self.client, self.resource_id = client, resource_id

    def toil(self) -> Any:
        return self.client.submit_command(self.resource_id, "toil")


def worlds(*seeds: int) -> Iterator[SimulatedCluster]:
    """Three servers each, of which n3 needs long to apply what the others apply at once."""
    for seed in seeds:
        with Simulation(seed, processors={"n1": 0.1, "n2": 0.1, "n3": SLOW}) as simulation:
            types = Catalog({**CATALOG, "toil": Toil})
            cluster = SimulatedCluster(simulation, catalog=types, monitored=False)
            cluster.start()
            yield cluster


async def fill(cluster: SimulatedCluster) -> None:
    """Give n3 much to apply, in many entries."""
    async with cluster.client(timeout_s=60) as client:
        toil = await client.open(ToilHandle, "toil")
        for _ in range(ENTRIES):
            await toil.toil()


def test_while_another_is_ready_an_unready_server_does_not_win() -> None:
    """n3 has just started and has everything but its state; the leader crashes, and a write takes
    no longer than an election, though n3 would need three seconds more."""
    tried = 0
    for cluster in worlds(*range(10)):
        cluster.wait_for_leader()

        async def story(cluster: SimulatedCluster = cluster) -> float | None:
            await fill(cluster)
            leader = cluster.leader()
            if leader in (None, "n3"):
                return None
            async with cluster.client(timeout_s=60, session_timeout_s=60) as client:
                toil = await client.open(ToilHandle, "toil")
                cluster.restart("n3")
                await asyncio.sleep(0.8)
                assert cluster.leader() == leader
                assert cluster.server("n3").progress.applied_index < ENTRIES / 2
                cluster.crash(leader, silent=True)
                began_s = cluster.simulation.now_s
                await toil.toil()
                assert cluster.leader() not in (leader, "n3")
                return cluster.simulation.now_s - began_s

        took_s = cluster.run(story(), timeout_s=120)
        if took_s is not None:
            tried += 1
            assert took_s < ELECTION_S
    assert tried >= 3


def test_an_unready_server_wins_when_nobody_else_can() -> None:
    """What is committed is on n3 and the crashed leader only: it is patient, and then leads."""
    tried = 0
    for cluster in worlds(*range(6)):
        cluster.wait_for_leader()
        leader = cluster.leader()
        if leader in (None, "n3"):
            continue
        tried += 1
        (late,) = [name for name in ("n1", "n2") if name != leader]
        cluster.crash(late)
        cluster.run(fill(cluster), timeout_s=60)
        cluster.restart("n3")
        cluster.simulation.run_for(0.8)
        assert leader is not None
        cluster.crash(leader)
        cluster.start(late)
        crashed_s = cluster.simulation.now_s
        while cluster.leader() != "n3":
            cluster.simulation.run_for(0.01)
            assert cluster.simulation.now_s - crashed_s < 20
        longest_s = (1 + PATIENCE_TIMEOUTS) * OPTIONS.election_timeout_max_s
        assert cluster.simulation.now_s - crashed_s < longest_s + ELECTION_S
    assert tried >= 2


class FakeLog:
    """As long as it is said to be."""

    last_index = 0


class Clock:
    """Shows what it is told to."""

    now_s = 0.0


@pytest.fixture
def measured() -> tuple[Readiness, FakeLog, Progress, Clock]:
    """The readiness of a server whose log, state and time are set by hand."""
    log, progress, clock = FakeLog(), Progress(), Clock()
    readiness = Readiness(lambda: clock.now_s, log, progress, 0.3)  # type: ignore[arg-type]  # as much of a log as it needs
    return readiness, log, progress, clock


def test_patience_follows_what_is_left(
    measured: tuple[Readiness, FakeLog, Progress, Clock],
) -> None:
    """Nothing to apply, no patience; a little, a little; and much no more than is stated."""
    readiness, log, progress, _ = measured
    assert readiness.patience_s(0.5) == 0
    log.last_index = 1_000
    assert 0 < readiness.patience_s(0.5) < 0.01
    log.last_index = 10_000_000
    assert readiness.patience_s(0.5) == PATIENCE_TIMEOUTS * 0.5
    progress.applied_index = log.last_index
    assert readiness.patience_s(0.5) == 0


def test_patience_follows_how_fast_it_goes(
    measured: tuple[Readiness, FakeLog, Progress, Clock],
) -> None:
    """Entries that take long are known by what they have taken; a server that has just heard of
    them is not called slow, nor is one that was, and has caught up."""
    readiness, log, progress, clock = measured
    log.last_index = 100
    readiness.committed(100)
    clock.now_s = 0.2
    assert readiness.patience_s(0.5) < 0.01
    clock.now_s, progress.applied_index = 1.0, 10
    readiness.committed(101)
    assert readiness.patience_s(0.5) == PATIENCE_TIMEOUTS * 0.5
    clock.now_s, progress.applied_index = 2.0, 98
    assert 0.005 < readiness.patience_s(0.5) < 0.05
    progress.applied_index = log.last_index = 101
    readiness.committed(102)
    log.last_index, clock.now_s = 102, 2.1
    assert readiness.patience_s(0.5) < 0.01


def test_what_is_known_to_be_committed_is_applied_before_anybody_leads() -> None:
    """The floor on its disk says how far the log is committed: a server that starts alone applies
    that, and no more."""
    with Simulation(1) as simulation:
        cluster = SimulatedCluster(simulation, catalog=Catalog({**CATALOG, "toil": Toil}))
        cluster.start()
        cluster.wait_for_leader()
        cluster.run(fill(cluster), timeout_s=60)
        simulation.run_for(2)
        cluster.crash()
        cluster.start("n1")
        simulation.run_for(2)
        server = cluster.server("n1")
        assert cluster.leader() is None
        assert server.progress.applied_index == server.log.floor.promise.last_index >= ENTRIES
