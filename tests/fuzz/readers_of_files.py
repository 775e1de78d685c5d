"""What reads the files of a server: batches, ballot, identity, configuration, and the whole log."""

import random
import struct
from collections.abc import Callable
from zlib import crc32

from copycat.actors.address import NodeAddress
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.storage.ballot import Ballot
from copycat.storage.batch import (
    COMMANDS_PER_BATCH_MAX,
    RECORD_BYTES_MIN,
    Batch,
    BatchKind,
    Part,
    bundled,
)
from copycat.storage.errors import (
    AmnesiaError,
    BatchCorruptError,
    FloorCorruptError,
    LogCorruptError,
    LogFormatError,
)
from copycat.storage.floor import Floor
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.lives import Lives
from copycat.storage.log import Log
from copycat.storage.segment import RECORDS_OFFSET, segment_name
from copycat.storage.small_file import SmallFile
from reader import Reader

SERVER = NodeAddress.well_known("s1", 1)
SEGMENT_BYTES = 512
SMALL_FILE_SEALED_FROM = 12  # magic and CRC stand before it
ENVELOPE = struct.Struct("<4sIIQ")
PADDING_BYTES_MAX = 7  # behind a record; when it alone is cut off, the log ends behind the file
SEGMENT_MAGIC = b"CopycLog"
SLOT_BYTES = 72  # of the floor
SLOT_SPACE_BYTES = 4096
ENVELOPE_MAGIC = b"\xc5Bat"
PIECE = struct.Struct("<BI")  # of a log: the number of the segment, and how long its file is


def disk_with(files: dict[str, bytes]) -> SimulatedDisk:
    """A disk on which these files are durable."""
    disk = SimulatedDisk(random.Random(0))
    disk.restore(files)
    return disk


# Batches.


def read_batch(data: bytes) -> str:
    """Bytes are a batch within its limits, which would be written as the same bytes, or refused."""
    try:
        batch = Batch.decode(data)
    except BatchCorruptError as error:
        return f"{type(error).__name__} {error.reason}"
    again = Batch.encode(
        kind=batch.kind,
        base_index=batch.base_index,
        count=batch.count,
        term=batch.term,
        log_time_us=batch.log_time_us,
        wall_time_us=batch.wall_time_us,
        session=batch.session,
        first_sequence=batch.first_sequence,
        response_sequence=batch.response_sequence,
        event_sequence=batch.event_sequence,
        operations=batch.operations,
    )
    assert again.record == data, "a record has one form"
    assert 1 <= batch.count <= COMMANDS_PER_BATCH_MAX, "a batch has a bounded number of commands"
    if batch.kind == BatchKind.BUNDLE:
        index, parts = batch.base_index, batch.commands()
        for part in parts:
            assert part.base_index == index, "the parts of a bundle follow each other"
            assert part.count >= 1, "no part of a bundle is empty"
            index += part.count
        assert index == batch.last_index + 1, "the parts of a bundle are all of it"
        assert bundled(parts_of(batch)) == batch.operations, "a bundle has one form"
    return batch.kind.name


def example_batch(base_index: int, *, kind: BatchKind = BatchKind.COMMANDS, term: int = 1) -> Batch:
    """A batch with something in every field."""
    operations = bytes([base_index % 256]) * (base_index % 50)
    if kind == BatchKind.BUNDLE:
        operations = bundled([(7, 1, 1, 2, 3, operations)] * (1 + base_index % 3))
    return Batch.encode(
        kind=kind,
        base_index=base_index,
        count=1 + base_index % 3,
        term=term,
        log_time_us=base_index * 10,
        wall_time_us=-base_index,
        session=7,
        first_sequence=base_index,
        response_sequence=3,
        event_sequence=4,
        operations=operations,
    )


def parts_of(batch: Batch) -> list[Part]:
    """What a bundle was made of."""
    return [
        (
            part.session, part.first_sequence, part.count,
            part.response_sequence, part.event_sequence, part.operations,
        )
        for part in batch.commands()
    ]  # fmt: skip


def seal_record(data: bytes) -> bytes:
    """A record with the CRC that belongs to it."""
    return crc32(data[4:]).to_bytes(4, "little") + data[4:]


# Ballot, identity and configuration.


def small_file_reader(cls: type[SmallFile], example: Callable[[SmallFile], None]) -> Reader:
    """The reader of one of the files that are replaced as a whole."""

    def read(data: bytes) -> str:
        try:
            file = cls(disk_with({cls.NAME: data}))
        except cls.CORRUPT as error:
            return str(error)
        assert file.written == 1, "what was found counts as a change"
        disk = disk_with({})
        file._disk = disk
        file.start_sync(SERVER)
        file.handle(disk.finish())
        assert disk.load(cls.NAME) == data, "a content has one form"
        return "read"

    def examples() -> list[bytes]:
        disk = disk_with({})
        file = cls(disk)
        example(file)
        file.start_sync(SERVER)
        disk.finish()
        return [disk.load(cls.NAME) or b""]

    sources = ("storage/small_file.py", f"storage/{cls.__module__.rpartition('.')[2]}.py")
    return Reader(cls.NAME, read, examples, sources, seal=seal_small_file)


def seal_small_file(data: bytes) -> bytes:
    """A small file with the CRC that belongs to it."""
    content = data[SMALL_FILE_SEALED_FROM:]
    return data[:8] + crc32(content).to_bytes(4, "little") + content


def vote(file: SmallFile) -> None:
    """Put something into a ballot."""
    assert isinstance(file, Ballot)
    file.raise_term(5)
    file.vote(7)


def identify(file: SmallFile) -> None:
    """Put something into an identity."""
    assert isinstance(file, ServerIdentity)
    file.establish("s\u00e4gewerk", 2**64 - 1)


def found(file: SmallFile) -> None:
    """Put something into a configuration."""
    assert isinstance(file, ClusterConfiguration)
    file.establish([("s1", 11), ("s2", 22), ("\u00e4", 33)])


def live(file: SmallFile) -> None:
    """Put something into lives."""
    assert isinstance(file, Lives)
    file.begin(2**64 - 1, 1)
    file.begin(3, 5)
    file.meet(22, 7)
    file.meet(11, 8)


# The log.


def read_log(data: bytes) -> str:
    """Files are a log that can be gone on with, or refused and left as they are."""
    files = files_of(data)
    disk = disk_with(files)
    try:
        log = Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
    except (LogCorruptError, LogFormatError, AmnesiaError, FloorCorruptError) as error:
        refused = error
    else:
        return go_on(disk, log)
    assert {name: disk.load(name) for name in disk.names()} == files, "nothing was changed"
    if isinstance(refused, AmnesiaError | FloorCorruptError):
        return f"{type(refused).__name__} {refused.file}"
    end = len(files.get(refused.file, b"")) + PADDING_BYTES_MAX  # a missing file may be named
    assert 0 <= refused.offset <= end, "it is said where"
    return f"{type(refused).__name__} {str(refused).partition('(')[2]}"


def go_on(disk: SimulatedDisk, log: Log) -> str:
    """What was read is a log, and stays one when something is appended and the power is lost."""
    log.check()
    kept = [batch.record for batch in log.read_ahead(1, log.last_index)]
    term, end = 0, 0
    for record in kept:
        batch = Batch.decode(record)
        assert batch.base_index == end + 1, "indexes follow each other"
        assert batch.term >= term, "terms do not fall"
        term, end = batch.term, batch.last_index
    assert (log.last_index, log.last_term) == (end, term), "look-ups agree with what is read"
    added = example_batch(end + 1, term=term).record
    log.append(Batch.decode(added))
    log.start_sync(SERVER)
    while disk.pending:
        log.handle(disk.finish())
    assert log.durable == log.written, "all is durable then"
    disk.crash(kept=0.0)
    again = Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
    assert [batch.record for batch in again.read_ahead(1, again.last_index)] == [*kept, added]
    return (
        f"{min(len(kept), 3)} batches, {len(log._segments)} segments, {len(log._syncs.dead)} dead"
    )


def split_log(data: bytes) -> list[bytes]:
    """The segments of a log, each behind its number; what is no whole part is the last."""
    parts = []
    while len(data) >= PIECE.size:
        number, length = PIECE.unpack_from(data)
        parts.append(bytes([number]) + data[PIECE.size : PIECE.size + length])
        data = data[PIECE.size + length :]
    return parts


def join_log(parts: list[bytes]) -> bytes:
    """One input of segments behind their numbers."""
    return b"".join(PIECE.pack(part[0], len(part) - 1) + part[1:] for part in parts if part)


def files_of(data: bytes) -> dict[str, bytes]:
    """The files that an input stands for; number 0 is the floor."""
    parts = split_log(data)
    return {segment_name(part[0]) if part[0] else Floor.NAME: part[1:] for part in parts}


def seal_log(data: bytes) -> bytes:
    """A log with the checksums that belong to its headers, envelopes and records."""
    return join_log([seal_segment(part[0], part[1:]) for part in split_log(data)])


def seal_segment(number: int, content: bytes) -> bytes:
    """A segment behind its number, or the floor, with all checksums that belong to it."""
    sealed = bytearray(content)
    if number == 0:
        for start in range(0, len(sealed) - SLOT_BYTES, SLOT_SPACE_BYTES):
            sealed[start + 8 : start + 12] = crc32(
                sealed[start + 12 : start + SLOT_BYTES]
            ).to_bytes(4, "little")
    if len(sealed) >= RECORDS_OFFSET and sealed.startswith(SEGMENT_MAGIC):
        sealed[8:12] = crc32(sealed[12:RECORDS_OFFSET]).to_bytes(4, "little")
    at = sealed.find(ENVELOPE_MAGIC)
    while at >= 0:
        start = at + ENVELOPE.size
        if start + RECORD_BYTES_MIN > len(sealed):
            break
        _, _, length, durable_index = ENVELOPE.unpack_from(sealed, at)
        record_crc = crc32(sealed[start + 4 : start + length]).to_bytes(4, "little")
        sealed[start : start + 4] = record_crc
        seal = struct.pack("<QQIQ4s", number, at, length, durable_index, record_crc)
        sealed[at + 4 : at + 8] = crc32(seal).to_bytes(4, "little")
        at = sealed.find(ENVELOPE_MAGIC, start)
    return bytes([number]) + bytes(sealed)


def logs() -> list[bytes]:
    """Logs as servers leave them: grown, truncated, and not quite synced."""
    disk = disk_with({})
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    made = []
    for number in range(9):
        log.append(example_batch(log.last_index + 1, term=1 + number // 3))
        if number in {0, 1, 4, 6}:
            log.start_sync(SERVER)
            while disk.pending and number != 6:
                log.handle(disk.finish())
        if number == 6:
            made.append(input_of(disk))
            log.truncate(log.end_at_or_before(log.last_index - 4))
        if number in {0, 2, 5, 7}:
            made.append(input_of(disk))
    while disk.pending:
        log.handle(disk.finish())
    return [*made, input_of(disk)]


def input_of(disk: SimulatedDisk) -> bytes:
    """The input that stands for the files of a disk, without the zeros behind most of them."""
    parts = []
    for name in disk.names():
        content = disk.load(name) or b""
        number = 0 if name == Floor.NAME else int(name.removeprefix("log-"))
        parts.append(bytes([number]) + content)
    return join_log(parts)


READERS = [
    Reader(
        "batch",
        read_batch,
        lambda: [example_batch(at, kind=kind).record for at, kind in enumerate(BatchKind, 1)],
        ("storage/batch.py",),
        seal=seal_record,
    ),
    small_file_reader(Ballot, vote),
    small_file_reader(ServerIdentity, identify),
    small_file_reader(ClusterConfiguration, found),
    small_file_reader(Lives, live),
    Reader(
        "log",
        read_log,
        logs,
        (
            "storage/log.py",
            "storage/recovery.py",
            "storage/segment.py",
            "storage/batch_index.py",
            "storage/floor.py",
        ),
        seal=seal_log,
        split=split_log,
        join=join_log,
    ),
]
