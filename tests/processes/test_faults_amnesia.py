"""What a server does that has lost what it promised: it stops with a line, and takes nothing along."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from copycat.actors.network import free_ports
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.storage.floor import Floor, Promise
from process_cluster import HOST, WAIT_S, ProcessCluster, count, until

INCREMENTS = 40


def promise(directory: Path) -> Promise:
    """What the floor of a server says."""
    disk = SimulatedDisk(random.Random(0))
    disk.restore({Floor.NAME: (directory / Floor.NAME).read_bytes()})
    return Floor(disk).promise


def log_of(directory: Path) -> Path:
    """The only segment of a server's log that is in use."""
    (log,) = [file for file in directory.glob("log-*") if file.read_bytes().strip(b"\0")]
    return log


def idle_victim(cluster: ProcessCluster) -> str:
    """A follower that has promised all it has, as an idle server does; it is killed then."""
    count(cluster, INCREMENTS)
    victim = cluster.others(cluster.leader())[0]

    def has_promised() -> bool:
        status = cluster.statuses().get(victim)
        directory = cluster.directory / victim
        return status is not None and promise(directory).last_index == status.last_index

    until(has_promised, "an idle server promises what it has")
    cluster.kill(victim)
    return victim


def refused(cluster: ProcessCluster, victim: str) -> str:
    """The last words of a server that does not start with what is on its disk."""
    cluster.start(victim)
    assert cluster.ended(victim) == 1
    return cluster.last_words(victim)


CHANGES: list[tuple[str, Callable[[bytes], bytes | None]]] = [
    ("log", lambda _: None),
    ("log", lambda _: b""),
    ("log", lambda content: bytes(len(content))),
    ("log", lambda content: bytes(40) + content[:-40]),
    ("ballot", lambda _: None),
    ("floor", lambda _: None),
    ("lives", lambda _: None),
    ("identity", lambda _: None),
    ("configuration", lambda _: None),
]


def test_a_file_that_is_missing_is_missed(cluster: ProcessCluster) -> None:
    """A log that was removed, emptied, zeroed or shifted, and every other file that was removed, is
    refused by name; nothing is made in its place, and with the file back the server serves."""
    victim = idle_victim(cluster)
    directory = cluster.directory / victim
    log = log_of(directory)
    for name, change in CHANGES:
        file = log if name == "log" else directory / name
        before = file.read_bytes()
        after = change(before)
        if after is None:
            file.unlink()
        else:
            file.write_bytes(after)
        told = refused(cluster, victim)
        assert told.startswith(f"copycat: file {file.name} is missing")
        assert "has lost what it had promised" in told
        assert (file.read_bytes() if file.exists() else None) == after
        file.write_bytes(before)
    cluster.start(victim)
    until(lambda: victim in cluster.statuses(), "with its files back it serves")
    assert count(cluster, 1) == INCREMENTS + 1


def test_a_damaged_newest_record_is_refused_after_an_idle_second(cluster: ProcessCluster) -> None:
    """Nothing was written behind it, but the floor says that it was durable: it is not taken for a
    torn tail, and what was acknowledged is not answered with an older value."""
    victim = idle_victim(cluster)
    log = log_of(cluster.directory / victim)
    before = log.read_bytes()
    end = len(before.rstrip(b"\0"))
    log.write_bytes(before[: end - 9] + bytes(range(1, 10)) + before[end:])
    told = refused(cluster, victim)
    assert told.startswith(f"copycat: the log is damaged in file {log.name} at byte ")
    assert "file floor" in told
    assert count(cluster, 1) == INCREMENTS + 1


def test_a_log_that_lost_its_unused_end_starts(cluster: ProcessCluster) -> None:
    """What was allocated and not used yet is no part of the log."""
    victim = idle_victim(cluster)
    log = log_of(cluster.directory / victim)
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2])
    cluster.start(victim)
    until(lambda: victim in cluster.statuses(), "it serves")
    assert count(cluster, 1) == INCREMENTS + 1


def test_an_older_copy_of_a_directory_is_refused(cluster: ProcessCluster, tmp_path: Path) -> None:
    """The others have met a later life of the server: it exits with 8, and the newest one is still
    welcome."""
    victim = idle_victim(cluster)
    directory, older, newest = cluster.directory / victim, tmp_path / "older", tmp_path / "newest"
    shutil.copytree(directory, older)
    cluster.start(victim)
    until(lambda: followed(cluster, victim), "it is met in its next life")
    count(cluster, INCREMENTS)
    cluster.kill(victim)
    directory.rename(newest)
    older.rename(directory)
    cluster.start(victim)
    assert cluster.ended(victim) == 8
    told = cluster.last_words(victim)
    assert "its data directory is an earlier copy" in told
    assert "a lost server cannot be replaced yet" in told
    shutil.rmtree(directory)
    newest.rename(directory)
    cluster.start(victim)
    until(lambda: followed(cluster, victim), "the newest directory is welcome")
    assert count(cluster, 1) == 2 * INCREMENTS + 1


def followed(cluster: ProcessCluster, name: str) -> bool:
    """Whether all other servers are connected with this one."""
    others = [status for other, status in cluster.statuses().items() if other != name]
    return len(others) == len(cluster.peers) - 1 and all(
        peer.connected for status in others for peer in status.peers if peer.name == name
    )


def test_a_copy_beside_the_server_it_was_made_of_is_refused(cluster: ProcessCluster) -> None:
    """A copy of a living server's directory on another port: it exits with 8, and the first stays."""
    victim = idle_victim(cluster)
    cluster.start(victim)
    until(lambda: followed(cluster, victim), "it is met")
    twin = cluster.directory / "twin"
    shutil.copytree(cluster.directory / victim, twin)
    words = cluster.words(victim)
    words[words.index("--listen") + 1] = f"{HOST}:{free_ports(1, HOST)[0]}"
    words[words.index("--data") + 1] = str(twin)
    ended = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 8
    told = ended.stderr.splitlines()[-1]
    assert f"{victim} is running elsewhere, and still answers" in told
    assert "keep the one that runs" in told
    assert cluster.processes[victim].poll() is None, "the first one stays"
    until(lambda: followed(cluster, victim), "and is connected")
    assert count(cluster, 1) == INCREMENTS + 1


def test_files_of_an_earlier_life_are_refused(cluster: ProcessCluster) -> None:
    """Log and floor of a server as they were before its last start, and the floor alone, with
    everything else as it is: nothing says that they are not each other's, but the life that was begun
    with a later floor. Else the count would go back, for those who have it are down."""
    victim = idle_victim(cluster)
    directory = cluster.directory / victim
    files = [log_of(directory), directory / Floor.NAME]
    older = {file: file.read_bytes() for file in files}
    cluster.start(victim)
    until(lambda: followed(cluster, victim), "it is met in its next life")
    leader = cluster.leader()
    third = next(name for name in cluster.peers if name not in (leader, victim))
    cluster.kill(third)
    assert count(cluster, INCREMENTS) == 2 * INCREMENTS
    cluster.kill(victim)
    cluster.kill(leader)
    newest = {file: file.read_bytes() for file in files}
    cluster.start(third)
    for changed in (files, [directory / Floor.NAME]):
        for file in changed:
            file.write_bytes(older[file])
        told = refused(cluster, victim)
        assert told.startswith("copycat: file floor is that of an earlier start")
        assert "has lost what it had promised" in told
        assert "as it was when this server last stopped, if it has not run since" in told
        for file in changed:
            assert file.read_bytes() == older[file], "nothing was changed"
            file.write_bytes(newest[file])
    cluster.start(victim)
    until(lambda: victim in cluster.statuses(), "with its files back it serves")
    assert count(cluster, 1) == 2 * INCREMENTS + 1
