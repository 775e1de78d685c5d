"""State machines that end in every way, on real servers: what is said, and what goes on."""

import asyncio
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from copycat import AsyncClient
from copycat.errors import CopycatError, OperationFailed, QueryFailed, Rejected
from copycat.failed_entries import FILE
from copycat.server.users_code import FRAMES_MAX
from process_cluster import COPYCAT, ProcessCluster, until

MACHINES = """
import sys, time
from copycat import StateMachine, command, query


def descended(frames):
    try:
        return descended(frames + 1)
    except RecursionError:
        return frames


class OddMachine(StateMachine):
    def __init__(self):
        self.depths = []

    @command
    def hello(self, commit):
        return "hi"

    @command
    def depth(self, commit):
        self.depths.append(descended(2))
        return self.depths

    @query
    def known_depths(self):
        return self.depths

    @command
    def end(self, commit, way):
        self.ended(way)

    @query
    def end_query(self, way):
        self.ended(way)

    def ended(self, way):
        if way == "exit":
            sys.exit(7)
        if way == "recursion":
            self.ended(way)
        if way == "memory":
            raise MemoryError("no room")
        raise KeyboardInterrupt

    @query
    def search_query(self):
        while True:
            pass

    @query
    def sleep_query(self, seconds):
        time.sleep(seconds)
        return "slept"

    @command
    def work(self, commit, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
"""


HELLO_INDEX = 4  # of the first command: behind the term, the session and the resource


class OddHandle:
    """The least a handle can be."""

    resource_type: ClassVar[str] = "odd"
    resource_version: ClassVar[int] = 1

    def __init__(self, client: Any, resource: int, name: str) -> None:
        self.client, self.resource = client, resource

    def command(self, method: str, *arguments: Any) -> Any:
        return self.client.submit_command(self.resource, method, *arguments)

    def query(self, method: str, *arguments: Any) -> Any:
        return self.client.submit_query(self.resource, method, *arguments, consistency=1)


class OddCluster(ProcessCluster):
    """Servers that know the machine above."""

    def __init__(self, directory: Path, servers: int = 3) -> None:
        super().__init__(directory, servers)
        (directory / "oddities.py").write_text(MACHINES)
        self.more: list[str] = []

    def words(self, name: str) -> list[str]:
        """The command line, in an environment where the machine is found."""
        words = super().words(name)[len(COPYCAT) :]
        place = ["env", f"PYTHONPATH={self.directory}", sys.executable, "-m", "copycat"]
        return [*place, *words, "--load", "odd=oddities:OddMachine", *self.more]

    def ask(self, *calls: tuple[Any, ...], timeout_s: float = 20.0) -> list[Any]:
        """Call commands, or queries if they are called so, one after the other."""

        async def story() -> list[Any]:
            ends = []
            async with AsyncClient(*self.endpoints, timeout_s=timeout_s) as client:
                odd = await client.open(OddHandle, "o")
                for method, *arguments in calls:
                    submit = odd.query if method.endswith(("query", "depths")) else odd.command
                    try:
                        ends.append(await submit(method, *arguments))
                    except CopycatError as error:
                        ends.append(error)
            return ends

        return asyncio.run(story())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[OddCluster]:
    with OddCluster(tmp_path) as servers:
        yield servers


def _is_said(cluster: OddCluster, name: str, text: str) -> bool:
    return text in cluster.errors(name)


def test_a_machine_that_exits_or_recurses_is_answered(cluster: OddCluster) -> None:
    """Commands and queries end so on all servers alike, also when all of them start again."""
    calls = [("end", "exit"), ("end", "recursion"), ("end_query", "exit"), ("hello",)]
    calls += [("end_query", "memory"), ("end_query", "interrupt")]
    calls += [("end_query", "recursion"), ("depth",), ("depth",)]
    ends = cluster.ask(*calls)
    failed = [OperationFailed, OperationFailed, QueryFailed, str, *[QueryFailed] * 3, list, list]
    assert [type(end) for end in ends] == failed
    assert [end.kind for end in ends[:3]] == ["SystemExit", "RecursionError", "SystemExit"]
    assert ends[-1] == [FRAMES_MAX] * 2, "from wherever it is called, there is the same room"
    trace = " error=SystemExit reason=7 in ended ("
    for name in cluster.peers:
        until(partial(_is_said, cluster, name, trace), "it leaves a trace")
        assert "command failed resource=" in cluster.errors(name)
        cluster.kill(name)
        cluster.start(name)
    assert cluster.ask(("hello",), ("known_depths",)) == ["hi", [FRAMES_MAX] * 2]
    for name in cluster.peers:
        assert "Traceback" not in cluster.errors(name)


@pytest.mark.parametrize(("way", "kind"), [("memory", "MemoryError"), ("", "KeyboardInterrupt")])
def test_a_command_that_no_server_can_apply_stops_them_until_it_is_failed(
    cluster: OddCluster, way: str, kind: str
) -> None:
    """Each says which one it is; --fail-entry has it carried out by nobody, for ever."""
    assert cluster.ask(("hello",)) == ["hi"]
    [end] = cluster.ask(("end", way), timeout_s=3.0)
    assert isinstance(end, CopycatError)
    stopped = [name for name in cluster.peers if cluster.processes[name].poll() is not None]
    assert stopped
    for name in stopped:
        assert cluster.ended(name) == 1
        last = cluster.last_words(name)
        assert last.startswith("copycat: method 'end' of resource")
        assert f"ended by {kind}" in last
        assert " in ended (" in last
        assert "oddities.py:" in last
        assert "--fail-entry" in last
    index = last.partition("at index ")[2].partition(" ")[0]
    for name in cluster.peers:
        cluster.kill(name)
    cluster.more = ["--fail-entry", index]
    for name in cluster.peers:
        cluster.start(name)
    assert cluster.ask(("hello",)) == ["hi"]
    told = f"is failed, for ever index={index} method 'end' of odd 'o'"
    for name in cluster.peers:
        until(partial(_is_said, cluster, name, told), "it says at its start what is failed")
    cluster.more = []
    for name in cluster.peers:
        assert (cluster.directory / name / FILE).read_text() == f"{index}\nend\n"
        cluster.kill(name)
        cluster.start(name)
    assert cluster.ask(("hello",)) == ["hi"]


def test_only_commands_of_the_log_can_be_failed(tmp_path: Path) -> None:
    """Whatever else is named is refused, and nothing is decided; several can be."""
    with OddCluster(tmp_path, servers=1) as cluster:
        assert cluster.ask(("hello",), ("hello",)) == ["hi", "hi"]
        decided = cluster.directory / "n1" / FILE
        for wrong, why in (
            ("1000000", "is beyond the end of"),
            ("1", "is the beginning of a term"),
        ):
            cluster.kill("n1")
            cluster.more = ["--fail-entry", str(HELLO_INDEX), "--fail-entry", wrong]
            cluster.start("n1")
            assert cluster.ended("n1") == 2
            assert f"copycat: --fail-entry {wrong} {why}" in cluster.last_words("n1")
            assert not decided.exists()
        indexes = [str(HELLO_INDEX), str(HELLO_INDEX + 1)]
        cluster.more = ["--fail-entry", indexes[0], "--fail-entry", indexes[1]]
        cluster.start("n1")
        assert cluster.ask(("hello",)) == ["hi"]
        assert decided.read_text().split() == [*indexes, "end"]
        for index in indexes:
            assert f"index={index} method 'hello' of odd 'o'" in cluster.errors("n1")


def test_a_server_with_other_failed_entries_is_refused(cluster: OddCluster) -> None:
    """It would come to another state, so that it takes no part, and says why."""
    cluster.ask(("hello",))
    until(lambda: cluster.statuses()["n3"].applied_index >= HELLO_INDEX, "n3 has the command")
    cluster.kill("n3")
    cluster.more = ["--fail-entry", str(HELLO_INDEX)]
    cluster.start("n3")
    until(
        lambda: all(
            "other commands are failed there" in cluster.errors(name) for name in cluster.peers
        ),
        "both sides say so",
    )
    assert cluster.ask(("hello",)) == ["hi"]
    assert cluster.statuses()["n3"].commit_index == 0
    until(lambda: cluster.copycat("status").returncode == 9, "it is no healthy cluster")
    assert "n3 at" in (told := cluster.copycat("status").stdout)
    assert "takes no part: n" in told
    assert "DEGRADED" in cluster.copycat("top", "--once").stdout


def test_a_command_that_does_not_come_to_its_end_is_named(tmp_path: Path) -> None:
    """After a second, with its place in the log and in the code; once, however long it takes."""
    with OddCluster(tmp_path, servers=1) as cluster:
        cluster.ask(("work", 0.2), ("work", 2.5), ("hello",))
        named = [line for line in cluster.errors("n1").splitlines() if "come to its end" in line]
        assert len(named) == 1
        assert "type=odd method=work index=" in named[0]
        assert "stack=work (" in named[0]
        assert "oddities.py:" in named[0]
        assert cluster.ask(("hello",)) == ["hi"]


def test_a_query_that_does_not_come_to_its_end_is_interrupted(cluster: OddCluster) -> None:
    """Each server that it reaches goes on within a second, and is the one process it was, however often
    it is asked."""
    calls = [("search_query",), ("sleep_query", 0.3), ("sleep_query", 3600.0), ("hello",)]
    began_s = time.monotonic()
    ends = cluster.ask(*calls)
    took_s = time.monotonic() - began_s
    assert [type(end) for end in ends] == [QueryFailed, str, QueryFailed, str]
    assert [end.kind for end in (ends[0], ends[2])] == ["TookTooLong"] * 2
    assert took_s < 10.0
    assert len(cluster.statuses()) == 3
    ends = cluster.ask(*[("search_query",)] * 20, ("hello",))
    assert [type(end) for end in ends] == [QueryFailed] * 20 + [str]
    told = [line for name in cluster.peers for line in cluster.errors(name).splitlines()]
    named = [line for line in told if "query is interrupted" in line]
    assert len(named) <= 2 * len(cluster.peers), "one of each kind on each server"
    assert any("type=odd method=search_query" in line and "oddities.py:" in line for line in named)
    assert not [line for line in told if "Traceback" in line or "ERROR" in line]


def test_a_rejection_is_the_machines_word(cluster: OddCluster) -> None:
    """What no machine carries out has changed nothing, and says so."""
    [end] = cluster.ask(("no_such_command",))
    assert isinstance(end, Rejected)
    assert end.kind == "UnknownOperation"
