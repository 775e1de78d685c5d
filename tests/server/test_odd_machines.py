"""What a machine asks of its commit is checked where it asks, and only while its method runs."""

import asyncio
from typing import Any, ClassVar

import pytest

from copycat.actors.simulation import Simulation
from copycat.errors import OperationFailed, QueryFailed
from copycat.machine import Catalog, Commit, StateMachine, command, query
from copycat.testing.cluster import SimulatedCluster
from simulated_servers import TallyHandle


class OddDelay:
    """Counts as whatever it is asked for."""

    def as_it_is(self, other: object = None) -> Any:
        return self

    __ge__ = __radd__ = __mul__ = __round__ = as_it_is


class Asker(StateMachine):
    """Asks its commits for what they cannot do."""

    def __init__(self) -> None:
        self.fired = 0
        self.kept: Commit | None = None

    @command
    def times_fired(self, commit: Commit) -> int:
        return self.fired

    def fire(self, commit: Commit) -> None:
        self.fired += 1

    @command
    def keep_commit(self, commit: Commit) -> None:
        self.kept = commit

    @command
    def use_kept(self, commit: Commit, way: str) -> None:
        self.kept_used(way)

    @query
    def kept_used(self, way: str) -> None:
        assert self.kept is not None
        if way == "publish":
            self.kept.publish(self.kept.session, "ghost")
        elif way == "schedule":
            self.kept.schedule(0, self.fire)
        else:
            self.kept.cancel(1)

    @command
    def ask_oddly(self, commit: Commit, way: str) -> None:
        if way == "delay":
            commit.schedule(OddDelay(), self.fire)  # type: ignore[arg-type]
        elif way == "cancel":
            commit.cancel([1])  # type: ignore[arg-type]
        else:
            commit.schedule(0, self.fire)
            commit.cancel(None)  # type: ignore[arg-type]


class AskerHandle(TallyHandle):
    resource_type: ClassVar[str] = "asker"


def cluster_of(simulation: Simulation) -> SimulatedCluster:
    cluster = SimulatedCluster(simulation, catalog=Catalog({"asker": Asker}))
    cluster.start()
    return cluster


@pytest.mark.parametrize("way", ["delay", "cancel", "cancel after all"])
def test_what_no_commit_can_be_asked_for_fails_its_command(way: str) -> None:
    """All of it is checked where the machine asks, so that its command ends and no server."""
    with Simulation(42) as simulation:
        cluster = cluster_of(simulation)

        async def story() -> int:
            async with cluster.client() as client:
                asker = await client.open(AskerHandle, "e")
                with pytest.raises(OperationFailed) as caught:
                    await asker.command("ask_oddly", way)
                assert caught.value.kind == "TypeError"
                cluster.restart()
                answer: int = await asker.command("times_fired")
                return answer

        assert cluster.run(story(), timeout_s=60) == 0


@pytest.mark.parametrize("way", ["publish", "schedule", "cancel"])
def test_a_commit_that_a_machine_keeps_is_over(way: str) -> None:
    """Above all in a query, which only one server runs: what it published would be an event there
    and nowhere else, and all later ones would have other numbers."""
    with Simulation(43) as simulation:
        cluster = cluster_of(simulation)
        heard: list[str] = []

        async def story() -> None:
            async with cluster.client() as client:
                asker = await client.open(AskerHandle, "e")
                client.listen(asker.resource_id, lambda event, values, index: heard.append(event))
                await asker.command("keep_commit")
                with pytest.raises(QueryFailed) as asked:
                    await asker.query("kept_used", way)
                with pytest.raises(OperationFailed) as told:
                    await asker.command("use_kept", way)
                assert asked.value.kind == told.value.kind == "RuntimeError"
                assert await asker.command("times_fired") == 0
                await asyncio.sleep(1)

        cluster.run(story(), timeout_s=60)
        assert heard == []
