"""The floor: what the disk of this server must at least hold, kept apart from what holds it.

A log whose last segment is gone, or reads as one that was never used, looks like a shorter log: it
says itself where it ends. So a file of its own says which is the highest segment that was begun, how
far the log must reach, and the least ballot. A disk with less than that has lost what this server
promised, and is refused.

It is written in an order that no crash can turn into a false alarm: the segment with its header is
durable before the floor names it, and the floor before anything in that segment is acknowledged or
an earlier one removed. The index is at most what is both durable and committed, for what is not
committed may be truncated.

The file is made once, with two slots of a sector each, which are written in turns: a write and a sync
of a file that has its size, where a replacement would hold acknowledgements up. A slot that is torn
leaves the one before it.

Every start writes it once more before its life begins, and the life remembers the sequence of that
slot. So a floor of an earlier life is known by its own.

Format, little endian. Slot, at 0 and at 4,096: magic, CRC, format version, sequence, segment, index,
term, vote, segment and index at the start.
"""

import struct
from typing import NamedTuple
from zlib import crc32

from copycat.actors.address import NodeAddress
from copycat.actors.environment import Disk, DiskDone, File
from copycat.storage.errors import DiskFailedError, FloorCorruptError
from copycat.types import Index, Term

_MAGIC = b"CopyFlor"
_FORMAT_VERSION = 1
_SLOT = struct.Struct("<8sIIQQQQQQQ")
_BODY = struct.Struct("<IQQQQQQQ")
_SLOT_OFFSETS = (0, 4096)
_FILE_BYTES = 2 * 4096


class Promise(NamedTuple):
    """What the disk holds at least.

    Attributes:
        segment: the number of the highest segment that was begun; 0 for none.
        last_index: how far the log reaches.
        term, voted_for: the ballot, or an earlier one.
        start_segment, start_index: the last segment, and the end of the log, when the present life
            began; only a segment that was begun later can end the log before that.
    """

    segment: int = 0
    last_index: Index = 0
    term: Term = 0
    voted_for: int = 0
    start_segment: int = 0
    start_index: Index = 0


class Floor:
    """The floor of one server, on disk.

    Attributes:
        exists: whether the file was found, or has been made.
        promise: what is known to be durable; of a file that was found, what it says.
        sequence: of the slot that says it, each one higher than the one before; 0 for none.
        busy: whether something is on its way to the disk.
    """

    NAME = "floor"
    TOKEN = 4

    __slots__ = (
        "_disk", "_file", "_found", "_next", "_sequence", "_writing", "busy", "exists", "promise",
        "sequence",
    )  # fmt: skip

    def __init__(self, disk: Disk) -> None:
        """Load the floor; without a file nothing is promised.

        Raises:
            FloorCorruptError: neither slot can be read. It is never replaced by a fresh one.
            DiskFailedError: it cannot be read.
        """
        self._disk = disk
        self._file: File | None = None
        self._writing = self.promise = Promise()
        self._sequence = self.sequence = 0
        self._found = b""  # the slot that was read, which may not be durable
        self._next: tuple[Promise, NodeAddress] | None = None  # is written behind it
        self.busy = False
        try:
            found = disk.load(self.NAME)
        except OSError as error:
            raise DiskFailedError(f"read file {self.NAME}", error) from error
        self.exists = found is not None
        if found is not None:
            self._load(found)

    def _load(self, found: bytes) -> None:
        for place, offset in enumerate(_SLOT_OFFSETS, 1):
            slot = found[offset : offset + _SLOT.size]
            if len(slot) < _SLOT.size:
                continue
            magic, crc, version, sequence, *numbers = _SLOT.unpack(slot)
            if magic != _MAGIC or crc32(slot[12:]) != crc:
                continue
            if version != _FORMAT_VERSION:
                raise FloorCorruptError(self.NAME, f"format version {version} is not known")
            if sequence > self._sequence and sequence % 2 == place % 2:
                self._sequence, self._found = sequence, slot
                self.promise = Promise(*numbers)
        self.sequence = self._sequence
        if self._sequence == 0:
            raise FloorCorruptError(self.NAME, "neither of its slots can be read")

    def owns(self, token: int) -> bool:
        """Whether a disk operation with this token was this file's."""
        return token == self.TOKEN

    def make(self, reply_to: NodeAddress) -> None:
        """Make the file that was not found, with nothing promised.

        It ends as a ``DiskDone``, as does ``write``, which must be handed to ``handle``.

        Raises:
            DiskFailedError: the disk refused; there is no file.
        """
        assert not self.exists, "it is made once"
        assert not self.busy, "one operation at a time"
        self.busy = True
        self._sequence = 1
        slot = self._slot(Promise())
        content = slot + bytes(_FILE_BYTES - len(slot))
        try:
            self._disk.replace(self.NAME, content, reply_to, self.TOKEN)
        except OSError as error:
            raise DiskFailedError(f"replace file {self.NAME}", error) from error

    def write(self, promise: Promise, reply_to: NodeAddress) -> None:
        """Promise something more. What was found at the start is first made durable by itself:
        after a failed sync a process that starts anew sees what the disk may not have.

        Raises:
            DiskFailedError: the disk refused; the file says what it said before, or this.
        """
        assert self.exists, "there is a file before it is written to"
        assert not self.busy, "one operation at a time"
        self.busy = True
        if self._found:
            slot, self._found = self._found, b""
            self._writing, self._next = self.promise, (promise, reply_to)
        else:
            self._sequence += 1
            slot = self._slot(promise)
            self._writing = promise
        try:
            if self._file is None:
                self._file = self._disk.open(self.NAME)
            self._file.write(_SLOT_OFFSETS[(self._sequence + 1) % 2], slot)
            self._disk.sync(self._file, reply_to, self.TOKEN)
        except OSError as error:
            raise DiskFailedError(f"write file {self.NAME}", error) from error

    def _slot(self, promise: Promise) -> bytes:
        body = _BODY.pack(_FORMAT_VERSION, self._sequence, *promise)
        return _MAGIC + crc32(body).to_bytes(4, "little") + body

    def handle(self, done: DiskDone) -> None:
        """Take note that an operation has ended.

        Raises:
            DiskFailedError: it failed, or the next one did.
        """
        assert self.owns(done.token), "completions go to whom they belong"
        assert self.busy, "every operation ends once"
        if done.error is not None:
            raise DiskFailedError(f"write file {self.NAME}", done.error)
        self.busy = False
        self.exists = True
        self.promise, self.sequence = self._writing, self._sequence
        if self._next is not None:
            (promise, reply_to), self._next = self._next, None
            self.write(promise, reply_to)

    def close(self) -> None:
        """Give the file up."""
        if self._file is not None:
            self._file.close()
            self._file = None
