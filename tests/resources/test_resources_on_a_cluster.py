"""The four resources on real servers, through the blocking client, while a leader dies."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import copycat
from copycat.actors.simulation import Simulation
from copycat.errors import InvalidArgument, SessionExpired
from copycat.local_cluster import LocalCluster
from copycat.resources import (
    AsyncDistributedLock,
    DistributedCounter,
    DistributedLock,
    DistributedMap,
    DistributedTopic,
)
from copycat.resources.counter import CounterMachine
from copycat.resources.lock import LockMachine
from copycat.resources.map import MapMachine
from copycat.resources.topic import TopicMachine
from copycat.testing.cluster import SimulatedCluster

TYPES = {
    "counter": CounterMachine,
    "lock": LockMachine,
    "map": MapMachine,
    "topic": TopicMachine,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three servers; each test kills a leader and puts it back."""
    with copycat.local(nodes=3, types=TYPES) as servers:
        yield servers


def test_everything_survives_its_leader(cluster: LocalCluster) -> None:
    """State, subscriptions and what is held go on over another server, without gap or doubt."""
    client = cluster.client()
    users = client.open(DistributedMap[str, int], "users")
    hits = client.open(DistributedCounter, "hits")
    lock = client.open(DistributedLock, "nightly")
    news = client.open(DistributedTopic[str], "news")
    users.update({f"user {number}": number for number in range(1_000)})
    hits.increment()
    with news.subscribe() as messages, lock.acquire(timeout_s=10) as grant:
        news.publish("before")
        killed = cluster.kill_leader()
        news.publish("after")
        assert [next(messages), next(messages)] == ["before", "after"]
        assert hits.increment() == 2
        assert len(dict(users.items())) == 1_000
        grant.check()
    cluster.restart(killed)


@pytest.mark.parametrize("wrong", ["sequential", "LINEARIZABLE", None, 7, [1]])
def test_a_consistency_that_there_is_not_is_refused_at_once(
    cluster: LocalCluster, wrong: Any
) -> None:
    """Nothing is sent, and the error names those that there are."""
    users = cluster.client().open(DistributedMap[str, int], "users")
    known = (
        r"consistency is copycat.Consistency.LINEARIZABLE or copycat.Consistency.SEQUENTIAL, not"
    )
    with pytest.raises(InvalidArgument, match=known):
        users.get("user 1", consistency=wrong)
    users["user 1"] = 1
    assert users.get("user 1", consistency=copycat.Consistency.SEQUENTIAL) == 1


def test_closing_ends_a_lock_request_as_what_it_is() -> None:
    """A client whose cluster is silent takes a second to close; who waits for a lock in it is told at
    once, and not that the lock was not free."""
    with Simulation(3) as simulation:
        servers = SimulatedCluster(simulation)
        servers.start()

        async def story() -> None:
            client = servers.client()
            await client.connect()
            lock = await client.open(AsyncDistributedLock, "nightly")
            for name in servers.names:
                servers.crash(name, silent=True)
            waiting = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.1)
            closing = asyncio.create_task(client.close())
            with pytest.raises(SessionExpired):
                await waiting
            assert not closing.done()
            assert client.state == "closed"
            await closing
            assert client.state == "closed"

        simulation.run(story(), timeout_s=60)


def test_without_a_leader_there_is_none_to_kill() -> None:
    """The error says what is missing."""
    with copycat.local(nodes=3, types=TYPES) as servers:
        servers.kill_leader()
        servers.kill_leader()
        with pytest.raises(TimeoutError, match=r"has led for 0\.3 s: 1 of 3 run, and 2 have to"):
            servers.kill_leader(timeout_s=0.3)


def test_a_lock_excludes_clients_of_a_cluster(cluster: LocalCluster) -> None:
    """Threads with sessions of their own enter one at a time, and nobody is left out."""
    inside: list[str] = []
    order: list[tuple[str, int]] = []

    def work(name: str, lock: DistributedLock) -> None:
        for _ in range(5):
            with lock.acquire(timeout_s=30) as grant:
                inside.append(name)
                assert inside == [name]
                order.append((name, grant.token))
                inside.clear()

    threads = [
        threading.Thread(
            target=work, args=(name, cluster.client().open(DistributedLock, "exclusive"))
        )
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    killed = cluster.kill_leader()
    for thread in threads:
        thread.join()
    cluster.restart(killed)
    tokens = [token for _, token in order]
    assert len(order) == 15
    assert tokens == sorted(set(tokens))
