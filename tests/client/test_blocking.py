"""The blocking client: the same session for threads without an event loop."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from math import inf
from typing import Any, ClassVar, TypeVar

import pytest

from copycat.client.asynchronous import AsyncClient
from copycat.client.blocking import Client
from copycat.errors import (
    ClientClosed,
    InvalidArgument,
    InvalidType,
    NoLeader,
    SyncInAsyncError,
    Unreachable,
    WrongResourceType,
)
from fake_cluster import AsyncBag, AsyncSack, FakeCluster
from real_cluster import real_cluster

T = TypeVar("T")


class Bag:
    """Its blocking twin."""

    asynchronous: ClassVar[type[AsyncBag]] = AsyncBag

    def __init__(self, handle: AsyncBag, runner: Any) -> None:
        self.handle = handle
        self.runner = runner

    def add(self, value: Any, *, timeout_s: float | None = None) -> int:
        coroutine: Coroutine[Any, Any, int] = self.handle.add(value, timeout_s=timeout_s)
        count: int = self.runner.run(coroutine)
        return count


class Sack(Bag):
    asynchronous = AsyncSack


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with real_cluster() as cluster:
        yield cluster


def test_the_same_verbs(cluster: FakeCluster) -> None:
    """A blocking program opens, calls and closes."""
    with Client(*cluster.endpoints, name="worker") as client:
        assert client.state == "connected"
        assert client.session_id in cluster.sessions
        bag = client.open(Bag, "things")
        assert [bag.add(value) for value in "abc"] == [1, 2, 3]
        with pytest.raises(WrongResourceType):
            client.open(Sack, "things")
    assert client.state == "closed"
    assert not cluster.sessions
    client.close()
    with pytest.raises(ClientClosed):
        bag.add("d")


def test_threads_and_clients_share_one_thread(cluster: FakeCluster) -> None:
    """Several threads may use a client, and several clients cost one thread."""
    with Client(*cluster.endpoints) as first, first.new_session() as second:
        before = threading.active_count()
        bags = [first.open(Bag, "things"), second.open(Bag, "things")]

        def work(bag: Bag) -> None:
            for _ in range(20):
                bag.add(0)

        threads = [threading.Thread(target=work, args=(bags[number % 2],)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Client(*cluster.endpoints):
            assert threading.active_count() == before
        assert bags[0].add(1) == 121


def test_errors_name_every_endpoint() -> None:
    """A client that reaches nobody says so in time, and what each endpoint did."""
    with pytest.raises(Unreachable) as caught:
        Client("127.0.0.1:1", timeout_s=0.3)
    assert caught.value.causes == (("127.0.0.1:1", "connection refused"),)


def test_a_class_of_the_wrong_kind_is_refused(cluster: FakeCluster) -> None:
    """Of the other kind of client, or no handle at all: what to do instead is said."""
    with Client(*cluster.endpoints) as client:
        for wrong, name in ((AsyncBag, "AsyncBag"), ("bag", "'bag'")):
            with pytest.raises(InvalidType, match=f"{name} is no blocking handle.*AsyncClient"):
                client.open(wrong, "o")  # type: ignore[type-var, arg-type]

    async def story() -> None:
        async with AsyncClient(*cluster.endpoints) as client:
            with pytest.raises(InvalidType, match="Bag is no asyncio handle"):
                await client.open(Bag, "o")  # type: ignore[type-var]

    asyncio.run(story())


def test_a_deadline_ends_a_call(cluster: FakeCluster) -> None:
    """The error of an asyncio call is raised in the calling thread."""
    with Client(*cluster.endpoints) as client:
        bag = client.open(Bag, "things")
        cluster.leader = ""
        with pytest.raises(NoLeader):
            bag.add(1, timeout_s=0.2)
        cluster.leader = "n1"
        assert bag.add(1) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"endpoints": ("nowhere",)},
        {"endpoints": ("::1:7400",)},
        {"endpoints": ("host:99999",)},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"session_timeout_s": 0},
        {"server_selection": "nearest"},
        {"name": "a\n"},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    """What cannot work is refused before anything is sent."""
    endpoints = options.pop("endpoints", ("localhost:1",))
    with pytest.raises(InvalidArgument):
        Client(*endpoints, **options)


def test_endpoints_from_the_environment(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without endpoints the variable counts; without it, the error says what to do."""
    monkeypatch.setenv("COPYCAT_ENDPOINTS", " , ".join(cluster.endpoints))
    with Client() as client:
        assert client.state == "connected"
    monkeypatch.delenv("COPYCAT_ENDPOINTS")
    with pytest.raises(InvalidArgument, match="COPYCAT_ENDPOINTS"):
        Client()


def test_it_is_refused_in_a_running_loop(cluster: FakeCluster) -> None:
    """Blocking there would stop the loop; the error shows the asyncio spelling."""

    async def mistake() -> None:
        with pytest.raises(SyncInAsyncError, match="AsyncClient"):
            Client(*cluster.endpoints)
        with pytest.raises(SyncInAsyncError, match="AsyncClient"):
            bag.add(1)

    with Client(*cluster.endpoints) as client:
        bag = client.open(Bag, "things")
        asyncio.run(mistake())


def test_an_interrupt_gets_out_at_once(cluster: FakeCluster) -> None:
    """Ctrl-C ends the waiting of a call without a deadline, and the client goes on."""
    with Client(*cluster.endpoints) as client:
        bag = client.open(Bag, "things")
        cluster.mute = True

        def interrupt() -> None:
            while not cluster.lists:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            bag.add(1, timeout_s=inf)
        thread.join()
        cluster.mute = False
        assert bag.add(2, timeout_s=10.0) == 2


def test_after_a_fork(cluster: FakeCluster) -> None:
    """A client belongs to the process it was made in; a child makes its own, and exits cleanly."""
    program = f"""
import os, sys
from copycat.client.blocking import Client
from copycat.errors import InvalidArgument
client = Client(*{cluster.endpoints!r})
child = os.fork()
if not child:
    try:
        client.new_session()
    except InvalidArgument as error:
        assert "worker process" in str(error)
        with Client(*{cluster.endpoints!r}) as own:
            assert own.state == "connected"
        sys.exit(7)
_, status = os.waitpid(child, 0)
assert client.new_session().state == "connected"
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 7, done.stderr.decode()
    assert not cluster.sessions  # all were closed at exit


def test_an_asyncio_client_on_real_sockets(cluster: FakeCluster) -> None:
    """The network world carries what the simulated one does."""

    async def run() -> list[int]:
        async with AsyncClient(*cluster.endpoints) as client:
            bag = await client.open(AsyncBag, "things")
            return await asyncio.gather(*[bag.add(number) for number in range(1000)])

    assert asyncio.run(run()) == list(range(1, 1001))


def test_a_server_known_by_two_names_is_one_server(cluster: FakeCluster) -> None:
    """An endpoint that is spelt differently from the server's own does not disturb the session."""
    spelt = [endpoint.replace("127.0.0.1", "localhost") for endpoint in cluster.endpoints]

    async def run() -> str:
        async with AsyncClient(*spelt) as client:
            await client.submit_command(1, "append", 1)
            cluster.elect("n2")
            connection = cluster.sessions[client.session_id].connection
            for number in range(2, 100):
                assert await client.submit_command(1, "append", number) == number
                connection = cluster.sessions[client.session_id].connection
                assert connection is not None
                if connection.name == "n2":
                    break
                await asyncio.sleep(0.05)
            assert connection is not None
            return connection.name

    assert asyncio.run(run()) == "n2"
