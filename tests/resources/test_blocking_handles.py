"""The blocking handles: written from the asyncio ones, a dict to Python, usable from any thread."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator, MutableMapping
from typing import Any, TypeVar

import pytest

import copycat.resources
from copycat.errors import InvalidType, LockLost, LockTimeout
from copycat.machine import StateMachine
from copycat.resources import (
    AsyncDistributedCounter,
    AsyncDistributedLock,
    AsyncDistributedMap,
    AsyncDistributedTopic,
    DistributedCounter,
    DistributedLock,
    DistributedMap,
    DistributedTopic,
    Gap,
    Put,
)
from copycat.resources.counter import CounterMachine
from copycat.resources.handle import AsyncHandle
from copycat.resources.lock import LockMachine
from copycat.resources.map import MapMachine
from copycat.resources.topic import TopicMachine
from driven import RESOURCE
from fake_client import FakeClient, FakeCluster
from sources import ROOT

T = TypeVar("T")


class LoopThread:
    """A runner: an event loop on a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def call(self, function: Any, *arguments: Any) -> Any:
        async def called() -> Any:
            return function(*arguments)

        return self.run(called())

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def runner() -> Iterator[LoopThread]:
    """A loop that ends with the test."""
    thread = LoopThread()
    yield thread
    thread.stop()


def client_of(machine: type[StateMachine]) -> FakeClient:
    """A client of a cluster of its own."""
    return FakeCluster(machine).client()


@pytest.fixture
def users(runner: LoopThread) -> DistributedMap[Any, Any]:
    """An empty map."""
    client = client_of(MapMachine)
    return DistributedMap(AsyncDistributedMap(client, RESOURCE, "users"), runner)


def test_the_files_are_those_that_the_tool_writes() -> None:
    """Nobody edits them by hand, and nobody forgets to write them anew."""
    tool = ROOT / "tools" / "blocking_handles.py"
    run = subprocess.run(
        [sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", ["Counter", "Lock", "Map", "Topic"])
def test_both_kinds_of_handles_have_the_same_verbs(name: str) -> None:
    """Whoever knows one knows the other: same names, same arguments."""
    asynchronous = getattr(copycat.resources, f"AsyncDistributed{name}")
    blocking = getattr(copycat.resources, f"Distributed{name}")
    assert issubclass(asynchronous, AsyncHandle)
    assert blocking.asynchronous is asynchronous
    for verb, method in vars(asynchronous).items():
        if verb.startswith("_") or not inspect.isfunction(method):
            continue
        twin = getattr(blocking, verb)
        assert inspect.getdoc(twin), verb
        if verb not in ("keys", "values", "items"):  # views, as dicts have them
            assert list(inspect.signature(twin).parameters) == list(
                inspect.signature(method).parameters
            ), verb


@pytest.mark.parametrize(
    ("handle", "machine"),
    [
        (AsyncDistributedCounter, CounterMachine),
        (AsyncDistributedLock, LockMachine),
        (AsyncDistributedMap, MapMachine),
        (AsyncDistributedTopic, TopicMachine),
    ],
)
def test_handles_speak_to_their_machines(
    handle: type[AsyncHandle], machine: type[StateMachine]
) -> None:
    """Type and version are those under which the servers know the machine."""
    assert handle.resource_version == machine.version
    assert machine.__module__ == f"copycat.resources.{handle.resource_type}"


def test_a_map_is_a_mutable_mapping(users: DistributedMap[Any, Any]) -> None:
    """All that a dict does works, and answers as a dict does."""
    assert isinstance(users, MutableMapping)
    assert not users
    users["a"] = 1
    users.update({"b": 2}, c=None)
    users.update([("d", 4)])
    assert (len(users), users["a"], users.get("x"), users.get("x", 9)) == (4, 1, None, 9)
    assert list(users) == ["a", "b", "c", "d"]
    assert list(users.items()) == [("a", 1), ("b", 2), ("c", None), ("d", 4)]
    assert list(users.values()) == [1, 2, None, 4]
    assert 2 in users.values()
    assert ("b", 2) in users.items()
    assert ("b", 3) not in users.items()
    assert "c" in users
    assert users.keys() & {"a", "z"} == {"a"}
    assert users.setdefault("c", 5) is None
    assert users.setdefault("e", 5) == 5
    assert users.pop("e") == 5
    assert users.pop("e", 6) == 6
    assert users.pop("c", 7) is None, "a stored None is something"
    assert users.popitem() == ("d", 4)
    del users["b"]
    with pytest.raises(KeyError):
        users["b"]
    with pytest.raises(KeyError):
        users.pop("b")
    with pytest.raises(KeyError):
        del users["b"]
    users.clear()
    with pytest.raises(KeyError):
        users.popitem()
    with pytest.raises(InvalidType):
        users["a"] = {1}
    assert users.to_dict() == {}


def test_every_method_of_the_mapping_is_one_command(runner: LoopThread) -> None:
    """None of them reads and then writes, or asks key by key."""
    client = client_of(MapMachine)
    users: DistributedMap[str, int] = DistributedMap(
        AsyncDistributedMap(client, RESOURCE, "users"), runner
    )
    users.update({"a": 1, "b": 2})
    for call in (
        lambda: users.setdefault("a", 1),
        lambda: users.update(a=1, b=2),
        lambda: users.pop("a"),
        users.popitem,
        lambda: [*iter(users.items())],
        lambda: [*iter(users.values())],
        lambda: 3 in users.values(),
        users.clear,
        lambda: users.get("a"),
        lambda: users.__setitem__("a", 1),
        lambda: users.__delitem__("a"),
        lambda: len(users),
    ):
        client.submitted.clear()
        call()
        assert len(client.submitted) == 1
    client.submitted.clear()
    assert (repr(users), users.name) == ("<DistributedMap 'users'>", "users")
    assert users == users  # noqa: PLR0124  identity is what is shown
    assert users != {}
    assert {users: 1}[users] == 1
    assert not client.submitted, "none of this asks the cluster"


def test_iteration_goes_page_by_page(users: DistributedMap[Any, Any]) -> None:
    """Pages are read when they are needed, and a key removed meanwhile does not come."""
    users.update({number: number for number in range(1_200)})
    keys = iter(users)
    assert [next(keys) for _ in range(500)] == list(range(500))
    del users[700]
    assert 700 not in list(keys)


def test_watching_blocks_until_something_happens(
    runner: LoopThread, users: DistributedMap[Any, Any]
) -> None:
    """A loop over events runs on while another thread writes, and ends with its block."""
    seen: list[Any] = []
    enough = threading.Event()
    with users.watch() as events:

        def reader() -> None:
            for event in events:
                seen.append(event)
                if len(seen) == 2:
                    enough.set()

        thread = threading.Thread(target=reader)
        thread.start()
        users["a"] = 1
        users["b"] = 2
        assert enough.wait(10)
    thread.join(10)
    assert not thread.is_alive()
    assert [(event.key, event.value) for event in seen if isinstance(event, Put)] == [
        ("a", 1),
        ("b", 2),
    ]


def test_a_topic_is_read_by_a_plain_loop(runner: LoopThread) -> None:
    """Messages and gaps come as items."""
    client = client_of(TopicMachine)
    topic: DistributedTopic[str] = DistributedTopic(
        AsyncDistributedTopic(client, RESOURCE, "news"), runner
    )
    with topic.subscribe() as messages:
        topic.publish("one")
        assert next(messages) == "one"
        runner.call(client.lose_session)
        assert isinstance(next(messages), Gap)
        assert topic.subscriptions() == 1


def test_a_lock_is_held_by_a_with_block(runner: LoopThread) -> None:
    """The grant is the context manager; a time-out is an error, so the block is not entered."""
    cluster = FakeCluster(LockMachine)
    client, other = cluster.client(), cluster.client()
    mine, theirs = (
        DistributedLock(AsyncDistributedLock(one, RESOURCE, "nightly"), runner)
        for one in (client, other)
    )
    with mine.acquire() as grant:
        grant.check()
        assert repr(grant) == f"<LockGrant 'nightly', token {grant.token}, held>"
        assert theirs.try_acquire() is None
        holder = theirs.holder()
        assert holder is not None
        assert holder.token == grant.token

        def wait() -> None:
            with pytest.raises(LockTimeout):
                theirs.acquire(timeout_s=1)
            timed_out.set()

        timed_out = threading.Event()
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not mine.waiting():
            pass
        runner.call(cluster.pass_time, 1.0)
        waiting.join()
        assert timed_out.is_set()
    with pytest.raises(LockLost), theirs.acquire(timeout_s=5) as grant:
        runner.call(other.turn, "suspended")
        assert grant.lost.is_set()
        grant.lost.wait()
        assert not grant.release()
        with pytest.raises(LockLost):
            grant.check()
        runner.call(other.turn, "connected")
        with mine.acquire() as again:
            assert again.token > grant.token
            again.check()
            runner.call(client.turn, "lost")


def test_a_counter_counts(runner: LoopThread) -> None:
    """The simplest handle of all."""
    hits = DistributedCounter(
        AsyncDistributedCounter(client_of(CounterMachine), RESOURCE, "hits"), runner
    )
    assert (hits.increment(), hits.increment(5), hits.value()) == (1, 6, 6)


def test_names_are_loaded_when_they_are_used() -> None:
    """Importing the package loads no resource, and every promised name has a home."""
    program = (
        "import copycat.resources, sys;"
        "print(*(n for n in sys.modules if n.startswith('copycat.resources.')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.split() == []
    for name in copycat.resources.__all__:
        assert getattr(copycat.resources, name) is getattr(copycat.resources, name)
    assert set(copycat.resources.__all__) <= set(dir(copycat.resources))
    name = "nothing"
    with pytest.raises(AttributeError):
        getattr(copycat.resources, name)
