"""A batch: the unit of the log, of the wire between servers, and of the applier.

A batch is one record of bytes that never changes: the leader encodes it once, and the same bytes
go to its disk, to the followers and to their disks. The operations in it are opaque here; only
the resource that they are for decodes them.

A record, little endian: CRC-32 of all that follows, format version, kind, count, bytes of
operations, base index, term, log time, wall time, session, first sequence, response sequence,
event index, operations. Every later format begins with the same CRC and version, so that a newer
record is told from a damaged one.

A bundle holds commands of several sessions, which share the cost of a record and nothing else. In
the place of its operations stand the number of its parts; of each part the session, first sequence,
count, response sequence, event index and bytes of operations; and the operations of all parts. What
the header says of a session is 0.

Invariant: a batch takes the indexes from ``base_index`` to ``last_index``, at least one.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

from copycat.storage.errors import BatchCorruptError, BatchFormatError

COMMANDS_PER_BATCH_MAX = 512
OPERATIONS_BYTES_MAX = 256 << 10  # of several commands together; one alone may be larger
RECORD_BYTES_MAX = 2 << 20  # one command with the largest value, and room for its frame

_FORMAT_VERSION = 1
_HEADER = struct.Struct("<IBBHIQQQqQQQQ")
_CRC = struct.Struct("<I")
_CRC_BYTES = _CRC.size
_BODY = struct.Struct("<BBHIQQQqQQQQ")
_PARTS = struct.Struct("<H")
_PART = struct.Struct("<QQHQQI")
_INDEX_MAX = 2**63

RECORD_BYTES_MIN = _HEADER.size


class BatchKind(IntEnum):
    """What the indexes of a batch are taken by. The numbers are part of the format."""

    NO_OP = 1  # the first batch of a term
    COMMANDS = 2
    OPEN_SESSION = 3
    CLOSE_SESSION = 4
    KEEP_ALIVE = 5
    TICK = 6  # lets log time pass when nothing else is appended
    OPEN_RESOURCE = 8
    BUNDLE = 9  # commands of several sessions


_KINDS = {int(kind): kind for kind in BatchKind}
_BUNDLE = BatchKind.BUNDLE  # to look it up takes as long as much else


@dataclass(slots=True)
class Commands:
    """Commands of one session that follow each other; the fields are those of ``Batch``."""

    base_index: int
    session: int
    first_sequence: int
    count: int
    response_sequence: int
    event_sequence: int
    operations: bytes


class Batch:
    """One batch, immutable by convention.

    Made by ``encode`` or ``decode`` only.

    Attributes:
        kind: what it holds.
        base_index: the index of its first operation, from 1.
        last_index: the index of its last operation.
        count: how many indexes it takes, from 1 to 512.
        term: the term of the leader that appended it.
        log_time_us: elapsed log time in microseconds.
        wall_time_us: microseconds since 1970 by the leader's clock; data only.
        session: the session it belongs to; 0 for none.
        first_sequence: the session's sequence number of its first command.
        response_sequence: the highest sequence up to which the client has all responses.
        event_sequence: the highest sequence up to which the client has all events.
        record: the whole batch as bytes.
    """

    __slots__ = (
        "base_index",
        "count",
        "event_sequence",
        "first_sequence",
        "kind",
        "last_index",
        "log_time_us",
        "record",
        "response_sequence",
        "session",
        "term",
        "wall_time_us",
    )

    def __init__(
        self,
        record: bytes,
        kind: BatchKind,
        count: int,
        base_index: int,
        term: int,
        log_time_us: int,
        wall_time_us: int,
        session: int,
        first_sequence: int,
        response_sequence: int,
        event_sequence: int,
    ) -> None:
        self.record = record
        self.kind = kind
        self.count = count
        self.base_index = base_index
        self.last_index = base_index + count - 1
        self.term = term
        self.log_time_us = log_time_us
        self.wall_time_us = wall_time_us
        self.session = session
        self.first_sequence = first_sequence
        self.response_sequence = response_sequence
        self.event_sequence = event_sequence

    @property
    def operations(self) -> bytes:
        """The operations' bytes as the client sent them, copied out of the record; of a bundle
        its parts."""
        return self.record[RECORD_BYTES_MIN:]

    def commands(self) -> list[Commands]:
        """What each session has in a batch of commands, in the order of the indexes."""
        if self.kind is not BatchKind.BUNDLE:
            assert self.kind is BatchKind.COMMANDS, "only commands are taken apart"
            return [
                Commands(
                    self.base_index, self.session, self.first_sequence, self.count,
                    self.response_sequence, self.event_sequence, self.operations,
                )
            ]  # fmt: skip
        record, index = self.record, self.base_index
        start, end = _parts_of(record)
        commands = []
        for session, first, count, received, event, size in _PART.iter_unpack(record[start:end]):
            operations = record[end : end + size]
            commands.append(Commands(index, session, first, count, received, event, operations))
            index += count
            end += size
        return commands

    @classmethod
    def encode(
        cls,
        *,
        kind: BatchKind,
        base_index: int,
        count: int,
        term: int,
        log_time_us: int,
        wall_time_us: int,
        session: int = 0,
        first_sequence: int = 0,
        response_sequence: int = 0,
        event_sequence: int = 0,
        operations: bytes = b"",
    ) -> "Batch":
        """Make a batch and its record; see the class for the arguments.

        The caller has checked what clients sent against the limits of this module.
        """
        assert 1 <= count <= COMMANDS_PER_BATCH_MAX, "a batch takes from 1 to 512 indexes"
        assert base_index >= 1, "indexes count from 1"
        body = _BODY.pack(
            _FORMAT_VERSION,
            kind,
            count,
            len(operations),
            base_index,
            term,
            log_time_us,
            wall_time_us,
            session,
            first_sequence,
            response_sequence,
            event_sequence,
        )
        crc = crc32(operations, crc32(body))
        record = b"".join((_CRC.pack(crc), body, operations))
        assert len(record) <= RECORD_BYTES_MAX, "one batch fits into a frame between servers"
        return cls(
            record,
            kind,
            count,
            base_index,
            term,
            log_time_us,
            wall_time_us,
            session,
            first_sequence,
            response_sequence,
            event_sequence,
        )

    @classmethod
    def decode(cls, record: bytes, *, is_whole: bool = False) -> "Batch":
        """Read a record, whoever it comes from; ``is_whole``: its CRC has been checked.

        Raises:
            BatchCorruptError: it is damaged, or (``BatchFormatError``) of a format or kind that
                is not known here. Nothing was done with it.
        """
        size = len(record)
        if not RECORD_BYTES_MIN <= size <= RECORD_BYTES_MAX:
            raise BatchCorruptError(f"{size} bytes long")
        (
            crc,
            version,
            kind_number,
            count,
            operations_bytes,
            base_index,
            term,
            log_time_us,
            wall_time_us,
            session,
            first_sequence,
            response_sequence,
            event_sequence,
        ) = _HEADER.unpack_from(record)
        if not is_whole and crc32(memoryview(record)[4:]) != crc:
            raise BatchCorruptError("its CRC does not match")
        if version != _FORMAT_VERSION:
            raise BatchFormatError(f"format version {version}")
        kind = _KINDS.get(kind_number)
        if kind is None:
            raise BatchFormatError(f"kind {kind_number}")
        if operations_bytes != size - RECORD_BYTES_MIN:
            raise BatchCorruptError("its lengths contradict each other")
        if not 1 <= count <= COMMANDS_PER_BATCH_MAX:
            raise BatchCorruptError(f"{count} commands")
        if not 1 <= base_index < _INDEX_MAX:
            raise BatchCorruptError(f"base index {base_index}")
        if kind is _BUNDLE:
            _check_parts(record, count)
        return cls(
            record,
            kind,
            count,
            base_index,
            term,
            log_time_us,
            wall_time_us,
            session,
            first_sequence,
            response_sequence,
            event_sequence,
        )

    def __eq__(self, other: object) -> bool:
        return type(other) is Batch and self.record == other.record

    __hash__ = None  # type: ignore[assignment]  # batches are compared, never looked up

    def __repr__(self) -> str:
        return (
            f"Batch({self.kind.name} {self.base_index}..{self.last_index} term={self.term} "
            f"session={self.session})"
        )


def is_whole(record: bytes) -> bool:
    """Whether the CRC of a record is right; it has ``RECORD_BYTES_MIN`` bytes at least."""
    (crc,) = _CRC.unpack_from(record)
    return bool(crc32(record[_CRC_BYTES:]) == crc)


Part = tuple[int, int, int, int, int, bytes]
"""Session, first sequence, count, response sequence, event index and operations."""


def bundled(parts: Sequence[Part]) -> bytes:
    """What a bundle of these has in the place of its operations."""
    heads = [_PART.pack(*numbers, len(operations)) for *numbers, operations in parts]
    return b"".join((_PARTS.pack(len(parts)), *heads, *[part[-1] for part in parts]))


def _parts_of(record: bytes) -> tuple[int, int]:
    """Where in a bundle the heads of its parts begin and end."""
    start = RECORD_BYTES_MIN + _PARTS.size
    return start, start + _PARTS.unpack_from(record, RECORD_BYTES_MIN)[0] * _PART.size


def _check_parts(record: bytes, count: int) -> None:
    """Raise if the parts of a bundle are not exactly what it holds."""
    size_bytes = len(record)
    if size_bytes < RECORD_BYTES_MIN + _PARTS.size:
        raise BatchCorruptError("it is a bundle of nothing")
    start, end = _parts_of(record)
    if end > size_bytes:
        raise BatchCorruptError("its parts have no room in it")
    heads = list(_PART.iter_unpack(record[start:end]))
    counts = [head[2] for head in heads]
    if 0 in counts or sum(counts) != count or end + sum([head[5] for head in heads]) != size_bytes:
        raise BatchCorruptError("its parts contradict it")
