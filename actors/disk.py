"""The real disk: one directory of files, used by one process.

A directory has mode 0700, its files 0600. Names are given by our own code, never by users. Syncs
that were asked for in a turn are carried out together at its end, after the turn's frames are on
their way: at once, on the loop, while nobody else shares it, the disk is fast and little is to be
written; else in a thread, where one round is under way at a time and all that comes meanwhile shares the next.
Whatever was asked for ends as a ``DiskDone`` message after the call, never inside it.

A new content or a new file is written beside its final name, as ``name.new``, and renamed when it
is durable; what a crash leaves under such names is removed when the directory is opened.
"""

import errno
import fcntl
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from copycat.actors.address import NodeAddress
from copycat.actors.environment import DiskDone, File

LOCK_NAME = "lock"
UNFINISHED = ".new"  # ends the name of a file that is not complete yet
SLOW_SYNC_S = 0.002  # a sync that takes longer holds up a loop too much, if most do
STALLED_SYNC_S = 0.1  # a single one that takes longer is enough
RECENT_SYNCS = 16
INLINE_BYTES_MAX = 256 * 1024  # made durable in one round on the loop
ZEROS_BYTES = 256 * 1024
"""A file is filled in pieces of so much, each of them synced: a disk that is given all of it at once
lets the syncs of others wait until it has written that."""

Deliver = Callable[[NodeAddress, DiskDone], None]


class DirectoryInUseError(OSError):
    """Another process uses this directory. Nothing in it was touched."""

    def __init__(self, path: Path, process: str) -> None:
        self.path = path
        super().__init__(
            f"directory {path} is in use by process {process or 'unknown'}: stop that one, or"
            " give this node a directory of its own"
        )


class DirectoryFile:
    """An open file of a ``DirectoryDisk``; see ``environment.File``."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.named = False  # whether the name is known to survive a crash
        self.syncs = 0  # under way; the descriptor stays open until they have ended
        self.unsynced_bytes = 0  # written since a sync was asked for
        self.closed = False

    def size(self) -> int:
        """Bytes in the file, preallocated ones included."""
        return os.fstat(self.descriptor).st_size

    def read(self, offset: int, size_bytes: int) -> bytes:
        """At most ``size_bytes`` bytes from ``offset``; fewer only at the end of the file."""
        content = os.pread(self.descriptor, size_bytes, offset)
        if len(content) == size_bytes:
            return content
        parts = []
        while content:  # the end of the file, or a read that the system cut short
            parts.append(content)
            size_bytes -= len(content)
            offset += len(content)
            content = os.pread(self.descriptor, size_bytes, offset)
        return b"".join(parts)

    def write(self, offset: int, content: bytes) -> None:
        """Put all of ``content`` at ``offset``: visible at once, durable only after a sync."""
        self.unsynced_bytes += len(content)
        _write_all(self.descriptor, content, offset)

    def close(self) -> None:
        """Give the file up; what was not synced stays undecided."""
        if self.closed:
            return
        self.closed = True
        if self.syncs == 0:
            os.close(self.descriptor)

    def sync_ended(self) -> None:
        """One sync less is under way."""
        self.syncs -= 1
        if self.closed and self.syncs == 0:
            os.close(self.descriptor)


@dataclass(slots=True)
class _Job:
    """Something asked of the disk, and who is told."""

    file: str
    work: Callable[[], None]
    reply_to: NodeAddress
    token: int
    opened: DirectoryFile | None = None  # of a sync
    written_bytes: int = 0  # that the disk has yet to take
    error: str | None = None

    def run(self) -> None:
        try:
            self.work()
        except OSError as error:
            self.error = f"{self.file}: {error.strerror or error}"
        except MemoryError:
            self.error = f"{self.file}: out of memory"


class _Lane:
    """Jobs that run one after the other in a thread, a round of them at a time."""

    def __init__(self, disk: "DirectoryDisk") -> None:
        self.waiting: list[_Job] = []
        self.busy = False
        self._disk = disk

    def start(self, run: Callable[[list[_Job]], None]) -> None:
        """Begin a round with all that waits, unless one is under way."""
        if self.busy or not self.waiting or self._disk.closed:
            return
        jobs, self.waiting = self.waiting, []
        self.busy = True

        def ended(future: Future[None]) -> None:
            future.result()  # a job keeps its own OSError; anything else is a bug and is shown
            self.busy = False
            self._disk.report(jobs)
            self.start(run)

        try:
            self._disk.in_thread(lambda: run(jobs), ended)
        except RuntimeError as error:  # no thread is to be had; a pool's other one finds no jobs
            refused, jobs[:] = jobs[:], []
            for job in refused:
                job.error = f"{job.file}: {error} (see `ulimit -u`, or the limit of the container)"
            self.busy = False
            self._disk.report(refused)


class DirectoryDisk:
    """The files of one directory; see ``environment.Disk``."""

    def __init__(
        self,
        path: Path,
        deliver: Deliver,
        call_soon_threadsafe: Callable[..., object],
        plan_turn: Callable[[], None],
        *,
        shares_loop: bool = False,
    ) -> None:
        """Open a directory, made if need be, for this process alone.

        Args:
            path: the directory.
            deliver: how a ``DiskDone`` reaches its actor.
            call_soon_threadsafe: the loop's.
            plan_turn: makes sure that ``end_turn`` is called soon.
            shares_loop: other nodes run on the loop, so no sync may hold it up.

        Raises:
            DirectoryInUseError: another process has it open.
            OSError: it cannot be made, read or written.
        """
        self.path = path
        self._deliver = deliver
        self._call_soon_threadsafe = call_soon_threadsafe
        self._plan_turn = plan_turn
        self._shares_loop = shares_loop
        self._recent_s: deque[float] = deque([0.0] * RECENT_SYNCS, RECENT_SYNCS)
        self._threads: ThreadPoolExecutor | None = None
        self.closed = False
        self._files: list[DirectoryFile] = []
        self._syncs = _Lane(self)
        self._replaces = _Lane(self)
        self._allocations = _Lane(self)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            logging.getLogger("copycat.actors").warning("directory open to others path=%s", path)
        self._lock = self._open(LOCK_NAME, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise DirectoryInUseError(path, process) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        for entry in path.iterdir():
            if entry.name.endswith(UNFINISHED):
                entry.unlink()

    def names(self) -> list[str]:
        """The files there are, sorted."""
        return sorted(
            entry.name
            for entry in self.path.iterdir()
            if entry.name != LOCK_NAME and not entry.name.endswith(UNFINISHED)
        )

    def open(self, name: str, *, create: bool = False) -> File:
        """Open a file for reading and writing; ``create`` makes an empty one if there is none."""
        flags = os.O_RDWR | os.O_CREAT if create else os.O_RDWR
        file = DirectoryFile(name, self._open(name, flags))
        self._files = [other for other in self._files if not other.closed]
        self._files.append(file)
        return file

    def remove(self, name: str) -> None:
        """Remove a file. It may be back after a crash."""
        (self.path / name).unlink()

    def load(self, name: str) -> bytes | None:
        """The whole of a small file, or None when there is no such file."""
        try:
            # What is no file, such as a named pipe, might never come to its end.
            descriptor = self._open(name, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", name)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)

    def sync(self, file: File, reply_to: NodeAddress, token: int) -> None:
        """Make durable all that was written to ``file`` before this call, and its name."""
        assert isinstance(file, DirectoryFile), "a file is synced by the disk that opened it"
        assert not file.closed, "an open file is synced"
        file.syncs += 1
        written_bytes, file.unsynced_bytes = file.unsynced_bytes, 0
        job = _Job(
            file.name, lambda: self._sync(file), reply_to, token, file, written_bytes=written_bytes
        )
        self._ask(self._syncs, job)

    def replace(self, name: str, content: bytes, reply_to: NodeAddress, token: int) -> None:
        """Atomically give file ``name`` this content: after a crash it has the old or the new."""
        job = _Job(
            name,
            lambda: self._make(name, lambda unfinished: _write_all(unfinished, content, 0)),
            reply_to,
            token,
            written_bytes=len(content),
        )
        self._ask(self._replaces, job)

    def allocate(self, name: str, size_bytes: int, reply_to: NodeAddress, token: int) -> None:
        """Make file ``name``, filled with zeros and durable, without holding up the loop."""
        job = _Job(name, lambda: self._fill(name, size_bytes), reply_to, token)
        self._ask(self._allocations, job)

    # When and where the work is done.

    def end_turn(self) -> bool:
        """Carry out, or begin, what was asked for since the last call; whether there was anything."""
        if not (self._syncs.waiting or self._replaces.waiting or self._allocations.waiting):
            return False
        jobs = self._syncs.waiting + self._replaces.waiting
        if jobs and self._is_inline(jobs):
            # What the replies ask for in turn waits for the next end of a turn.
            self._syncs.waiting, self._replaces.waiting = [], []
            self._run_timed(jobs)
            self.report(jobs)
        elif jobs:
            self._syncs.start(self._run_timed)
            self._replaces.start(self._run_timed)
        self._allocations.start(_run)
        return True

    def report(self, jobs: list[_Job]) -> None:
        """Tell who asked for them how these jobs ended."""
        for job in jobs:
            if job.opened is not None:
                job.opened.sync_ended()
            if not self.closed:
                self._deliver(job.reply_to, DiskDone(job.token, job.error))

    def in_thread(self, work: Callable[[], None], ended: Callable[[Future[None]], None]) -> None:
        """Do work in a thread of this disk, then call ``ended`` on the loop."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(3, f"disk {self.path.name}")  # one for each lane

        def back_on_the_loop(future: Future[None]) -> None:
            if not self.closed:
                self._call_soon_threadsafe(ended, future)

        self._threads.submit(work).add_done_callback(back_on_the_loop)

    def close(self) -> None:
        """Give the directory up. What is under way may or may not be done; nobody is told."""
        self.closed = True
        if self._threads is not None:
            # No thread may write here once the lock is gone.
            self._threads.shutdown(wait=True, cancel_futures=True)
        for file in self._files:
            if file.syncs or not file.closed:
                file.closed = True
                file.syncs = 0
                os.close(file.descriptor)
        os.close(self._directory)
        os.close(self._lock)

    def _is_inline(self, jobs: list[_Job]) -> bool:
        # The middle one counts: what makes single syncs a little slow, above all that this process
        # had to wait for a processor, makes threads slower still.
        if self._shares_loop or self._syncs.busy or self._replaces.busy:
            return False
        if sum(job.written_bytes for job in jobs) > INLINE_BYTES_MAX:
            return False
        return sorted(self._recent_s)[RECENT_SYNCS // 2] < SLOW_SYNC_S

    def _ask(self, lane: _Lane, job: _Job) -> None:
        assert not self.closed, "a disk that was closed is not used"
        lane.waiting.append(job)
        self._plan_turn()

    def _run_timed(self, jobs: list[_Job]) -> None:
        began_s = time.perf_counter()
        _run(jobs)
        spent_s = time.perf_counter() - began_s
        # No round after one that stalled the loop may do so again, until the disk has been fast for
        # as long as it takes to forget this one.
        self._recent_s.extend([spent_s] * (RECENT_SYNCS if spent_s > STALLED_SYNC_S else 1))

    # The work. It runs on the loop or in a thread, and touches nothing but files.

    def _sync(self, file: DirectoryFile) -> None:
        os.fdatasync(file.descriptor)
        if not file.named:
            os.fsync(self._directory)
            file.named = True

    def _fill(self, name: str, size_bytes: int) -> None:
        def fill(descriptor: int) -> None:
            zeros = bytes(min(ZEROS_BYTES, size_bytes))
            for offset in range(0, size_bytes, ZEROS_BYTES):
                _write_all(descriptor, zeros[: size_bytes - offset], offset)
                os.fdatasync(descriptor)

        self._make(name, fill)

    def _make(self, name: str, write: Callable[[int], None]) -> None:
        unfinished = name + UNFINISHED
        descriptor = self._open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            write(descriptor)
            os.fsync(descriptor)
        except OSError:
            (self.path / unfinished).unlink()  # a full disk needs the room
            raise
        finally:
            os.close(descriptor)
        (self.path / unfinished).rename(self.path / name)
        os.fsync(self._directory)

    def _open(self, name: str, flags: int) -> int:
        return os.open(self.path / name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _run(jobs: list[_Job]) -> None:
    """Run jobs in order; a file is synced once for all who asked in this round."""
    synced: dict[str, _Job] = {}
    for job in jobs:
        first = synced.get(job.file) if job.opened is not None else None
        if first is not None and first.opened is job.opened:
            job.error = first.error
            continue
        job.run()
        if job.opened is not None:
            synced[job.file] = job


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, content, offset)
    while written < len(content):
        written += os.pwrite(descriptor, memoryview(content)[written:], offset + written)
