"""A disk in memory that keeps what a crash would leave apart from what programs see.

Every file has two images: the *visible* one, which reads see and writes change at once, and the
*durable* one, which is all that is sure to survive a crash. Pages of 512 bytes go from the first
to the second when a sync completes. At a crash each page that was not synced is kept or lost on
its own, in the newest state or in one that a sync was about to save; so is the length of a file,
and so are names that were made or removed since the directory was last synced.

The disk outlives the node that uses it: give the same object to the next incarnation. Without a
node it serves tests of storage: operations wait until ``finish`` is called.

Invariant: what a completed sync, replace or allocate was asked to save is in the durable image,
unless a fault was ordered.
"""

import errno
import os
import random
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from copycat.actors.address import NodeAddress
from copycat.actors.environment import DiskDone, File
from copycat.actors.simulated_file import Content, SimulatedFile
from copycat.actors.simulated_loop import SimulatedLoop

LATENCY_MIN_S = 0.00005
LATENCY_MAX_S = 0.002

_completion = struct.Struct("<QQ?")


@dataclass(slots=True, eq=False)
class _Operation:
    """A sync, replace or allocate that is under way."""

    number: int  # in the order of the calls
    name: str
    reply_to: NodeAddress
    token: int
    names_until: int  # name changes up to this one become durable with the operation
    error: str | None  # how it is going to fail, decided when it was asked for
    save: Callable[[], None]  # carries it out
    may_be_saved: bool = False  # whether it may be carried out though the node ends before
    due_s: float = 0.0


@dataclass(slots=True)
class _NameChange:
    number: int
    name: str
    content: Content | None  # None: the name was removed


class SimulatedDisk:
    """One node's directory, and the faults it can have.

    Attributes:
        random: decides latencies, and what a crash keeps. Same state, same calls, same outcome.
        latency_min_s: an operation takes at least this long, when a node uses the disk.
        latency_max_s: and at most this long, before the factor.
        latency_factor: slows every operation that starts from now on.
        capacity_bytes: writes that would make the files larger than this together fail with
            ENOSPC; None means no limit.
        write_error: an ``errno`` with which writes, creations and operations fail while it is set.
        read_error: the same for reads and loads.
        lose_syncs: syncs report success and save nothing: a disk that lies, for tests that
            must notice. Replaces and allocations stay honest.
        syncs: how many syncs have been asked for.
        life: raised when a crash or the end of a node kills the files that were open.
    """

    def __init__(
        self,
        random: random.Random,
        *,
        latency_min_s: float = LATENCY_MIN_S,
        latency_max_s: float = LATENCY_MAX_S,
    ) -> None:
        self.random = random
        self.latency_min_s = latency_min_s
        self.latency_max_s = latency_max_s
        self.latency_factor = 1.0
        self.capacity_bytes: int | None = None
        self.write_error: int | None = None
        self.read_error: int | None = None
        self.lose_syncs = False
        self.syncs = 0
        self.life = 0
        self._names: dict[str, Content] = {}
        self._durable_names: dict[str, Content] = {}
        self._name_changes: list[_NameChange] = []  # not durable yet, oldest first
        self._operations: dict[int, _Operation] = {}  # under way, oldest first
        self._number = 0  # of the last operation or change of a name
        self._sync_errors: deque[str] = deque()
        self._stalled_until_s = 0.0
        self._loop: SimulatedLoop | None = None
        self._now_s: Callable[[], float] | None = None  # of the node
        self._deliver: Callable[[NodeAddress, DiskDone], None] | None = None

    # What actors ask of a disk.

    def names(self) -> list[str]:
        """The files there are, sorted."""
        return sorted(self._names)

    def open(self, name: str, *, create: bool = False) -> SimulatedFile:
        """Open a file for reading and writing; ``create`` makes an empty one if there is none."""
        content = self._names.get(name)
        if content is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            self.check_writable(name, 0)
            content = Content()
            self._change_name(name, content)
        return SimulatedFile(name, content, self)

    def remove(self, name: str) -> None:
        """Remove a file. It may be back after a crash, until the directory is synced."""
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self.check_writable(name, 0)
        self._change_name(name, None)

    def load(self, name: str) -> bytes | None:
        """The whole of a small file, or None when there is no such file."""
        self.check_readable(name)
        content = self._names.get(name)
        return None if content is None else bytes(content.visible)

    def sync(self, file: File, reply_to: NodeAddress, token: int) -> None:
        """Make durable all that was written to ``file`` before this call, and its name."""
        assert isinstance(file, SimulatedFile), "a file is synced by the disk that opened it"
        assert file.life == self.life, "a file is used in the life it was opened in"
        assert not file.closed, "an open file is synced"
        self.syncs += 1
        content = file.content
        capture = content.capture(self._next_number())
        name_is_new = any(change.content is content for change in self._name_changes)

        def save() -> None:
            if not self.lose_syncs:
                content.save(capture)

        operation = self._operation(file.name, reply_to, token, save)
        operation.names_until = self._number if name_is_new and not self.lose_syncs else 0
        if self._sync_errors:
            operation.error = self._sync_errors.popleft()
        if operation.error is not None:
            # As Linux does it: the pages count as clean from now on, though they were not saved.
            content.abandon(capture)
        self._begin(operation)

    def replace(self, name: str, content: bytes, reply_to: NodeAddress, token: int) -> None:
        """Atomically give file ``name`` this content: after a crash it has the old or the new."""
        made = Content.durable_from(content)
        operation = self._operation(name, reply_to, token, lambda: self._install(name, made))
        operation.may_be_saved = True
        self._begin(operation)

    def allocate(self, name: str, size_bytes: int, reply_to: NodeAddress, token: int) -> None:
        """Make file ``name``, filled with zeros and durable; one of this name is replaced."""
        operation = self._operation(
            name, reply_to, token, lambda: self._install(name, Content.zeros(size_bytes))
        )
        operation.may_be_saved = True
        if self.is_full(size_bytes):
            operation.error = f"{name}: {os.strerror(errno.ENOSPC)}"
        self._begin(operation)

    # Operations.

    @property
    def pending(self) -> list[int]:
        """The tokens of the operations that are under way, oldest first."""
        return [operation.token for operation in self._operations.values()]

    def finish(self, token: int | None = None) -> DiskDone:
        """End the oldest operation (with this token) now; for tests without a node."""
        assert self._loop is None, "the loop ends the operations of a disk that a node uses"
        for operation in self._operations.values():
            if token is None or operation.token == token:
                return self._end(operation)
        raise AssertionError("no such operation is under way")

    def _operation(
        self, name: str, reply_to: NodeAddress, token: int, save: Callable[[], None]
    ) -> _Operation:
        number = self._next_number()
        error = None
        if self.write_error is not None:
            error = f"{name}: {os.strerror(self.write_error)}"
        return _Operation(number, name, reply_to, token, number, error, save)

    def _begin(self, operation: _Operation) -> None:
        self._operations[operation.number] = operation
        loop = self._loop
        if loop is None:
            return
        span_s = self.latency_max_s - self.latency_min_s
        latency_s = (self.latency_min_s + self.random.random() * span_s) * self.latency_factor
        assert self._now_s is not None, "who has a loop has a node"
        due_s = max(self._now_s() + latency_s, self._stalled_until_s)
        for other in self._operations.values():
            # Operations on one file end in the order of the calls; others in any.
            if other.name == operation.name:
                due_s = max(due_s, other.due_s)
        operation.due_s = due_s
        loop.plan(due_s, self._due, operation)

    def _due(self, operation: _Operation) -> None:
        if operation.number not in self._operations:  # it was lost in a crash
            return
        assert self._loop is not None, "operations of a disk without a node are not planned"
        if self._loop.time() < self._stalled_until_s:
            self._loop.plan(self._stalled_until_s, self._due, operation)
            return
        done = self._end(operation)
        self._loop.record(_completion.pack(operation.number, done.token, done.error is None))
        assert self._deliver is not None, "who has a loop has a node"
        self._deliver(operation.reply_to, done)

    def _end(self, operation: _Operation) -> DiskDone:
        del self._operations[operation.number]
        if operation.error is None:
            operation.save()
            self._save_names(operation.names_until)
        return DiskDone(operation.token, operation.error)

    def _install(self, name: str, content: Content) -> None:
        """Give a name new content, visibly and durably."""
        self._name_changes = [change for change in self._name_changes if change.name != name]
        self._names[name] = self._durable_names[name] = content

    # Names.

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _change_name(self, name: str, content: Content | None) -> None:
        self._name_changes.append(_NameChange(self._next_number(), name, content))
        _set_name(self._names, name, content)

    def _save_names(self, until: int) -> None:
        """A directory sync: changes of names up to this number are durable."""
        for change in self._name_changes:
            if change.number <= until:
                _set_name(self._durable_names, change.name, change.content)
        self._name_changes = [change for change in self._name_changes if change.number > until]

    # Faults.

    def fail_next_sync(self, error: str = "Input/output error") -> None:
        """Let the next sync that is asked for fail with this text. What it was to save counts as
        saved for later syncs, but is lost in a crash."""
        self._sync_errors.append(error)

    def stall(self, duration_s: float) -> None:
        """Let no operation end before this much time has passed."""
        assert self._loop is not None, "without a node nothing ends by itself"
        self._stalled_until_s = max(self._stalled_until_s, self._loop.time() + duration_s)

    def repair(self) -> None:
        """Undo every fault that lasts. What was lost stays lost, and what has failed already ends
        as a failure."""
        self.latency_factor = 1.0
        self.capacity_bytes = None
        self.write_error = self.read_error = None
        self.lose_syncs = False
        self._sync_errors.clear()

    @property
    def is_well(self) -> bool:
        """Whether no fault is in force."""
        return (
            self.latency_factor == 1.0
            and not self.lose_syncs
            and not self._sync_errors
            and self.capacity_bytes is self.write_error is self.read_error is None
            and (self._loop is None or self._loop.time() >= self._stalled_until_s)
        )

    def flip_bit(self, name: str, offset: int | None = None) -> int:
        """Turn one bit of a file over, for readers and for good; returns the offset of its byte.

        Args:
            name: the file.
            offset: which byte; None: a random one.
        """
        content = self._names[name]
        if offset is None:
            offset = self.random.randrange(len(content.visible))
        content.flip(offset, 1 << self.random.randrange(8))
        return offset

    def image(self) -> dict[str, bytes]:
        """What is durable now: the content of each file. Unsynced names are not in it."""
        return {name: bytes(content.durable) for name, content in self._durable_names.items()}

    def restore(self, image: dict[str, bytes]) -> None:
        """Roll the disk back to an image that was taken before, as a backup does."""
        self._lose_all_under_way()
        self._names = {name: Content.durable_from(data) for name, data in image.items()}
        self._durable_names = dict(self._names)

    def crash(self, kept: float | None = None) -> None:
        """Lose power: what was not synced is kept or lost, page by page and name by name.

        Files that were opened before are dead, operations under way are never answered.

        Args:
            kept: the chance of each page and name to be kept; None: drawn, often none or all.
        """
        if kept is None:
            kept = self.random.choice((0.0, 1.0, self.random.random()))
        self._save_names_in_crash(kept)
        self._save_some_operations()
        for content in self._durable_names.values():
            content.crash(self.random, kept)
        self._names = dict(self._durable_names)
        self._lose_all_under_way()

    def _save_names_in_crash(self, kept: float) -> None:
        for change in self._name_changes:
            if self.random.random() < kept:
                _set_name(self._durable_names, change.name, change.content)

    def _save_some_operations(self) -> None:
        """Carry out each replace and allocation under way, or do not."""
        for operation in self._operations.values():
            if operation.may_be_saved and operation.error is None and self.random.random() < 0.5:
                operation.save()

    def _lose_all_under_way(self) -> None:
        self._operations.clear()
        self._name_changes.clear()
        self._stalled_until_s = 0.0
        self.life += 1

    # The node.

    def attach(
        self,
        loop: SimulatedLoop,
        deliver: Callable[[NodeAddress, DiskDone], None],
        now_s: Callable[[], float] | None = None,
    ) -> None:
        """Give the disk to a node: operations take time and end by ``deliver``.

        Args:
            loop: the node's.
            deliver: brings a message to an actor of the node.
            now_s: the time at which the node asks, if that is not the loop's.
        """
        assert self._deliver is None, "a disk belongs to one node at a time"
        self._loop = loop
        self._now_s = now_s or loop.time
        self._deliver = deliver

    def detach(self) -> None:
        """Take the disk from a node whose process has ended, with the power still on.

        Nothing that was written is lost. An operation under way is carried out or not; it is not
        answered.
        """
        self._save_some_operations()
        for content in self._names.values():
            content.forget_captures()
        self._operations.clear()
        self.life += 1
        self._loop = None
        self._deliver = None

    # For files, and for those who look at a disk from outside.

    @property
    def used_bytes(self) -> int:
        """What all files take together."""
        return sum(len(content.visible) for content in self._names.values())

    def content(self, name: str) -> Content:
        """Both images of a file that there is."""
        return self._names[name]

    @contextmanager
    def without_errors(self) -> Iterator[None]:
        """Let reads and writes succeed while this lasts: whoever looks on is no part of the world."""
        errors = self.read_error, self.write_error, self.capacity_bytes
        self.read_error = self.write_error = self.capacity_bytes = None
        try:
            yield
        finally:
            self.read_error, self.write_error, self.capacity_bytes = errors

    def check_readable(self, name: str) -> None:
        """Raise what a read of this file fails with now, if it does."""
        if self.read_error is not None:
            raise OSError(self.read_error, os.strerror(self.read_error), name)

    def check_writable(self, name: str, growth_bytes: int) -> None:
        """Raise what a write to this file fails with now, if it does."""
        code = self.write_error
        if code is None and growth_bytes and self.is_full(growth_bytes):
            code = errno.ENOSPC
        if code is not None:
            raise OSError(code, os.strerror(code), name)

    def is_full(self, growth_bytes: int) -> bool:
        """Whether the files may not grow by so much."""
        if self.capacity_bytes is None:
            return False
        return self.used_bytes + growth_bytes > self.capacity_bytes


def _set_name(names: dict[str, Content], name: str, content: Content | None) -> None:
    if content is None:
        names.pop(name, None)
    else:
        names[name] = content
