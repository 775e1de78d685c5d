"""Calm: when a majority is well the monitors of time judge it, whatever the others are."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from math import inf
from typing import Any
from unittest.mock import patch

import pytest

import bugs_of_time
from copycat.actors import actor
from copycat.actors.environment import Identity
from copycat.actors.simulation import Simulation
from copycat.client.asynchronous import AsyncClient
from copycat.client.patience import Patience
from copycat.errors import LockTimeout
from copycat.resources.lock import AsyncDistributedLock
from copycat.resources.topic import AsyncDistributedTopic
from copycat.testing import rules
from copycat.testing.calm import Calm
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.event_times import EVENTS_WITHIN_S
from copycat.testing.violation import InvariantViolated

WORK_S = 12.0
SESSION_TIMEOUT_S = 1.0


@contextmanager
def led_cluster() -> Iterator[SimulatedCluster]:
    """Three servers, of which one leads."""
    with Simulation(3) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        cluster.wait_for_leader()
        yield cluster


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    with led_cluster() as cluster:
        yield cluster


def looked_at(cluster: SimulatedCluster) -> Calm:
    """The calm of a world, when it was looked at last."""
    assert cluster.monitors is not None, "a cluster is monitored"
    return cluster.monitors.timeliness.calm


def calm_of(cluster: SimulatedCluster) -> Calm:
    """The calm of a world, a moment later."""
    cluster.simulation.run_for(0.1)
    return looked_at(cluster)


def followers(cluster: SimulatedCluster) -> list[str]:
    return [name for name in cluster.names if name != cluster.leader()]


def deafen(cluster: SimulatedCluster, name: str) -> None:
    for other in cluster.names:
        if other != name:
            cluster.simulation.network.cut_one_way(other, name)


def stop(cluster: SimulatedCluster, name: str) -> None:
    cluster.crash(name, silent=True)


def slow_down(cluster: SimulatedCluster, name: str) -> None:
    cluster.disks[name].latency_factor = 50.0


WAYS = [deafen, stop, slow_down]


@pytest.mark.parametrize("harm", WAYS)
def test_the_core_is_who_is_well(
    cluster: SimulatedCluster, harm: Callable[[SimulatedCluster, str], None]
) -> None:
    """One server that is not leaves the other two, and calm begins anew with that."""
    before_s = calm_of(cluster).since_s
    other = followers(cluster)[0]
    harm(cluster, other)
    calm = calm_of(cluster)
    assert calm.core == tuple(name for name in cluster.names if name != other)
    assert before_s is not None
    assert calm.since_s is not None
    assert calm.since_s > before_s


def test_there_is_no_calm_without_a_majority_that_is_well(cluster: SimulatedCluster) -> None:
    """A slow disk and a wrong clock, each at one of three servers, are too much."""
    first, second = followers(cluster)
    slow_down(cluster, first)
    assert calm_of(cluster).since_s is not None
    cluster.node(second).clock.rate = 1.05
    assert calm_of(cluster).since_s is None


def test_who_is_cut_from_a_client_is_not_of_the_core(cluster: SimulatedCluster) -> None:
    """Nothing is demanded of a server for a client that it cannot reach; a client that is cut from
    a majority leaves no calm."""

    async def story() -> None:
        async with cluster.client(name="reader"):
            cluster.simulation.network.cut_one_way("n1", "reader")
            await asyncio.sleep(0.1)
            assert looked_at(cluster).core == ("n2", "n3")
            cluster.simulation.network.cut_one_way("reader", "n2")
            await asyncio.sleep(0.1)
            assert looked_at(cluster).since_s is None
            cluster.heal()
            await asyncio.sleep(0.1)
            assert looked_at(cluster).core == cluster.names

    cluster.run(story(), timeout_s=10)


async def connected(cluster: SimulatedCluster, client: AsyncClient) -> AsyncClient:
    await client.connect()
    assert cluster.monitors is not None, "a cluster is monitored"
    cluster.monitors.watch(client)
    return client


async def work(cluster: SimulatedCluster) -> None:
    """A client hears what it publishes, and waits in vain for a lock that another one holds."""
    holder, waiter = [
        await connected(cluster, cluster.client(name=name, session_timeout_s=SESSION_TIMEOUT_S))
        for name in ("holder", "waiter")
    ]
    held = await holder.open(AsyncDistributedLock, "lock")
    await held.acquire()
    wanted = await waiter.open(AsyncDistributedLock, "lock")
    news = await waiter.open(AsyncDistributedTopic, "news")
    await news.subscribe().__aenter__()
    await news.publish("hear, hear")
    with suppress(LockTimeout):
        await wanted.acquire(timeout_s=0.5)
    await asyncio.sleep(WORK_S)


@pytest.mark.parametrize("harm", WAYS)
@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (bugs_of_time.sends_no_events, rules.EVENTS_SOON),
        (bugs_of_time.lets_log_time_crawl, rules.TIMERS_ON_TIME),
        (bugs_of_time.gives_up_after_a_while, rules.LED),
        (bugs_of_time.hears_no_keep_alives, rules.SESSIONS_KEPT),
    ],
)
def test_a_bug_is_seen_though_only_a_majority_is_well(
    harm: Callable[[SimulatedCluster, str], None],
    plant: Callable[[], AbstractContextManager[Any]],
    rule: str,
) -> None:
    """The monitors of time do not wait for the last server to be repaired."""
    with patch.dict(actor._tables, clear=True), plant(), led_cluster() as cluster:
        harm(cluster, followers(cluster)[0])
        with pytest.raises(InvariantViolated) as caught:
            cluster.run(work(cluster), timeout_s=3 * WORK_S)
    assert caught.value.rule == rule


async def hear(cluster: SimulatedCluster) -> float:
    """A client whose server has died without a word hears what is published then; after how long."""
    used = followers(cluster)[0]
    endpoints = (cluster.peers[used], *cluster.endpoints)
    node = cluster.simulation.node(Identity("reader"))
    reader = await connected(
        cluster,
        AsyncClient(*endpoints, node=node, server_selection="any", session_timeout_s=5.0),
    )
    news = await reader.open(AsyncDistributedTopic, "news")
    messages = await news.subscribe().__aenter__()
    publisher = await connected(cluster, cluster.client(name="publisher"))
    stop(cluster, used)
    began_s = cluster.simulation.now_s
    await (await publisher.open(AsyncDistributedTopic, "news")).publish("hear, hear")
    assert await anext(messages) == "hear, hear"
    return cluster.simulation.now_s - began_s


def test_a_client_has_time_to_notice_that_its_server_is_gone(cluster: SimulatedCluster) -> None:
    """It asks it something after a third of its time-out, and waits for an answer: that takes longer
    than an event may, and no rule is broken."""
    assert cluster.run(hear(cluster), timeout_s=WORK_S) > EVENTS_WITHIN_S


def test_a_client_that_stays_with_a_server_that_is_gone_is_noticed(
    cluster: SimulatedCluster,
) -> None:
    """The time that it has to leave comes to an end before its session does."""
    with (
        patch.object(Patience, "ends_at_s", lambda *_: inf),
        pytest.raises(InvariantViolated) as caught,
    ):
        cluster.run(hear(cluster), timeout_s=3 * WORK_S)
    assert caught.value.rule == rules.EVENTS_SOON
