"""Worlds in which servers crash and links break while commands end by anything but a result."""

import asyncio
import itertools
import sys
from typing import Any, ClassVar

from copycat.errors import NotApplied, OperationFailed, OutcomeUnknown, QueryFailed
from copycat.machine import Commit, StateMachine, command, query
from copycat.testing import World, simulated

WAYS = ("exit", "cancel", "close", "recurse", "raise", "return")


def end(way: str) -> None:
    """End in this way."""
    if way == "exit":
        sys.exit(f"by {way}")
    if way == "cancel":
        raise asyncio.CancelledError
    if way == "close":
        raise GeneratorExit
    if way == "recurse":
        end(way)
    if way == "raise":
        raise ValueError(way)


class OddMachine(StateMachine):
    """Counts, and then ends in a way; timers and ends of sessions do so, too."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(WAYS, 0)
        self.fired = 0
        self.sessions_ended = 0

    @command
    def count(self, commit: Commit, way: str) -> int:
        self.counts[way] += 1
        commit.publish(commit.session, "counted", way)
        commit.schedule(0.05, self.fire, way)
        end(way)
        return self.counts[way]

    @query
    def look(self, way: str) -> list[Any]:
        end(way)
        return [dict(self.counts), self.fired, self.sessions_ended]

    def fire(self, commit: Commit, way: str) -> None:
        self.fired += 1
        end("cancel" if self.fired % 2 else way)

    def session_ended(self, commit: Commit, session: int) -> None:
        self.sessions_ended += 1
        end(WAYS[self.sessions_ended % len(WAYS)])


class OddHandle:
    """The least a handle can be."""

    resource_type: ClassVar[str] = "odd"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: Any, resource: int, name: str) -> None:
        self.client, self.resource = client, resource


# What loses data, or doubles messages, would blur what is known of each call.
FAULTS = (
    "crash", "crash leader", "crash all", "kill", "pause", "partition", "isolate leader", "one way",
    "reset", "slow disk", "failed sync",
)  # fmt: skip


@simulated(seeds=12, catalog={"odd": OddMachine}, harm_s=4.0, faults=FAULTS)
async def test_commands_that_end_by_anything_are_counted_once(world: World) -> None:
    """Each end is told with what is known; what was carried out is on every server, at each replay."""
    done = dict.fromkeys(WAYS, 0)
    unknown = dict.fromkeys(WAYS, 0)
    heard: list[str] = []

    async def work(client: Any, ways: Any, calm: asyncio.Task[None]) -> None:
        odd = await client.open(OddHandle, "odd", timeout_s=60)
        client.listen(odd.resource, lambda name, values, index: heard.append(values[0]))
        while not calm.done():
            way = next(ways)
            try:
                await client.submit_command(odd.resource, "count", way, timeout_s=1.0)
                assert way == "return"
                done[way] += 1
            except OperationFailed:
                assert way != "return"
                done[way] += 1
            except OutcomeUnknown:
                unknown[way] += 1
            except NotApplied:
                pass
            try:
                await client.submit_query(odd.resource, "look", way, timeout_s=1.0)
                assert way == "return"
            except QueryFailed:
                assert way != "return"
            except NotApplied:
                pass
            await asyncio.sleep(world.chance.random() * 0.05)

    calm = asyncio.create_task(world.calm())
    ways = itertools.cycle(WAYS)
    async with world.client(session_timeout_s=2.0) as first:
        async with world.client(session_timeout_s=2.0) as second:
            await asyncio.gather(work(first, ways, calm), work(second, ways, calm))
        world.cluster.restart()
        odd = await first.open(OddHandle, "odd", timeout_s=60)
        counts, _, _ = await first.submit_query(odd.resource, "look", "return", timeout_s=60)
        for way in WAYS:
            assert done[way] <= counts[way] <= done[way] + unknown[way]
        assert sum(done.values()) > 0
        assert set(heard) <= {"return"}
