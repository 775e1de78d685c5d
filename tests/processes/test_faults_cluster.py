"""Servers that do not belong together, servers that are not there, and a client that slept."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from copycat import Client, NotApplied, OutcomeUnknown
from copycat.actors.network import free_ports
from copycat.errors import Unreachable
from copycat.resources import DistributedCounter, DistributedLock
from process_cluster import COPYCAT, HOST, WAIT_S, ProcessCluster, now_s, until

DEADLINE_S = 0.5
SLACK_S = 10.0  # for a busy machine; without a deadline these calls would wait for ever


def serve(cluster: ProcessCluster, name: str, directory: Path, **peers: str) -> "Ended":
    """Run another server to its end, at a port of its own."""
    endpoint = f"{HOST}:{free_ports(1, HOST)[0]}"
    told = ",".join(f"{each}={place}" for each, place in {**cluster.peers, **peers}.items())
    if name not in cluster.peers:
        told += f",{name}={endpoint}"
    ended = subprocess.run(
        [
            *(*COPYCAT, "serve", "--id", name, "--listen", endpoint, "--peers", told),
            *("--data", str(directory)),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended


Ended = subprocess.CompletedProcess[str]


def increment(cluster: ProcessCluster) -> int:
    """Have the cluster do something."""
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
        return client.open(DistributedCounter, "hits").increment()


def test_a_server_that_nobody_knows_is_refused(cluster: ProcessCluster) -> None:
    """It ends with 2 and the names that are known, and has founded nothing with the others."""
    assert increment(cluster) == 1
    ended = serve(cluster, "n9", cluster.directory / "n9")
    assert ended.returncode == 2
    assert "n9 is not one of the servers n1, n2, n3" in ended.stderr.splitlines()[-1]
    assert not (cluster.directory / "n9" / "configuration").exists()
    assert increment(cluster) == 2


def test_a_second_server_of_a_name_is_refused(cluster: ProcessCluster) -> None:
    """It ends with 8 while the first one lives and goes on, and has founded nothing."""
    assert increment(cluster) == 1
    ended = serve(cluster, "n2", cluster.directory / "second")
    assert ended.returncode == 8
    assert "n2" in ended.stderr.splitlines()[-1]
    assert not (cluster.directory / "second" / "configuration").exists()
    until(lambda: all(each.leader for each in cluster.statuses().values()), "n2 is back")
    cluster.kill("n3")
    assert increment(cluster) == 2


def test_a_directory_of_another_name_is_refused(cluster: ProcessCluster) -> None:
    """Whose directory it is, is told in a line; the exit code is 2."""
    increment(cluster)
    cluster.kill("n2")
    ended = serve(cluster, "n3", cluster.directory / "n2")
    assert ended.returncode == 2
    assert "belongs to server 'n2'" in ended.stderr.splitlines()[-1]


def test_what_does_not_fit_together_is_warned_of(tmp_path: Path) -> None:
    """Another election time-out than the others', and a port where nobody dials; it is taken."""
    cluster = ProcessCluster(tmp_path)
    words = cluster.words

    def odd_words(name: str) -> list[str]:
        odd = words(name)
        if name == "n3":
            odd += ["--election-timeout", "1s..2s"]
            odd[odd.index("--listen") + 1] = f"127.0.0.1:{free_ports(1, HOST)[0]}"
        return odd

    cluster.words = odd_words  # type: ignore[method-assign]
    with cluster:
        timing = (
            "n3 has an election time-out of 1000ms..2000ms, and this server of 300ms..600ms: give"
        )
        until(lambda: timing in cluster.errors("n1"), "a peer says so")
        until(lambda: "n1 has an election time-out of 300ms" in cluster.errors("n3"), "it, too")
        said = cluster.errors("n3")
        assert f"--peers say that it is to be dialled at {cluster.peers['n3']}: if" in said
        assert "to be dialled" not in cluster.errors("n1")


def test_other_peers_than_the_founders_are_refused(cluster: ProcessCluster) -> None:
    """A name more does not make a cluster larger: the exit code is 2, and nothing is changed."""
    increment(cluster)
    cluster.kill("n2")
    ended = serve(cluster, "n2", cluster.directory / "n2", n4=f"{HOST}:1")
    assert ended.returncode == 2
    assert "was founded by n1, n2, n3" in ended.stderr.splitlines()[-1]
    cluster.start("n2")
    until(lambda: "n2" in cluster.statuses(), "with the right peers it serves")


def test_a_directory_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    """With its path and the reason; the exit code is 2."""
    cluster = ProcessCluster(tmp_path)
    (tmp_path / "file").touch()
    ended = serve(cluster, "n2", tmp_path / "file" / "data")
    assert ended.returncode == 2
    assert "file/data cannot be used: Not a directory" in ended.stderr.splitlines()[-1]


def test_a_server_of_another_cluster_takes_no_part(cluster: ProcessCluster, tmp_path: Path) -> None:
    """Both sides name the two clusters; status does not count it, and neither does the leader."""
    (tmp_path / "other").mkdir()
    with ProcessCluster(tmp_path / "other") as other:
        other.leader()
    assert increment(cluster) == 1
    cluster.kill("n3")
    shutil.rmtree(tmp_path / "n3")
    shutil.copytree(tmp_path / "other" / "n3", tmp_path / "n3")
    cluster.start("n3")
    until(lambda: "n3" in cluster.statuses(), "the foreign server is up")
    told = cluster.copycat("status")
    assert told.returncode == 9
    assert "n3 at " in told.stdout
    assert "a server of another cluster" in told.stdout
    assert "wrong cluster: " in cluster.errors("n3")
    assert increment(cluster) == 2
    assert cluster.statuses()["n3"].commit_index == 0


def test_a_client_with_endpoints_of_two_clusters_uses_one(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    """The servers of both bear the same names; the other cluster has never had a session of it."""
    (tmp_path / "other").mkdir()
    with ProcessCluster(tmp_path / "other") as other:
        other.leader()
        endpoints = (*cluster.endpoints, *other.endpoints)
        with Client(*endpoints, timeout_s=WAIT_S, session_timeout_s=60) as client:
            counter = client.open(DistributedCounter, "hits")
            assert counter.increment() == 1
            for name in cluster.peers:
                cluster.kill(name)

            def is_refused() -> bool:
                with pytest.raises(NotApplied) as read:
                    counter.value(timeout_s=DEADLINE_S)
                return any("wrong cluster" in cause for _, cause in read.value.causes)

            until(is_refused, "the other cluster is refused")
            for name in cluster.peers:
                cluster.start(name)
            assert counter.increment() == 2
        assert {status.commit_index for status in other.statuses().values()} == {1}


def test_without_a_majority_calls_say_what_is_known(cluster: ProcessCluster) -> None:
    """In time, and typed; with a second server everything is there again."""
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
        counter = client.open(DistributedCounter, "hits")
        assert [counter.increment() for _ in range(3)] == [1, 2, 3]
        first, second = cluster.others(cluster.leader())
        cluster.kill(first)
        cluster.kill(second)
        began_s, unknown = now_s(), 0
        for _ in range(3):
            with pytest.raises((NotApplied, OutcomeUnknown)) as failure:
                counter.increment(timeout_s=DEADLINE_S)
            unknown += isinstance(failure.value, OutcomeUnknown)
        with pytest.raises(NotApplied):
            counter.value(timeout_s=DEADLINE_S)
        assert now_s() - began_s < SLACK_S
        with pytest.raises(NotApplied):
            Client(*cluster.endpoints, timeout_s=DEADLINE_S)
        cluster.start(first)
        assert 4 <= counter.increment() <= 4 + unknown


def test_when_all_servers_are_down_every_endpoint_is_told(cluster: ProcessCluster) -> None:
    """Who connects, and who was connected, learns what each endpoint did; later it works again."""
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
        counter = client.open(DistributedCounter, "hits")
        assert counter.increment() == 1
        for name in cluster.peers:
            cluster.kill(name)
        with pytest.raises(NotApplied) as read:
            counter.value(timeout_s=DEADLINE_S)
        assert {place for place, _ in read.value.causes} == set(cluster.endpoints)
        with pytest.raises(Unreachable) as opened:
            Client(*cluster.endpoints, timeout_s=DEADLINE_S)
        assert dict(opened.value.causes) == dict.fromkeys(cluster.endpoints, "connection refused")
        ended = cluster.copycat("--timeout", "1s", "counter", "incr", "hits")
        assert ended.returncode == 5
        assert all(place in ended.stderr for place in cluster.endpoints)
        for name in cluster.peers:
            cluster.start(name)
        assert counter.value() == 1


SLEEPER = """
import sys
from copycat import Client, CopycatError, OutcomeUnknown
from copycat.resources import DistributedCounter, DistributedLock

with Client(*sys.argv[1:], session_timeout_s=1.0, timeout_s=30.0) as client:
    counter = client.open(DistributedCounter, "hits")
    grant = client.open(DistributedLock, "nightly").acquire()
    print(grant.token, client.session_id, flush=True)
    sys.stdin.readline()
    grant.lost.wait()
    try:
        grant.check()
    except CopycatError as error:
        print(type(error).__name__, flush=True)
    while True:
        try:
            print(counter.increment(), client.session_id, flush=True)
            break
        except CopycatError as error:
            # Lost only means that the session may be over: what was sent in it has an unknown outcome.
            print(type(error).__name__, file=sys.stderr)
            assert error.retryable or isinstance(error, OutcomeUnknown), error
"""


def test_a_client_that_slept_has_lost_its_lock(cluster: ProcessCluster) -> None:
    """Stopped for longer than its session: another holds the lock, and it learns so itself."""
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *cluster.endpoints],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sleeper.stdout is not None
    try:
        token, session = map(int, sleeper.stdout.readline().split())
        with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
            lock = client.open(DistributedLock, "nightly")
            assert lock.try_acquire() is None
            sleeper.send_signal(signal.SIGSTOP)
            with lock.acquire(timeout_s=WAIT_S) as grant:
                assert grant.token > token
                sleeper.send_signal(signal.SIGCONT)
                out, _ = sleeper.communicate("\n", timeout=WAIT_S)
                grant.check()
        lost, answer = out.splitlines()
        assert lost == "LockLost"
        count, new_session = map(int, answer.split())
        assert count == 1
        assert new_session != session
        assert sleeper.returncode == 0
    finally:
        sleeper.kill()
        sleeper.communicate()
