"""Each command as a user runs it, against real servers."""

import json
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat.console.playground import Playground
from shell import Shell, end, read_line, started, until


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A playground of three servers that all tests share, and none harms."""
    with started(tmp_path_factory.mktemp("state")) as shell:
        yield shell


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Shell]:
    """A playground of three servers for one test, to be broken."""
    with started(tmp_path) as shell:
        yield shell


def test_status_for_programs(shell: Shell) -> None:
    """The document has the promised form, and the leader is one of the servers."""
    document = shell.status()
    assert list(document) == ["schema", "health", "leader", "term", "servers"]
    assert (document["schema"], document["health"]) == ("copycat.status/1", "healthy")
    assert [server["id"] for server in document["servers"]] == ["n1", "n2", "n3"]
    for server in document["servers"]:
        assert list(server) == [
            "id", "role", "term", "last_index", "commit_index", "applied_index", "apply_stood_ms",
            "log_bytes", "sessions", "reachable", "reason", "handlers_over_10_ms",
            "handlers_over_50_ms", "handlers_over_200_ms",
        ]  # fmt: skip
        assert server["reachable"] is True
        assert server["role"] == ("leader" if server["id"] == document["leader"] else "follower")


def test_status_by_one_endpoint(shell: Shell) -> None:
    """One server is enough to learn of all; a second name of it does not count twice."""
    port = shell.playground.endpoints()[0].rpartition(":")[2]
    ended = shell.run(
        "--endpoint", f"localhost:{port}", "--endpoint", f"127.0.0.1:{port}", "status", "--json"
    )
    assert ended.returncode == 0
    assert [server["id"] for server in json.loads(ended.stdout)["servers"]] == ["n1", "n2", "n3"]


def test_status_for_people(shell: Shell) -> None:
    """The verdict comes first."""
    ended = shell.run("status")
    assert ended.returncode == 0
    assert ended.stdout.startswith("healthy: leader n")


def test_map(shell: Shell) -> None:
    """Values go in as JSON or text and come out as JSON; what is not there is 3."""
    for key, value in (("b", '{"plan": "pro"}'), ("a", "plain text"), ("c", "-5")):
        assert shell.run("map", "put", "m", key, value).returncode == 0
    assert json.loads(shell.run("map", "get", "m", "b").stdout) == {"plan": "pro"}
    assert shell.run("map", "ls", "m").stdout.splitlines() == [
        'b\t{"plan": "pro"}',
        'a\t"plain text"',
        "c\t-5",
    ]
    assert shell.run("map", "del", "m", "a").returncode == 0
    for words in (("del", "m", "a"), ("get", "m", "a")):
        ended = shell.run("map", *words)
        assert (ended.returncode, ended.stdout) == (3, "")
        assert "no key 'a'" in ended.stderr


def test_counter(shell: Shell) -> None:
    """It counts up and down; beyond its range the answer is no, and it stays."""
    assert shell.run("counter", "incr", "hits").stdout == "1\n"
    assert shell.run("counter", "incr", "hits", "-3").stdout == "-2\n"
    refused = shell.run("counter", "incr", "hits", str(-(2**63)))
    assert refused.returncode == 3
    assert shell.run("counter", "get", "hits").stdout == "-2\n"


def test_a_name_of_another_type_is_wrong_usage(shell: Shell) -> None:
    """Told in one line, with the type that it has."""
    shell.run("counter", "incr", "typed")
    ended = shell.run("map", "ls", "typed")
    assert ended.returncode == 2
    assert "typed" in ended.stderr


def test_topic(shell: Shell) -> None:
    """Who listens gets each message, in order, and ends after the count."""
    listener = shell.begin("topic", "sub", "lobby", "--count", "2")
    assert read_line(listener, of_errors=True) == "listening to lobby"
    assert shell.run("topic", "pub", "lobby", "hello").returncode == 0
    assert shell.run("topic", "pub", "lobby", '{"n": 1}').returncode == 0
    out, err = listener.communicate(timeout=30)
    assert (listener.returncode, out, err) == (0, '"hello"\n{"n": 1}\n', "")


def test_ctrl_c_while_listening(shell: Shell) -> None:
    """130, and not a word."""
    listener = shell.begin("topic", "sub", "lobby2")
    read_line(listener, of_errors=True)
    code, out, err = end(listener)
    assert (code, out, err.strip()) == (130, "", "")


def test_a_closed_pipe_is_no_failure_to_talk_about(shell: Shell) -> None:
    """As in `copycat map ls | head -1`."""
    shell.run("map", "put", "piped", "a", "1")
    ended = shell.begin("map", "ls", "piped")
    assert ended.stdout is not None
    ended.stdout.close()
    assert ended.stderr is not None
    assert "Traceback" not in ended.stderr.read()
    ended.wait(30)
    ended.stderr.close()


def test_up_again_changes_nothing(shell: Shell) -> None:
    """The same servers go on; another number of them is wrong usage."""
    before = shell.run("cluster", "ls").stdout
    assert shell.run("cluster", "up").returncode == 0
    assert shell.run("cluster", "ls").stdout == before
    refused = shell.run("cluster", "up", "-n", "5")
    assert refused.returncode == 2
    assert "--wipe" in refused.stderr


def test_without_a_majority(breakable: Shell) -> None:
    """Nothing is written, and one server alone still tells what it knows."""
    shell, playground = breakable, breakable.playground
    shell.run("counter", "incr", "hits")
    leader = shell.status()["leader"]
    others = [name for name in ("n1", "n2", "n3") if name != leader]
    playground.kill(others[0])
    degraded = shell.run("status", "--json")
    assert degraded.returncode == 9
    playground.kill(others[1])
    until(lambda: shell.status()["leader"] is None, "the last server steps down")
    ended = shell.run("status", "--json")
    assert ended.returncode == 4
    servers = {server["id"]: server for server in json.loads(ended.stdout)["servers"]}
    assert [servers[name]["reachable"] for name in (leader, *others)] == [True, False, False]
    assert servers[others[0]] == {
        **dict.fromkeys(servers[leader]),
        "id": others[0], "reachable": False, "reason": "connection refused",
    }  # fmt: skip
    refused = shell.run("--timeout", "1s", "counter", "incr", "hits")
    assert refused.returncode == 4
    assert "retry is safe" in refused.stderr
    assert "NO LEADER" in shell.run("top", "--once").stdout
    playground.restart(others[0])
    until(lambda: shell.status()["leader"] is not None, "a majority elects")
    assert shell.run("counter", "get", "hits").stdout == "1\n"


def test_when_no_server_can_be_reached(breakable: Shell) -> None:
    """Everything says so with 5, and status has a document all the same."""
    shell, playground = breakable, breakable.playground
    for name in ("n1", "n2", "n3"):
        playground.kill(name)
    ended = shell.run("--timeout", "1s", "counter", "get", "hits")
    assert ended.returncode == 5
    assert "refused" in ended.stderr
    status = shell.run("status", "--json")
    assert status.returncode == 5
    document = json.loads(status.stdout)
    assert (document["leader"], document["term"]) == (None, None)
    assert [server["id"] for server in document["servers"]] == sorted(playground.endpoints())
    picture = shell.run("top", "--once")
    assert picture.returncode == 5
    assert "CANNOT REACH ANY SERVER" in picture.stdout


def test_down_and_up_again_keeps_the_data(breakable: Shell) -> None:
    """Unless it is to be wiped."""
    shell, playground = breakable, breakable.playground
    shell.run("map", "put", "users", "ann", "1")
    assert shell.run("cluster", "down").stdout == "stopped 3 servers\n"
    for name in ("n1", "n2", "n3"):
        assert "signal=SIGTERM" in playground.last_words(name)
    assert shell.run("status").returncode == 2
    assert shell.run("cluster", "up").returncode == 0
    assert shell.run("map", "get", "users", "ann").stdout == "1\n"
    shell.run("cluster", "down", "--wipe")
    assert not playground.directory.exists()


def test_up_brings_back_what_was_there(tmp_path: Path) -> None:
    """As many servers, and on the ports that programs know, unless somebody has taken one."""
    shell = Shell(tmp_path)
    assert shell.run("cluster", "up", "-n", "1").returncode == 0
    try:
        (before,) = shell.playground.endpoints()
        assert shell.run("cluster", "down").stdout == "stopped 1 server\n"
        assert shell.run("cluster", "up").returncode == 0
        assert shell.playground.endpoints() == (before,)
        shell.run("cluster", "down")
        with socket.create_server(("127.0.0.1", int(before.rpartition(":")[2]))):
            assert shell.run("cluster", "up").returncode == 0
            assert len(set(shell.playground.endpoints()) - {before}) == 1
    finally:
        shell.run("cluster", "down", "--force", "--wipe")


def test_a_wiped_server_is_refused(breakable: Shell) -> None:
    """It has forgotten what it voted, so it must not come back under its name."""
    shell, playground = breakable, breakable.playground
    victim = next(name for name in ("n1", "n2", "n3") if name != shell.status()["leader"])
    playground.kill(victim)
    shutil.rmtree(playground.directory / victim)
    peers = {process.name: process.endpoint for process in playground.processes()}
    named = ",".join(f"{name}={endpoint}" for name, endpoint in peers.items())
    ended = shell.run(
        *["serve", "--id", victim, "--listen", peers[victim], "--peers", named],
        *["--data", str(playground.directory / victim)],
    )
    assert ended.returncode == 8
    assert "wiped" in ended.stderr.splitlines()[-1]
    shutil.rmtree(playground.directory / victim)
    up = shell.run("cluster", "up")
    assert up.returncode == 8
    assert up.stderr.startswith(f"copycat: server {victim} has ended: ")


def serving(shell: Shell, data: Path, endpoint: str) -> list[str]:
    """The words for a cluster of one server."""
    words = ["serve", "--id", "n1", "--listen", endpoint, "--peers", f"n1={endpoint}"]
    return [*words, "--data", str(data)]


def free_endpoint() -> str:
    """An endpoint that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def serves(shell: Shell, endpoint: str) -> bool:
    """Whether a server leads there."""
    return shell.run("--endpoint", endpoint, "status").returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_ends_in_order(tmp_path: Path, number: int, code: int) -> None:
    """TERM is the end that was asked for."""
    shell, endpoint = Shell(tmp_path), free_endpoint()
    server = shell.begin(*serving(shell, tmp_path / "data", endpoint))
    until(lambda: serves(shell, endpoint), "it leads")
    ended, _, err = end(server, number)
    assert ended == code
    assert "stopped server=n1" in err


def test_serve_can_be_ended_while_it_waits_for_others(tmp_path: Path) -> None:
    """A first start without its peers is no trap."""
    shell, endpoint = Shell(tmp_path), free_endpoint()
    words = serving(shell, tmp_path / "data", endpoint)
    words[6] += f",n2={free_endpoint()}"
    server = shell.begin(*words)
    assert "serving server=n1" in read_line(server, of_errors=True)
    assert end(server, signal.SIGTERM)[0] == 0


def test_a_port_in_use_is_told_in_a_line(tmp_path: Path) -> None:
    """With the endpoint, and what to do."""
    shell = Shell(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = shell.run(*serving(shell, tmp_path / "data", endpoint))
    assert ended.returncode == 2
    assert f"cannot listen on {endpoint}" in ended.stderr.splitlines()[-1]


def test_two_servers_on_one_directory(tmp_path: Path) -> None:
    """The second one touches nothing and says who has it."""
    shell, endpoint = Shell(tmp_path), free_endpoint()
    first = shell.begin(*serving(shell, tmp_path / "data", endpoint))
    until(lambda: serves(shell, endpoint), "it leads")
    second = shell.run(*serving(shell, tmp_path / "data", free_endpoint()))
    assert second.returncode == 2
    assert f"in use by process {first.pid}" in second.stderr
    assert serves(shell, endpoint)
    end(first, signal.SIGTERM)


def test_a_type_of_ones_own(tmp_path: Path) -> None:
    """--load makes a server know it, by the name of its class."""
    (tmp_path / "bank.py").write_text(
        "from copycat import StateMachine, command\n"
        "class BankMachine(StateMachine):\n"
        "    @command\n"
        "    def open(self, commit): return 1\n"
    )
    shell, endpoint = Shell(tmp_path), free_endpoint()
    shell.environment["PYTHONPATH"] = str(tmp_path)
    words = serving(shell, tmp_path / "data", endpoint)
    server = shell.begin(*words, "--load", "bank:BankMachine")
    until(lambda: serves(shell, endpoint), "it leads")
    assert end(server, signal.SIGTERM)[0] == 0


def test_the_demo_runs_without_a_terminal(shell: Shell) -> None:
    """It shows that nothing is lost, leaves nothing behind, and lets other playgrounds be."""
    before = shell.run("cluster", "ls").stdout
    shell.environment["TMPDIR"] = str(shell.state)
    try:
        ended = shell.run("demo")
    finally:
        del shell.environment["TMPDIR"]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Nothing that was acknowledged is lost." in ended.stdout
    assert "DEGRADED" in ended.stdout
    assert [each.name for each in shell.state.iterdir()] == ["copycat"]
    assert shell.run("cluster", "ls").stdout == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_cleans_up_when_it_is_ended(tmp_path: Path, number: int) -> None:
    """Its servers and its files are gone, however early it ends."""
    shell = Shell(tmp_path)
    shell.environment["TMPDIR"] = str(tmp_path)
    demo = shell.begin("demo")
    while "was elected leader" not in read_line(demo):
        pass
    (directory,) = tmp_path.iterdir()
    processes = Playground(directory).processes()
    assert end(demo, number)[0] == 128 + number
    assert not list(tmp_path.iterdir())
    assert not [process for process in processes if process.is_running()]
