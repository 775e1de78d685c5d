"""Calls that cannot work, and commands that are interrupted: typed, and nothing is changed."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from copycat import Client, NotApplied
from copycat.errors import (
    InvalidArgument,
    InvalidType,
    Rejected,
    TooLarge,
    UnknownResourceType,
    WrongResourceType,
)
from copycat.resources import (
    AsyncDistributedCounter,
    DistributedCounter,
    DistributedLock,
    DistributedMap,
    DistributedTopic,
)
from copycat.types import VALUE_BYTES_MAX
from process_cluster import COPYCAT, HOST, WAIT_S, ProcessCluster

LARGEST = VALUE_BYTES_MAX - 5  # its encoding has a head


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Three servers that all tests share, and none harms."""
    with ProcessCluster(tmp_path_factory.mktemp("calls")) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: ProcessCluster) -> Iterator[Client]:
    """A blocking client."""
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
        yield client


def test_the_largest_value_is_taken_and_a_larger_one_refused(client: Client) -> None:
    """By every resource that keeps values; what was there stays."""
    files = client.open(DistributedMap, "files")
    files["a"] = bytes(LARGEST)
    with pytest.raises(TooLarge):
        files["a"] = bytes(LARGEST + 1)
    with pytest.raises(TooLarge):
        files["k" * 100_000] = 1
    with pytest.raises(TooLarge):
        client.open(DistributedTopic, "news").publish(bytes(LARGEST + 1))
    assert files["a"] == bytes(LARGEST)
    assert list(files) == ["a"]


def test_put_many_of_too_many_keys_is_refused(client: Client) -> None:
    """It is atomic, so it is bounded; an update is divided, and takes any number."""
    entries = client.open(DistributedMap, "many")
    with pytest.raises(TooLarge):
        entries.put_many({number: number for number in range(1_001)})
    assert len(entries) == 0
    entries.update({number: number for number in range(2_500)})
    assert len(entries) == 2_500


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (1.5, 1, InvalidType),
        (None, 1, InvalidType),
        (True, 1, InvalidType),
        (("a", "b"), 1, InvalidType),
        (2**63, 1, InvalidArgument),
        ("\ud800", 1, InvalidArgument),
        ("a", object(), InvalidType),
        ("a", {1, 2}, InvalidType),
        ("a", [[[...]]], InvalidType),
    ],
)
def test_keys_and_values_of_wrong_types_are_refused(
    client: Client, key: Any, value: Any, error: type[NotApplied]
) -> None:
    """With a type that says so, and nothing is stored."""
    typed = client.open(DistributedMap, "typed")
    with pytest.raises(error):
        typed[key] = value
    assert len(typed) == 0


def test_a_value_that_is_nested_too_deep_is_refused(client: Client) -> None:
    """Before it is sent."""
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    with pytest.raises(InvalidType):
        client.open(DistributedMap, "deep")["a"] = value


HANDLES = [DistributedMap, DistributedCounter, DistributedLock, DistributedTopic]


@pytest.mark.parametrize("handle", HANDLES)
def test_a_name_of_another_type_is_refused(client: Client, handle: type[Any]) -> None:
    """A map is not opened as a lock, nor anything else as what it is not."""
    name = f"a {handle.__name__}"
    client.open(handle, name)
    for other in HANDLES:
        if other is not handle:
            with pytest.raises(WrongResourceType) as failure:
                client.open(other, name)
            assert name in str(failure.value)
    client.open(handle, name)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", 7])
def test_a_name_that_cannot_be_one_is_refused(client: Client, name: Any) -> None:
    """Before it is sent."""
    with pytest.raises(InvalidArgument):
        client.open(DistributedMap, name)


def test_a_type_that_no_server_knows_is_refused(client: Client) -> None:
    """It is not opened, so that the name stays free."""

    class AsyncQueue(AsyncDistributedCounter):
        resource_type = "queue"

    class Queue(DistributedCounter):
        asynchronous = AsyncQueue

    with pytest.raises(UnknownResourceType):
        client.open(Queue, "jobs")
    client.open(DistributedCounter, "jobs")


def test_a_refused_operation_is_an_answer(client: Client) -> None:
    """Beyond its range a counter refuses on all servers alike, and stays."""
    counter = client.open(DistributedCounter, "range")
    counter.set(2**63 - 1)
    with pytest.raises(Rejected, match="beyond 64 bits"):
        counter.increment()
    assert counter.value() == 2**63 - 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["map", "ls", "hits"], 2, "hits"),
        (["lock", "run", "users", "--", "true"], 2, "users"),
        (["topic", "sub", "users"], 2, "users"),
        (["counter", "incr", "users"], 2, "users"),
        (["counter", "incr", "hits", str(2**63)], 2, "increment"),
        (["counter", "incr", "hits", str(2**63 - 1)], 3, "beyond 64 bits"),
        (["map", "put", "users", "k" * 100_000, "1"], 2, "key"),
        (["map", "put", "users", "a", "[" * 40 + "]" * 40], 2, "nested"),
        (["map", "get", "", "a"], 2, "name"),
        (["map", "get", "users", "nobody"], 3, "nobody"),
    ],
)
def test_the_command_line_says_it_in_a_line(
    cluster: ProcessCluster, words: list[str], code: int, said: str
) -> None:
    """With the exit code of its kind, and nothing on stdout."""
    cluster.copycat("counter", "incr", "hits")
    cluster.copycat("map", "put", "users", "ann", "1")
    ended = cluster.copycat(*words)
    assert ended.returncode == code
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) <= 3
    assert ended.stdout == ""


def servers_below(directory: Path) -> list[str]:
    """The processes whose data is below a directory."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if f"--data\0{directory}" in words:
            found.append(command.parent.name)
    return found


COMMANDS = [
    ["map", "put", "users", "ann", "1"],
    ["map", "get", "users", "ann"],
    ["map", "del", "users", "ann"],
    ["map", "ls", "users"],
    ["counter", "incr", "hits"],
    ["counter", "get", "hits"],
    ["topic", "pub", "lobby", "hello"],
    ["topic", "sub", "lobby"],
    ["lock", "run", "nightly", "--", "true"],
    ["status"],
    ["status", "--json"],
    ["top", "--once"],
]


def test_ctrl_c_ends_every_command() -> None:
    """While it waits for a server that says nothing: with 130, and without a word."""

    def begun(words: list[str]) -> tuple[socket.socket, "subprocess.Popen[str]"]:
        silent = socket.create_server((HOST, 0))
        endpoint = f"{HOST}:{silent.getsockname()[1]}"
        return silent, subprocess.Popen(
            [*COPYCAT, "--endpoint", endpoint, "--timeout", "5m", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    waiting = [(words, *begun(words)) for words in COMMANDS]
    connections = []
    try:
        for _, silent, _ in waiting:
            silent.settimeout(WAIT_S)
            connections.append(silent.accept()[0])  # it has dialled, and waits
        for words, _, process in waiting:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
            assert (process.returncode, out, err.strip()) == (130, "", ""), words
    finally:
        for _, silent, process in waiting:
            process.kill()
            process.communicate()
            silent.close()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_playground_whose_start_was_interrupted_can_be_stopped(
    tmp_path: Path, number: int
) -> None:
    """`cluster up` ends as the signal says; every server that it began is found by `down`."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    run: Callable[..., Any] = subprocess.run
    up = subprocess.Popen(
        [*COPYCAT, "cluster", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        file = tmp_path / "copycat" / "playground" / "playground.json"
        while not file.exists():
            assert up.poll() is None
        up.send_signal(number)
        out, err = up.communicate(timeout=WAIT_S)
        assert "Traceback" not in err
        assert (up.returncode, out) == (130 if number == signal.SIGINT else -number, "")
    finally:
        down = run([*COPYCAT, "cluster", "down", "--wipe"], env=environment, capture_output=True)
    assert down.returncode == 0
    assert not file.exists()
    assert not servers_below(tmp_path)
