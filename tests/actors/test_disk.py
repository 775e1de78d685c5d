"""The real disk does what it promises: one process, private files, every outcome a message."""

import asyncio
import itertools
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from copycat.actors import Identity
from copycat.actors.disk import (
    INLINE_BYTES_MAX,
    ZEROS_BYTES,
    DirectoryDisk,
    DirectoryFile,
    DirectoryInUseError,
)
from copycat.actors.environment import DiskDone
from copycat.actors.network import NetworkNode
from network_world import Echo, Seen, World, in_world

Body = Callable[[NetworkNode, Seen], Coroutine[Any, Any, None]]


@pytest.fixture(params=[False, True], ids=["inline", "thread"])
def in_node(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    """Run a coroutine with a node that has a disk, and a probe; syncs inline or in a thread."""

    def run(body: Body) -> None:
        world = World()

        async def test() -> None:
            node = NetworkNode(
                Identity("n"), directory=tmp_path / "data", shares_loop=request.param
            )
            world.nodes.append(node)
            await body(node, Seen(node))

        in_world(test(), world)

    return run


InNode = Callable[[Body], None]


def test_what_is_written_is_read(in_node: InNode) -> None:
    """At any offset; fewer bytes only at the end of the file."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        disk = node.environment.disk
        file = disk.open("log", create=True)
        file.write(0, b"hello")
        file.write(8, b"there")
        assert file.read(0, 100) == b"hello\0\0\0there"
        assert file.read(8, 3) == b"the"
        assert file.read(13, 5) == b""
        assert file.size() == 13
        disk.sync(file, seen.address, 1)
        assert await seen.next() == DiskDone(1, None)
        file.close()
        assert disk.names() == ["log"]
        assert disk.load("log") == b"hello\0\0\0there"
        disk.remove("log")
        assert disk.load("log") is None
        assert disk.names() == []
        with pytest.raises(FileNotFoundError):
            disk.open("log")

    in_node(body)


def test_a_replaced_file_has_the_new_content(in_node: InNode) -> None:
    """The last of several in one turn wins; each is reported."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        disk = node.environment.disk
        for number in range(4):
            disk.replace("ballot", b"%d" % number, seen.address, number)
        assert [await seen.next() for _ in range(4)] == [DiskDone(n, None) for n in range(4)]
        assert disk.load("ballot") == b"3"
        disk.replace("large", bytes(1024 * 1024), seen.address, 9)
        assert await seen.next() == DiskDone(9, None)
        assert disk.names() == ["ballot", "large"]

    in_node(body)


def test_an_allocated_file_is_full_of_zeros(in_node: InNode) -> None:
    """To the last byte, whatever its size."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        disk = node.environment.disk
        for token, size_bytes in enumerate([0, 1, 1024 * 1024, 2_500_001]):
            disk.allocate("segment", size_bytes, seen.address, token)
            assert await seen.next() == DiskDone(token, None)
            assert disk.load("segment") == bytes(size_bytes)

    in_node(body)


def test_nothing_is_reported_inside_the_call(in_node: InNode) -> None:
    """Also when the sync is carried out at once: the message comes in a turn."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        file = node.environment.disk.open("log", create=True)
        file.write(0, b"x")
        node.environment.disk.sync(file, seen.address, 5)
        assert seen.nothing_more()
        assert await seen.next() == DiskDone(5, None)

    in_node(body)


def test_syncs_of_one_turn_share_one(in_node: InNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests for one file in one turn cost one fdatasync, and get three answers."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        calls: list[int] = []
        monkeypatch.setattr(os, "fdatasync", calls.append)
        file = node.environment.disk.open("log", create=True)
        for token in range(3):
            node.environment.disk.sync(file, seen.address, token)
        assert [(await seen.next()).token for _ in range(3)] == [0, 1, 2]
        assert len(calls) == 1

    in_node(body)


def test_a_failed_sync_is_reported_with_file_and_reason(
    in_node: InNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To everyone who shares it; the disk does not try again by itself."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        calls: list[int] = []

        def fail(descriptor: int) -> None:
            calls.append(descriptor)
            raise OSError(5, "Input/output error")

        file = node.environment.disk.open("log", create=True)
        monkeypatch.setattr(os, "fdatasync", fail)
        for token in range(2):
            node.environment.disk.sync(file, seen.address, token)
        for token in range(2):
            assert await seen.next() == DiskDone(token, "log: Input/output error")
        assert len(calls) == 1

    in_node(body)


def test_a_failed_replacement_leaves_the_old_content(
    in_node: InNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no unfinished file that would take the last room of a full disk."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        disk = node.environment.disk
        disk.replace("ballot", b"old", seen.address, 1)
        await seen.next()

        def full(descriptor: int, content: bytes, offset: int) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            disk.replace("ballot", b"new", seen.address, 2)
            disk.allocate("segment", 100, seen.address, 3)
            errors = {done.token: done.error for done in [await seen.next(), await seen.next()]}
        assert errors == {
            2: "ballot: No space left on device",
            3: "segment: No space left on device",
        }
        assert disk.load("ballot") == b"old"
        assert sorted(entry.name for entry in directory_of(node).iterdir()) == ["ballot", "lock"]

    in_node(body)


def test_short_writes_are_completed(in_node: InNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take less than it is given, and give less than is asked for."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        pwrite, pread = os.pwrite, os.pread
        monkeypatch.setattr(os, "pwrite", lambda fd, content, at: pwrite(fd, content[:7], at))
        monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 5), at))
        file = node.environment.disk.open("log", create=True)
        content = bytes(range(100))
        file.write(3, content)
        assert file.read(3, 100) == content
        assert file.read(50, 1000) == content[47:]

    in_node(body)


def test_a_new_name_is_synced_with_its_directory(
    in_node: InNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first sync of the file only."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        synced: list[bool] = []
        monkeypatch.setattr(
            os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        )
        file = node.environment.disk.open("log", create=True)
        for token in range(3):
            node.environment.disk.sync(file, seen.address, token)
            await seen.next()
        assert synced == [True]

    in_node(body)


def test_a_file_may_be_closed_while_it_is_synced(tmp_path: Path) -> None:
    """The descriptor stays until the sync has ended; no other file can get its number before."""
    done: list[DiskDone] = []

    async def test() -> None:
        loop = asyncio.get_running_loop()
        node = NetworkNode(Identity("n"))
        ended = asyncio.Event()

        def deliver(_: Any, message: DiskDone) -> None:
            done.append(message)
            ended.set()

        disk = DirectoryDisk(
            tmp_path, deliver, loop.call_soon_threadsafe, lambda: None, shares_loop=True
        )
        file = disk.open("log", create=True)
        assert isinstance(file, DirectoryFile)
        disk.sync(file, node.spawn(Echo), 1)
        disk.end_turn()
        file.close()
        os.fstat(file.descriptor)
        await ended.wait()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file.descriptor)
        disk.close()
        node.stop()

    asyncio.run(test())
    assert done == [DiskDone(1, None)]


def test_a_directory_belongs_to_one_node(tmp_path: Path) -> None:
    """The second is told who has it and what to do; after a stop it is free again."""

    async def test() -> None:
        first = NetworkNode(Identity("n"), directory=tmp_path)
        with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()}: stop"):
            NetworkNode(Identity("n"), directory=tmp_path)
        first.stop()
        NetworkNode(Identity("n"), directory=tmp_path).stop()

    asyncio.run(test())


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    """A process that was killed leaves nothing to clean up, and its unfinished files go."""
    program = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from copycat.actors import Identity\n"
        "from copycat.actors.network import NetworkNode\n"
        "async def run():\n"
        "    NetworkNode(Identity('n'), directory=pathlib.Path(sys.argv[1]))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(run())\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "lock").exists()
    (tmp_path / "snapshot.new").write_bytes(b"half")

    async def test() -> None:
        node = NetworkNode(Identity("n"), directory=tmp_path)
        assert node.environment.disk.names() == []
        node.stop()

    asyncio.run(test())
    assert not (tmp_path / "snapshot.new").exists()


def test_others_of_the_machine_cannot_read(in_node: InNode) -> None:
    """The directory is 0700 and every file 0600, however it came about and whatever the umask."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        disk = node.environment.disk
        disk.open("opened", create=True).close()
        disk.replace("replaced", b"x", seen.address, 1)
        disk.allocate("allocated", 10, seen.address, 2)
        await seen.next()
        await seen.next()
        directory = directory_of(node)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        files = list(directory.iterdir())
        assert len(files) == 4
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    before = os.umask(0)
    try:
        in_node(body)
    finally:
        os.umask(before)


def rounds_on_the_loop(path: Path, what: str, sizes_bytes: list[int]) -> list[bool]:
    """Sync a file, or replace one, in a round for each of these sizes; which were done on the loop."""
    on_the_loop: list[bool] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        disk = DirectoryDisk(path, lambda *_: ended.set(), loop.call_soon_threadsafe, lambda: None)
        file = disk.open("log", create=True)
        node = NetworkNode(Identity("n"))
        for token, size_bytes in enumerate(sizes_bytes):
            if what == "sync":
                file.write(0, bytes(size_bytes))
                disk.sync(file, node.spawn(Echo), token)
            else:
                disk.replace("ballot", bytes(size_bytes), node.spawn(Echo), token)
            disk.end_turn()
            on_the_loop.append(ended.is_set())
            await ended.wait()
            ended.clear()
        file.close()
        disk.close()
        node.stop()

    asyncio.run(story())
    return on_the_loop


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: Iterable[float]) -> None:
    """What the clock by which rounds are measured reads, one after the other."""
    left = iter(seconds)
    monkeypatch.setattr("copycat.actors.disk.time.perf_counter", lambda: next(left))


def test_a_slow_disk_is_synced_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the recent rounds decide; when they are fast again the loop does it itself again."""
    set_clock(monkeypatch, [0.0, 0.01] * 8 + [0.0, 0.001] * 40)
    on_the_loop = rounds_on_the_loop(tmp_path, "sync", [1] * 25)
    assert on_the_loop == [True] * 8 + [False] * 9 + [True] * 8


@pytest.mark.parametrize("what", ["sync", "replace"])
def test_one_stalled_sync_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """After a round above 100 ms none stalls the loop again; when they are fast it does them itself."""
    set_clock(monkeypatch, [0.0, 0.001] * 5 + [0.0, 0.11] + [0.0, 0.001] * 40)
    on_the_loop = rounds_on_the_loop(tmp_path, what, [1] * 25)
    assert on_the_loop == [True] * 6 + [False] * 9 + [True] * 10


@pytest.mark.parametrize("what", ["sync", "replace"])
def test_much_is_made_durable_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The loop goes on while large values are written, however fast the disk has been; what was
    written before an earlier sync counts no more."""
    set_clock(monkeypatch, itertools.repeat(0.0))
    sizes_bytes = [100, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 100]
    assert rounds_on_the_loop(tmp_path, what, sizes_bytes) == [True, True, False, True]


def test_a_file_is_filled_in_pieces_that_are_synced(
    in_node: InNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is never given more at once than one piece, behind which the syncs of others wait."""
    pwrite, fdatasync = os.pwrite, os.fdatasync
    unsynced_bytes: list[int] = [0]

    def write(descriptor: int, content: bytes, offset: int) -> int:
        unsynced_bytes[-1] += len(content)
        return pwrite(descriptor, content, offset)

    def sync(descriptor: int) -> None:
        fdatasync(descriptor)
        unsynced_bytes.append(0)

    async def body(node: NetworkNode, seen: Seen) -> None:
        monkeypatch.setattr(os, "pwrite", write)
        monkeypatch.setattr(os, "fdatasync", sync)
        node.environment.disk.allocate("log", 2 * ZEROS_BYTES + 1, seen.address, 1)
        await seen.next()
        assert unsynced_bytes == [ZEROS_BYTES, ZEROS_BYTES, 1, 0]
        assert (directory_of(node) / "log").stat().st_size == 2 * ZEROS_BYTES + 1

    in_node(body)


def test_without_a_thread_the_disk_fails_in_words(
    in_node: InNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process may start no thread, what needs one ends as a failure of the disk, by which
    a server stops, and as nothing else."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def body(node: NetworkNode, seen: Seen) -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        disk = node.environment.disk
        for token in (1, 2):
            disk.allocate("log", 4096, seen.address, token)
            done = await seen.next()
            assert isinstance(done, DiskDone)
            assert done.token == token
            assert str(done.error).startswith("log: can't start new thread (see `ulimit -u`")
        assert disk.names() == []

    in_node(body)


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_file_is_not_read(in_node: InNode, kind: str) -> None:
    """A named pipe, or a link to a device, in the place of a small file would be read without end."""

    async def body(node: NetworkNode, seen: Seen) -> None:
        path = directory_of(node) / "ballot"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/full")
        else:
            path.mkdir()
        with pytest.raises(OSError, match=r"no regular file|symbolic links"):
            node.environment.disk.load("ballot")

    in_node(body)


def directory_of(node: NetworkNode) -> Path:
    """Where a node's files are."""
    disk = node.environment.disk
    assert isinstance(disk, DirectoryDisk)
    return disk.path
