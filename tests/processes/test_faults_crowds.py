"""Crowds at a server's port, and nobody at the other end of its log: it goes on serving."""

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat import AsyncClient, Client
from copycat.actors.address import NodeAddress
from copycat.actors.codec import encode
from copycat.actors.frame import encode_envelopes, envelope, frame
from copycat.actors.network_listener import RESERVED_DESCRIPTORS
from copycat.errors import Unreachable
from copycat.protocol.client import SERVER, SubmitCommands
from copycat.protocol.raft import AppendEntries
from copycat.resources import AsyncDistributedCounter, DistributedCounter, DistributedMap
from process_cluster import WAIT_S, ProcessCluster, now_s, until
from test_faults_wire import dial, said

DESCRIPTORS = 128
LIMITED = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
TARGET = NodeAddress.well_known("n1", SERVER)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[ProcessCluster]:
    """One server that is not started yet."""
    cluster = ProcessCluster(tmp_path, servers=1)
    yield cluster
    for process in cluster.processes.values():
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_idle_connections_stop_no_server(alone: ProcessCluster) -> None:
    """They take all descriptors but those kept for the disk: new files of the log are made, clients
    are served, also new ones, and the crowd has lost its oldest."""
    alone.start("n1", *LIMITED)
    alone.leader()
    with Client(*alone.endpoints, timeout_s=WAIT_S) as client:
        values = client.open(DistributedMap[int, bytes], "values")
        crowd = []
        for _ in range(2 * DESCRIPTORS):
            with contextlib.suppress(OSError):
                crowd.append(dial(alone, "n1"))
        for place in range(20):  # MiB; a file of the log has 8
            values.put(place, bytes(1_000_000))
        with Client(*alone.endpoints, timeout_s=WAIT_S) as late:
            assert late.open(DistributedCounter, "late").increment() == 1
        files = len(list(Path(f"/proc/{alone.processes['n1'].pid}/fd").iterdir()))
        assert files <= DESCRIPTORS - RESERVED_DESCRIPTORS // 2
        with contextlib.suppress(ConnectionError):
            while crowd[0].recv(65536):
                pass
        for one in crowd:
            one.close()
    assert "Traceback" not in alone.errors("n1")
    assert "out of system resource" not in alone.errors("n1")


def test_too_many_clients_are_told_so_and_stay_away(tmp_path: Path) -> None:
    """Servers with few descriptors say at start how few; those clients that get a place are served,
    the others read why not, and come seldom; no server runs out of descriptors."""
    cluster = ProcessCluster(tmp_path)
    few = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")

    async def visit(began_s: float) -> str:
        try:
            async with AsyncClient(*cluster.endpoints, timeout_s=4.0) as client:
                hits = await client.open(AsyncDistributedCounter, "hits")
                await hits.increment()
                await asyncio.sleep(began_s + 5.0 - now_s())
                await hits.increment()
        except Unreachable as error:
            return str(error)
        return "served"

    async def visit_all() -> list[str]:
        began_s = now_s()
        return await asyncio.gather(*[visit(began_s) for _ in range(60)])

    with cluster:
        for name in cluster.peers:
            cluster.kill(name)
            cluster.start(name, *few)
        cluster.leader()
        ends = asyncio.run(visit_all())
        refused = [end for end in ends if end != "served"]
        assert 15 <= len(ends) - len(refused) < 60
        for end in refused:
            assert end.count("too many connections") == 3
        for name in cluster.peers:
            errors = cluster.errors(name)
            assert "only 64 descriptors may be open" in errors
            assert "Errno 24" not in errors
            told = re.findall("too many connections (?!.*more like it)", errors)
            more = re.findall(r"too many connections .*\(and (\d+) more", errors)
            assert len(told) + sum(map(int, more)) < 7 * len(refused)


def test_a_log_that_nobody_reads_holds_up_nobody(alone: ProcessCluster) -> None:
    """Strangers fill a small pipe with their lines; clients are served, and the server can end."""
    with subprocess.Popen(alone.words("n1"), stderr=subprocess.PIPE) as server:
        alone.processes["n1"] = server
        assert server.stderr is not None
        fcntl.fcntl(server.stderr, fcntl.F_SETPIPE_SZ, 4096)
        alone.leader()
        for _ in range(200):
            with dial(alone, "n1") as stranger, contextlib.suppress(ConnectionError):
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while stranger.recv(65536):
                    pass
        with Client(*alone.endpoints, timeout_s=WAIT_S) as client:
            assert client.open(DistributedCounter, "hits").increment() == 1
        server.terminate()
        assert server.wait(WAIT_S) == 0


def envelopes_of(message: object, count: int = 1) -> bytes:
    """Envelopes of a message for the server, framed as we do it."""
    frames, refused = encode_envelopes([envelope(TARGET, message, 1)] * count)
    assert not refused
    return frames


NUISANCES = {
    "Raft's messages": envelopes_of(AppendEntries(9, 9, 0, 0, 0, 0, (bytes(30_000),), 0), 8),
    "commands without a session": envelopes_of(SubmitCommands(1, 1, 1, 0, 0, bytes(1000)), 40),
    "large commands": envelopes_of(SubmitCommands(1, 1, 1, 0, 0, bytes(320_000))),
    "the largest frame": envelopes_of(SubmitCommands(1, 1, 1, 0, 0, bytes(8_000_000))),
    "many envelopes": frame(encode([[0, SERVER, 1, 30, [1, 1, 1]]] * 40_000)),
}


@pytest.mark.parametrize("nuisance", NUISANCES)
def test_what_nobody_takes_costs_a_stranger_the_connection(
    alone: ProcessCluster, nuisance: str
) -> None:
    """However large or many, soon; and whoever has business here is served meanwhile."""
    alone.start("n1")
    alone.leader()
    with Client(*alone.endpoints, timeout_s=WAIT_S) as client:
        counter = client.open(DistributedCounter, "hits")
        for turn in range(1, 6):
            with dial(alone, "n1") as stranger, contextlib.suppress(ConnectionError):
                stranger.settimeout(WAIT_S)
                stranger.sendall(said() + NUISANCES[nuisance])
                while stranger.recv(65536):
                    pass
            assert counter.increment() == turn


def test_a_first_start_says_for_whom_it_waits(tmp_path: Path) -> None:
    """Each missing peer by name, and why it cannot be reached; not once and never again."""
    cluster = ProcessCluster(tmp_path, servers=3)
    cluster.peers["n2"] = "nowhere.invalid:7402"
    words = cluster.words("n1")
    with (tmp_path / "n1.err").open("ab") as errors:
        server = subprocess.Popen([*words, "--insecure"], stderr=errors)
    try:
        until(lambda: cluster.errors("n1").count("waits for") > 1, "it says it again")
        line = next(line for line in cluster.errors("n1").splitlines() if "waits for" in line)
        assert "n2 at nowhere.invalid:7402: name or service not known" in line or (
            "n2 at nowhere.invalid:7402: temporary failure" in line
        )
        assert f"n3 at {cluster.peers['n3']}: connection refused" in line
    finally:
        server.kill()
        server.wait()


def test_a_stopped_server_is_noticed(tmp_path: Path) -> None:
    """A server stopped by SIGSTOP, whose kernel confirms every byte, is not connected any more."""
    with ProcessCluster(tmp_path) as cluster:
        leader = cluster.leader()
        stopped = cluster.others(leader)[0]
        cluster.processes[stopped].send_signal(signal.SIGSTOP)

        def is_noticed() -> bool:
            peers = cluster.statuses()[leader].peers
            return not next(peer for peer in peers if peer.name == stopped).connected

        until(is_noticed, "the leader has noticed")
        cluster.processes[stopped].send_signal(signal.SIGCONT)
        until(lambda: not is_noticed(), "it is connected again")


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_no_file_of_a_server_takes_the_place_of_stderr(alone: ProcessCluster, closed: str) -> None:
    """Where nothing is open for what is read and said, nothing is read and said: lines of the log do
    not go wherever the next descriptor leads."""
    alone.start("n1", "sh", "-c", f'exec {closed}; exec "$@"', "sh")
    with Client(*alone.endpoints, timeout_s=WAIT_S) as client:
        assert client.open(DistributedCounter, "hits").increment() == 1
    descriptors = Path(f"/proc/{alone.processes['n1'].pid}/fd")
    assert (descriptors / "2").readlink() == Path(os.devnull)
