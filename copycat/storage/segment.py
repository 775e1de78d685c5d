"""One file of the log: a header, then batches in envelopes. Its format lives here and nowhere else.

Segments are numbered in the order in which they are begun, and named by their number. The header
says with which index the segment begins and which one it continues: **a later segment overrules
the earlier ones from its first index on**. So rolling over and truncating are the same act, and a
place that was written once is never written again. That is why a damaged place can be judged at
all: nothing but a crash before a sync, or damage, can have made it.

An envelope stands before every batch and never travels. It says how far the log was durable when
it was written, which later convicts a damaged place of having been durable once. Its CRC covers
the segment's number, the offset, the length, that claim, and the CRC with which the record begins
(which in turn covers the rest of the record): an envelope that was copied or misplaced is not
valid, and a claim can be trusted even when the record behind it is torn.

Format, little endian. Header: magic, CRC, format version, number, number of the segment it
continues, first index, durable index, bytes allocated before the header was written. Envelope, at
multiples of 8: magic, CRC, bytes of the record, durable index; then the record. Every later format
begins a segment with a header of the same size with CRC and version in the same places.
"""

import struct
from collections.abc import Iterable
from zlib import crc32

from copycat.actors.environment import Disk, File
from copycat.storage.batch import RECORD_BYTES_MAX, RECORD_BYTES_MIN, Batch, is_whole
from copycat.storage.errors import (
    BatchCorruptError,
    DiskFailedError,
    LogCorruptError,
    LogFormatError,
)

_PREFIX = "log-"
_NUMBER_DIGITS = 20
_FORMAT_VERSION = 1
_MAGIC = b"CopycLog"
_HEADER = struct.Struct("<8sIIQQQQQ")
_HEADER_BODY = struct.Struct("<IQQQQQ")
_ENVELOPE_MAGIC = b"\xc5Bat"
_ENVELOPE = struct.Struct("<4sIIQ")
_ENVELOPE_BYTES = _ENVELOPE.size
_SEALED = struct.Struct("<QQIQ4s")
_ALIGNMENT_BYTES = 8
_PENDING_BYTES_MAX = 1 << 20
_HEAD_BYTES = _ENVELOPE.size + RECORD_BYTES_MIN

RECORDS_OFFSET = _HEADER.size
"""Where the first envelope of every segment stands."""


def segment_numbers(disk: Disk) -> list[int]:
    """The numbers of all segments on the disk, rising."""
    numbers = []
    for name in disk.names():
        digits = name.removeprefix(_PREFIX)
        if name != digits and len(digits) == _NUMBER_DIGITS and digits.isdecimal():
            numbers.append(int(digits))
    return sorted(numbers)


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"{_PREFIX}{number:0{_NUMBER_DIGITS}}"


def envelope_bytes(record: bytes) -> int:
    """How much of a segment a record takes, with its envelope and padding."""
    size = _ENVELOPE.size + len(record)
    return size + -size % _ALIGNMENT_BYTES


class Segment:
    """One file of the log, open when it is needed.

    Attributes:
        number: its place in the order in which segments were begun.
        name: its file.
        continues: the number of the segment before it; 0 when it begins the log.
        first_index: the index of its first batch; 0 when it has no valid header.
        durable_index: how far the log was durable when it was begun.
        allocated_bytes: how much of it existed, zero-filled and durable, before it was begun.
        end: the offset after its last batch, where the next envelope goes.
    """

    __slots__ = (
        "_disk",
        "_file",
        "_pending",
        "_pending_bytes",
        "allocated_bytes",
        "continues",
        "durable_index",
        "end",
        "first_index",
        "name",
        "number",
    )

    def __init__(self, disk: Disk, number: int) -> None:
        self._disk = disk
        self._file: File | None = None
        self._pending: list[bytes] = []  # what is not yet written; it ends at ``end``
        self._pending_bytes = 0
        self.number = number
        self.name = segment_name(number)
        self.continues = 0
        self.first_index = 0
        self.durable_index = 0
        self.allocated_bytes = 0
        self.end = 0

    @property
    def is_open(self) -> bool:
        """Whether it holds a file open."""
        return self._file is not None

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return max(self.allocated_bytes, self.end)

    def file(self, *, create: bool = False) -> File:
        """Its file, opened when it is not open.

        Raises:
            DiskFailedError: it cannot be opened.
        """
        if self._file is None:
            try:
                self._file = self._disk.open(self.name, create=create)
            except OSError as error:
                raise DiskFailedError(f"open file {self.name}", error) from error
        return self._file

    def close(self) -> None:
        """Give the file up; it is opened again when it is needed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def begin(
        self, continues: int, first_index: int, durable_index: int, allocated_bytes: int
    ) -> None:
        """Begin an unused segment; the header is written with the first flush.

        Args:
            continues: the number of the segment before it; 0 when it begins the log.
            first_index: the index its first batch will have.
            durable_index: how far the log before it is durable.
            allocated_bytes: the size of the file when it was made by ``Disk.allocate``, else 0.

        Raises:
            DiskFailedError: the file cannot be created.
        """
        assert self.end == 0, "a segment is begun once"
        assert continues < self.number, "a segment continues an earlier one"
        assert durable_index < first_index, "a segment claims only what is before it"
        self.continues = continues
        self.first_index = first_index
        self.durable_index = durable_index
        self.allocated_bytes = allocated_bytes
        body = _HEADER_BODY.pack(
            _FORMAT_VERSION, self.number, continues, first_index, durable_index, allocated_bytes
        )
        header = b"".join((_MAGIC, crc32(body).to_bytes(4, "little"), body))
        self._pending.append(header)
        self._pending_bytes += len(header)
        self.end += len(header)
        self.file(create=allocated_bytes == 0)

    def append(self, record: bytes, durable_index: int) -> int:
        """Put a record at the end, to be written with the next flush, and return its offset."""
        offset = self.end
        length = len(record)
        sealed = _SEALED.pack(self.number, offset, length, durable_index, record[:4])
        envelope = _ENVELOPE.pack(_ENVELOPE_MAGIC, crc32(sealed), length, durable_index)
        size_bytes = envelope_bytes(record)
        self._pending += (envelope, record, bytes(size_bytes - length - _ENVELOPE.size))
        self._pending_bytes += size_bytes
        self.end += size_bytes
        if self._pending_bytes > _PENDING_BYTES_MAX:
            self.flush()
        return offset

    def flush(self) -> None:
        """Write all that was put since the last flush, in one piece.

        Raises:
            DiskFailedError: it may be written in part; the segment must not be used any more.
        """
        if not self._pending:
            return
        try:
            self.file().write(self.end - self._pending_bytes, b"".join(self._pending))
        except OSError as error:
            raise DiskFailedError(f"write file {self.name}", error) from error
        self._pending.clear()
        self._pending_bytes = 0

    def write_again(self, offset: int) -> None:
        """Write what was recovered from ``offset`` on once more, unchanged.

        After a sync has failed the system takes the pages for saved, though they are not: a process
        that is started anew reads them, and its syncs would skip them.

        Raises:
            DiskFailedError: the disk refused; every byte is as it was.
        """
        content = self._read(offset, self.end - offset)
        try:
            self.file().write(offset, content)
        except OSError as error:
            raise DiskFailedError(f"write file {self.name}", error) from error

    def records(self, offsets: Iterable[int], bytes_max: int) -> list[bytes]:
        """The records whose envelopes stand at these offsets, every byte of them checked.

        Args:
            offsets: rising, of batches that follow each other.
            bytes_max: how much is read, in one piece.

        Returns:
            Those that the piece has whole, the first in any case.

        Raises:
            LogCorruptError: one of them is not there any more as it was written.
            DiskFailedError: the file cannot be read.
        """
        self.flush()
        records: list[bytes] = []
        first, content = -1, b""
        for offset in offsets:
            if first < 0:
                first, content = offset, self._read(offset, max(bytes_max, _HEAD_BYTES))
                size_bytes = len(content)
            at = offset - first
            if records and at + _HEAD_BYTES > size_bytes:
                break
            envelope = self._envelope(content, at, offset)
            if envelope is None:
                raise LogCorruptError(
                    self.name, offset, "no batch can be read where one was written"
                )
            start = at + _ENVELOPE_BYTES
            end = start + envelope[0]
            if end <= size_bytes:
                record = content[start:end]
            elif records:
                break
            else:
                record = self._read(offset + _ENVELOPE_BYTES, envelope[0])
            if not is_whole(record):
                raise LogCorruptError(self.name, offset, "its CRC does not match")
            records.append(record)
        return records

    def _read(self, offset: int, size_bytes: int) -> bytes:
        try:
            return self.file().read(offset, size_bytes)
        except OSError as error:
            raise DiskFailedError(f"read file {self.name}", error) from error

    def load(self) -> bytes:
        """The whole file as it is on the disk.

        Raises:
            DiskFailedError: it cannot be read.
        """
        return self._read(0, self._size())

    def _size(self) -> int:
        try:
            return self.file().size()
        except OSError as error:
            raise DiskFailedError(f"read the size of file {self.name}", error) from error

    def recover_header(self) -> bool:
        """Take over what the header of an existing file says; False when it is not valid.

        Raises:
            LogFormatError: it is valid, but of an unknown version.
            LogCorruptError: it belongs to another segment, or claims what cannot be true.
            DiskFailedError: it cannot be read.
        """
        content = self._read(0, _HEADER.size)
        if len(content) < _HEADER.size:
            return False
        magic, crc, version, *numbers = _HEADER.unpack(content)
        if magic != _MAGIC or crc32(content[12:]) != crc:
            return False
        if version != _FORMAT_VERSION:
            raise LogFormatError(self.name, 12, f"format version {version}")
        number, continues, first_index, durable_index, allocated = numbers
        if number != self.number:
            raise LogCorruptError(self.name, 0, f"this is segment {number} under a wrong name")
        if durable_index >= first_index:
            raise LogCorruptError(
                self.name,
                0,
                f"it begins with {first_index} and says that {durable_index} was durable",
            )
        self.continues = continues
        self.first_index = first_index
        self.durable_index = durable_index
        # A file that lost zeros at its end has lost nothing; whatever else it lost is looked for.
        self.allocated_bytes = min(allocated, self._size())
        self.end = RECORDS_OFFSET
        return True

    def recover_batch(self, content: bytes, base_index: int) -> tuple[Batch, int] | None:
        """The batch at ``end`` and the durable index its envelope claims; moves ``end`` behind it.

        Args:
            content: the whole file.
            base_index: the index the batch must begin with.

        Returns:
            None when no such batch stands there whole.

        Raises:
            LogFormatError: a whole record stands there, of a version or kind that is not known.
            LogCorruptError: a whole batch stands there whose envelope cannot be true.
        """
        envelope = self._envelope(content, self.end, self.end)
        if envelope is None:
            return None
        length, durable_index = envelope
        start = self.end + _ENVELOPE.size
        record = content[start : start + length]
        try:
            batch = Batch.decode(record)
        except BatchCorruptError as error:
            if type(error) is not BatchCorruptError:
                raise LogFormatError(self.name, self.end, error.reason) from error
            return None
        if batch.base_index != base_index:
            return None
        if durable_index >= base_index:
            raise LogCorruptError(
                self.name, self.end, f"{base_index} says that {durable_index} was durable before it"
            )
        self.end += envelope_bytes(record)
        return batch, durable_index

    def _envelope(self, content: bytes, at: int, offset: int) -> tuple[int, int] | None:
        """Length and claim of the envelope at ``content[at:]``, which stands at ``offset``."""
        start = at + _ENVELOPE_BYTES
        if start + RECORD_BYTES_MIN > len(content):
            return None
        magic, crc, length, durable_index = _ENVELOPE.unpack_from(content, at)
        if magic != _ENVELOPE_MAGIC or not RECORD_BYTES_MIN <= length <= RECORD_BYTES_MAX:
            return None
        record_crc = content[start : start + 4]
        sealed = _SEALED.pack(self.number, offset, length, durable_index, record_crc)
        return (length, durable_index) if crc32(sealed) == crc else None

    def durable_index_claimed(self, content: bytes, offset: int) -> tuple[int, int]:
        """The highest durable index that any envelope from ``offset`` on claims, and where.

        Args:
            content: the whole file.
            offset: where to begin; what is before it is known.

        Returns:
            The index, 0 when there is no claim, and the offset of the envelope.
        """
        highest, claimed_at = 0, 0
        at = content.find(_ENVELOPE_MAGIC, offset)
        while at >= 0:
            envelope = self._envelope(content, at, at)
            if envelope is not None and envelope[1] > highest:
                highest, claimed_at = envelope[1], at
            at = content.find(_ENVELOPE_MAGIC, at + 1)
        return highest, claimed_at

    def lowest_index(self, content: bytes) -> int:
        """The lowest index with which a whole batch in the file begins; 0 when there is none.

        Args:
            content: the whole file.
        """
        lowest = 0
        at = content.find(_ENVELOPE_MAGIC)
        while at >= 0:
            envelope = self._envelope(content, at, at)
            if envelope is not None:
                start = at + _ENVELOPE.size
                try:
                    batch = Batch.decode(content[start : start + envelope[0]])
                except BatchCorruptError:
                    pass
                else:
                    lowest = min(lowest or batch.base_index, batch.base_index)
            at = content.find(_ENVELOPE_MAGIC, at + 1)
        return lowest
