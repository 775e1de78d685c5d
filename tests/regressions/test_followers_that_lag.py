"""A follower that is slow, silent or far behind is sent what it lacks once, in small pieces, and
shakes nobody."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from copycat.actors.cell import Cell
from copycat.actors.simulation import Simulation
from copycat.resources.map import AsyncDistributedMap
from copycat.server.membership import LOST_DATA
from copycat.server.replicator import REQUEST_BATCHES_MAX, Replicator
from copycat.server.server import Server
from copycat.storage.log import Log
from copycat.testing.cluster import SimulatedCluster

VALUE = "x" * 20_000
WRITES = 100
LACKING_BYTES = WRITES * len(VALUE)


@dataclass
class Sent:
    """What a leader has sent to one follower.

    Attributes:
        size_bytes: of all records.
        requests: the number of records in each request.
        in_one_handler_max: how many requests with records one handler sent.
    """

    size_bytes: int
    requests: list[int]
    in_one_handler_max: int


@contextmanager
def counted(follower: str) -> Iterator[Sent]:
    """Count what all leaders send to this follower."""
    counted = Sent(0, [], 0)
    in_handler = 0
    send, handle = Replicator._send, Cell.handle

    def count(one: Replicator, now_s: float, records: list[bytes], last_index: int) -> None:
        nonlocal in_handler
        if records and one._peer.name == follower:
            counted.size_bytes += sum(map(len, records))
            counted.requests.append(len(records))
            in_handler += 1
        send(one, now_s, records, last_index)

    def count_handler(cell: Cell, message: Any, sender: Any) -> Any:
        nonlocal in_handler
        in_handler = 0
        try:
            return handle(cell, message, sender)
        finally:
            counted.in_one_handler_max = max(counted.in_one_handler_max, in_handler)

    with patch.object(Replicator, "_send", count), patch.object(Cell, "handle", count_handler):
        yield counted


@contextmanager
def two_of_three() -> Iterator[tuple[SimulatedCluster, str, str]]:
    """A cluster with its leader and one of the others."""
    with Simulation(1) as world:
        cluster = SimulatedCluster(world)
        cluster.start()
        leader = cluster.wait_for_leader()
        cluster.settle()
        yield cluster, leader, next(name for name in cluster.names if name != leader)


async def write(cluster: SimulatedCluster, times: int = WRITES, pause_s: float = 0) -> None:
    """Put large values, one after the other."""
    async with cluster.client(timeout_s=60) as client:
        entries = await client.open(AsyncDistributedMap, "m")
        for number in range(times):
            await entries.put(number, VALUE)
            await asyncio.sleep(pause_s)


def catch_up(cluster: SimulatedCluster, leader: str, behind: str, timeout_s: float) -> None:
    last_index = cluster.server(leader).log.last_index
    cluster.run_until(
        lambda: cluster.server(behind).log.last_index >= last_index, timeout_s=timeout_s
    )


def elections(cluster: SimulatedCluster) -> int:
    return sum(cluster.server(name).counters.elections_started for name in cluster.names)


def test_what_is_under_way_on_a_slow_link_is_not_sent_again() -> None:
    """Over 250 kB a second 2 MB take 8 s; until then nothing is answered in time, and each copy
    would wait behind the others."""
    with two_of_three() as (cluster, leader, behind):
        cluster.crash(behind)
        cluster.run(write(cluster), timeout_s=60)
        assert cluster.leader() == leader
        cluster.simulation.network.clog(leader, behind, 250_000, 32 << 20)
        with counted(behind) as sent:
            cluster.start(behind)
            catch_up(cluster, leader, behind, timeout_s=12)
        assert sent.size_bytes < 1.2 * LACKING_BYTES


def test_heartbeats_do_not_wait_for_long_behind_what_a_slow_link_carries() -> None:
    """Requests are as small as the link wants them, so the follower goes on hearing its leader."""
    with two_of_three() as (cluster, leader, behind):
        cluster.crash(behind)
        cluster.run(write(cluster), timeout_s=60)
        cluster.simulation.network.clog(leader, behind, 250_000, 32 << 20)
        cluster.start(behind)
        server: Server = cluster.server(behind)
        cluster.run_until(lambda: server.leader == leader, timeout_s=3)
        heard_s, longest_s = cluster.simulation.now_s, 0.0
        hear_leader = server.hear_leader

        def hear(server_id: int) -> None:
            nonlocal heard_s, longest_s
            longest_s = max(longest_s, cluster.simulation.now_s - heard_s)
            heard_s = cluster.simulation.now_s
            hear_leader(server_id)

        with patch.object(server, "hear_leader", hear):
            catch_up(cluster, leader, behind, timeout_s=12)
        assert longest_s < cluster.options(behind).election_timeout_max_s


def test_a_follower_that_was_cut_off_is_fed_once_and_nobody_is_deposed() -> None:
    """For 20 s nothing reaches it and its connections stay up; what is written meanwhile goes to
    it when it answers again."""
    with two_of_three() as (cluster, leader, behind):
        before = elections(cluster)
        cluster.simulation.network.cut(leader, behind)
        with counted(behind) as sent:
            cluster.run(write(cluster, pause_s=0.2), timeout_s=60)
            assert sent.size_bytes < LACKING_BYTES / 10
            cluster.heal()
            catch_up(cluster, leader, behind, timeout_s=12)
        assert sent.size_bytes < 1.2 * LACKING_BYTES
        assert (cluster.leader(), elections(cluster) - before) == (leader, 0)


def test_a_follower_whose_disk_is_slow_is_fed_once() -> None:
    """Syncs of 2 s: it answers late, and everything that it was sent."""
    with two_of_three() as (cluster, leader, behind):
        with counted(behind) as sent:
            for _ in range(5):
                cluster.disks[behind].stall(2)
                cluster.run(write(cluster, WRITES // 5, pause_s=0.1), timeout_s=60)
            catch_up(cluster, leader, behind, timeout_s=12)
        assert sent.size_bytes < 1.2 * LACKING_BYTES
        assert cluster.leader() == leader


def test_one_handler_sends_one_request_and_reads_no_more() -> None:
    """However far behind the follower is, and however small the batches are, which stand on the
    disk only."""
    reads: list[int] = []
    stored = Log._stored

    def read(log: Log, ordinal: int, bytes_max: int, count_max: int) -> list[bytes]:
        reads.append(count_max)
        return stored(log, ordinal, bytes_max, count_max)

    async def write_little() -> None:
        async with cluster.client(timeout_s=60) as client:
            entries = await client.open(AsyncDistributedMap, "m")
            for number in range(3 * REQUEST_BATCHES_MAX):
                await entries.put(number, "")

    assert Log.__init__.__kwdefaults__ is not None
    with patch.dict(Log.__init__.__kwdefaults__, cache_bytes=0), two_of_three() as found:
        cluster, leader, behind = found
        cluster.crash(behind)
        cluster.run(write_little(), timeout_s=60)
        with counted(behind) as sent, patch.object(Log, "_stored", read):
            cluster.start(behind)
            catch_up(cluster, leader, behind, timeout_s=12)
    assert sent.in_one_handler_max == 1
    assert max(sent.requests) <= REQUEST_BATCHES_MAX
    assert len(sent.requests) < 10
    assert reads.count(REQUEST_BATCHES_MAX) == len(sent.requests)


def test_a_follower_that_has_lost_what_it_acknowledged_is_refused_and_told() -> None:
    """Its directory is a copy from earlier in the same life: the leader remembers more than it has. It stops by
    itself, and was met: what it may have promised meanwhile is in no other copy."""
    with Simulation(1) as world:
        cluster = SimulatedCluster(world, monitored=False)
        cluster.start()
        leader = cluster.wait_for_leader()
        behind = next(name for name in cluster.names if name != leader)
        disk = cluster.disks[behind]
        cluster.settle()
        earlier = disk.image()
        cluster.run(write(cluster, 5), timeout_s=60)
        cluster.settle()
        cluster.crash(behind)
        latest = disk.image()
        disk.restore(earlier)
        cluster.lost.add(behind)
        cluster.start(behind)
        cluster.run_until(lambda: not cluster.is_running(behind), timeout_s=5)
        notes = cluster.server(leader).notes.all()
        assert (cluster.leader(), cluster.refusals) == (leader, 1)
        assert any(f"refused {behind}: {LOST_DATA}" in note for note in notes)
        cluster.run(write(cluster, 5), timeout_s=60)
        disk.restore(latest)
        cluster.start(behind)
        cluster.run_until(lambda: not cluster.is_running(behind), timeout_s=5)
        assert cluster.refusals == 2, "nor is the newest copy: there was a life without it"
        assert cluster.leader() == leader
