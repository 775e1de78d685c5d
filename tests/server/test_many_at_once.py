"""What is due for many at one log time takes many turns, and means the same as in one."""

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from copycat.actors.simulated_processor import Processor
from copycat.actors.simulation import Simulation
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.protocol.client import Consistency
from copycat.testing.cluster import CATALOG, SimulatedCluster

MEMBERS = 60
COST_S = 0.003
HANDLER_MAX_S = 0.010


def work() -> None:
    """Take time on the server that runs this."""
    assert Processor.at_work is not None, "servers run it"
    Processor.at_work.charge(COST_S)


class Club(StateMachine):
    """Takes its time to let a member go, or to wake one."""

    def __init__(self) -> None:
        self.members: dict[int, float] = {}
        self.woken: list[int] = []

    @command
    def join(self, commit: Commit) -> None:
        """Be a member until the session ends."""
        self.members[commit.session] = commit.log_time_s

    @command
    def wake_all(self, commit: Commit, delay_s: float) -> None:
        """Wake all members at one time."""
        for member in self.members:
            commit.schedule(delay_s, self.wake, member)

    def wake(self, commit: Commit, member: int) -> None:
        """The time has come; the same for all."""
        work()
        self.woken.append(member)

    def session_ended(self, commit: Commit, session: int) -> None:
        """A member has gone."""
        work()
        self.members.pop(session, None)

    @query
    def counts(self) -> list[int]:
        """How many members there are, and how many were woken."""
        return [len(self.members), len(self.woken)]


class ClubHandle:
    """The client's side."""

    resource_type: ClassVar[str] = "club"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: Any, resource_id: int, name: str) -> None:
        self.client, self.resource_id = client, resource_id

    def command(self, method: str, *arguments: Any) -> Any:
        return self.client.submit_command(self.resource_id, method, *arguments)

    def counts(self) -> Any:
        return self.client.submit_query(
            self.resource_id, "counts", consistency=Consistency.SEQUENTIAL
        )


class LongestTurns:
    """How long the handlers of each server took at most, and what they handled."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.longest: dict[str, tuple[float, str]] = {}
        for name in cluster.names:
            handlers = cluster.node(name).environment.handlers
            handlers.limit_s = 0.0
            handlers.heard = self._heard_by(name)

    def _heard_by(self, server: str) -> Any:
        def heard(name: str, took_s: float) -> None:
            self.longest[server] = max(self.longest.get(server, (0.0, "")), (took_s, name))

        return heard


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Three servers, one of which is slower than the others, and another one faster."""
    with Simulation(8, processors={"n1": 1.0, "n2": 0.3, "n3": 1.5}) as simulation:
        three = SimulatedCluster(simulation, catalog=Catalog({**CATALOG, "club": Club}))
        three.start()
        three.wait_for_leader()
        yield three


async def fill(cluster: SimulatedCluster) -> None:
    """Let members join."""

    async def join() -> None:
        client = cluster.client(session_timeout_s=5)
        await client.connect()
        await (await client.open(ClubHandle, "club")).command("join")

    await asyncio.gather(*[join() for _ in range(MEMBERS)])


async def watch(cluster: SimulatedCluster, club: ClubHandle, last: list[int]) -> list[list[int]]:
    """Ask the club again and again until it answers this; returns what it has answered."""
    seen = [await club.counts()]
    while seen[-1] != last:
        await asyncio.sleep(0.001)
        counts = await club.counts()
        if counts != seen[-1]:
            seen.append(counts)
    return seen


def test_sessions_that_expire_together_hold_nobody_up(cluster: SimulatedCluster) -> None:
    """All members are renewed by a new leader and are gone: they end at one index, in turns that
    are short on every server, and nobody sees a part of them."""
    cluster.run(fill(cluster), timeout_s=20)
    for name in list(cluster.simulation.nodes):
        if name not in cluster.names:
            cluster.simulation.crash(name)
    cluster.restart()
    cluster.wait_for_leader()
    turns = LongestTurns(cluster)

    async def story() -> list[list[int]]:
        async with cluster.client(session_timeout_s=60, server_selection="any") as client:
            club = await client.open(ClubHandle, "club")
            return await watch(cluster, club, [0, 0])

    assert cluster.run(story(), timeout_s=30) == [[MEMBERS, 0], [0, 0]]
    cluster.settle()
    assert set(turns.longest) == set(cluster.names)
    assert max(turns.longest.values())[0] <= HANDLER_MAX_S, turns.longest


def test_timers_that_are_due_together_hold_nobody_up(cluster: SimulatedCluster) -> None:
    """They are called at one index, in turns that are short on every server, and nobody sees some
    called and others not."""
    turns = LongestTurns(cluster)

    async def story() -> list[list[int]]:
        await fill(cluster)
        async with cluster.client(session_timeout_s=60) as client:
            club = await client.open(ClubHandle, "club")
            await club.command("wake_all", 2.0)
            return await watch(cluster, club, [MEMBERS, MEMBERS])

    assert cluster.run(story(), timeout_s=30) == [[MEMBERS, 0], [MEMBERS, MEMBERS]]
    cluster.settle()
    assert max(turns.longest.values())[0] <= HANDLER_MAX_S, turns.longest
