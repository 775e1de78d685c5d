"""What disks do to a server: it stops with one line, the others go on, nothing is lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from copycat import Client, NotApplied, OutcomeUnknown
from copycat.resources import DistributedCounter, DistributedMap
from process_cluster import WAIT_S, ProcessCluster, count, now_s, until

INCREMENTS = 40
SYNCS = 60  # before the disk fails: the cluster is founded and at work by then
FULL_BYTES = 14 << 20  # room for one segment of the log, not for the next


def counted(cluster: ProcessCluster) -> int:
    """The count, as a majority knows it."""
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
        return client.open(DistributedCounter, "hits").value()


def log_of(cluster: ProcessCluster, name: str) -> tuple[Path, int]:
    """The only file of a server's log, and where what was written ends."""
    (file,) = (cluster.directory / name).glob("log-*")
    return file, len(file.read_bytes().rstrip(b"\0"))


def change(file: Path, offset: int, content: bytes) -> None:
    """Put other bytes into a file."""
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(content)


def test_a_damaged_record_that_was_synced_is_refused(cluster: ProcessCluster) -> None:
    """One flipped byte: serve exits with 1 and names file and offset; the others go on."""
    assert count(cluster, INCREMENTS) == INCREMENTS
    victim = cluster.others(cluster.leader())[0]
    cluster.kill(victim)
    file, end = log_of(cluster, victim)
    before = file.read_bytes()
    damaged = bytes([before[end // 2] ^ 0x10])
    change(file, end // 2, damaged)
    cluster.start(victim)
    assert cluster.ended(victim) == 1
    told = cluster.last_words(victim)
    assert told.startswith(f"copycat: the log is damaged in file {file.name} at byte ")
    offset = int(told.partition("at byte ")[2].split()[0])
    assert 0 <= end // 2 - offset < 1000
    assert file.read_bytes() == before[: end // 2] + damaged + before[end // 2 + 1 :]
    assert count(cluster, 1) == INCREMENTS + 1


@pytest.mark.parametrize("torn", ["noise", "a copy of whole records"])
def test_a_torn_tail_is_cut_and_caught_up(cluster: ProcessCluster, torn: str) -> None:
    """Behind the last synced record is garbage: the server starts, and fetches what it lacks."""
    count(cluster, INCREMENTS)
    victim, third = cluster.others(cluster.leader())
    cluster.kill(victim)
    count(cluster, 1)
    file, end = log_of(cluster, victim)
    written = file.read_bytes()[:end]
    change(file, end + 64, written[-500:] if torn != "noise" else bytes(range(1, 200)))
    cluster.start(victim)
    assert count(cluster, 1) == INCREMENTS + 2
    cluster.kill(third)
    # Nobody has a majority without the one that was torn.
    assert count(cluster, 1) == INCREMENTS + 3
    assert "Traceback" not in cluster.errors(victim)


def test_a_damaged_last_record_costs_nothing_that_was_acknowledged(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    """Right after it was written it cannot be told from a torn one on the disk,
    but the leader knows who had acknowledged it: the server is refused with exit code 8,
    and a copy from before that start lacks what it may have promised in it."""
    leader = cluster.leader()
    victim = cluster.others(leader)[0]
    count(cluster, INCREMENTS)
    cluster.kill(victim)  # before it has been idle for long
    file, end = log_of(cluster, victim)
    shutil.copytree(file.parent, tmp_path / "before")
    change(file, end - 9, bytes(range(1, 10)))
    cluster.start(victim)
    assert cluster.ended(victim) == 8
    assert "it has lost what it had acknowledged" in cluster.last_words(victim)
    assert counted(cluster) == INCREMENTS
    shutil.rmtree(file.parent)
    shutil.move(tmp_path / "before", file.parent)
    cluster.start(victim)
    assert cluster.ended(victim) == 8
    assert "its data directory is an earlier copy" in cluster.last_words(victim)
    assert count(cluster, 1) == INCREMENTS + 1


def test_a_damaged_small_file_is_refused(cluster: ProcessCluster) -> None:
    """Who a server is, and what it voted, is never guessed: it exits with 1 and names the file."""
    count(cluster, 1)
    victim = cluster.others(cluster.leader())[0]
    cluster.kill(victim)
    for name in ("ballot", "identity", "configuration"):
        file = cluster.directory / victim / name
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        cluster.start(victim)
        assert cluster.ended(victim) == 1
        assert cluster.last_words(victim).startswith(f"copycat: file {name} is damaged")
        file.write_bytes(before)
    cluster.start(victim)
    until(lambda: victim in cluster.statuses(), "with the whole files it serves")
    assert count(cluster, 1) == 2


def test_a_failed_sync_stops_one_server(tmp_path: Path) -> None:
    """It says so and exits with 1, loses nothing that was acknowledged, and starts again."""
    strace = ["strace", "-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync"]
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")
    if subprocess.run([*strace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here: run the tests as root, or where ptrace is allowed")
    cluster = ProcessCluster(tmp_path)
    # Who has the first name stands for election first, so most often it is a leader that fails.
    victim, *others = cluster.peers
    fails = f"inject=fdatasync:error=EIO:when={SYNCS}"
    with cluster:
        for name in cluster.peers:
            cluster.kill(name)
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        cluster.start(victim, *strace, "-e", fails)
        for name in others:
            cluster.start(name)
        acknowledged = unknown = 0
        end_s = now_s() + WAIT_S
        with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
            counter = client.open(DistributedCounter, "hits")
            while cluster.processes[victim].poll() is None or acknowledged < 2 * SYNCS:
                assert now_s() < end_s, "the server outlives a failed sync, or the others stop"
                try:
                    counter.increment()
                    acknowledged += 1
                except NotApplied:
                    continue
                except OutcomeUnknown:
                    unknown += 1
        assert cluster.ended(victim) == 1
        told = cluster.last_words(victim)
        assert told.startswith("copycat: the disk failed to sync")
        assert "Input/output error" in told
        cluster.start(victim)
        cluster.kill(others[0])
        assert acknowledged <= counted(cluster) <= acknowledged + unknown


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={FULL_BYTES},mode=0700", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted: run the tests as root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_one_server(tmp_path: Path, small_disk: Path) -> None:
    """The cluster goes on without it; with more room it starts again with all it had."""
    cluster = ProcessCluster(tmp_path)
    victim, other, _ = cluster.peers
    (tmp_path / victim).symlink_to(small_disk)
    with cluster:
        written = 0
        with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
            files = client.open(DistributedMap, "files")
            end_s = now_s() + WAIT_S
            while cluster.processes[victim].poll() is None:
                assert now_s() < end_s, "the disk does not fill"
                files[written] = bytes(250_000)
                written += 1
            assert cluster.ended(victim) == 1
            told = cluster.last_words(victim)
            assert told.startswith("copycat: the disk failed to")
            assert "No space left on device" in told
            files[written] = b"the others go on"
            cluster.start(victim)  # there is no room yet
            assert cluster.ended(victim) == 1
            assert "No space left on device" in cluster.last_words(victim)
            remount = ["mount", "-o", f"remount,size={16 * FULL_BYTES}", str(small_disk)]
            subprocess.run(remount, check=True)
            cluster.start(victim)
            until(lambda: victim in cluster.statuses(), "it serves again")
            cluster.kill(other)
            # Nobody has a majority without the one that was full.
            assert files[written] == b"the others go on"
            assert len(files) == written + 1
        cluster.kill(victim)
