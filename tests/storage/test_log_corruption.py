"""Damage to the log: what was provably durable is refused by file and offset, never cut silently."""

import random
import struct
from zlib import crc32

import pytest

from copycat.storage.batch import Batch
from copycat.storage.errors import LogCorruptError, LogFormatError
from copycat.storage.log import Log
from copycat.storage.segment import RECORDS_OFFSET, Segment, segment_name
from log_story import batch, records, settle
from memory_disk import SERVER, MemoryDisk

SEGMENT_BYTES = 1_024


def small_log(*, truncated: bool = False) -> tuple[MemoryDisk, list[bytes], dict[bytes, int]]:
    """A log of several segments, every batch synced before the next.

    Returns:
        The disk, the records, and where in its file each one's envelope stands.
    """
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    chance = random.Random(5)
    for round_number in range(2):
        for _ in range(9):
            size = chance.choice([0, 10, 150])
            log.append(batch(log.last_index + 1, count=2, operations=chance.randbytes(size)))
            settle(log, disk)
        if truncated and round_number == 0:
            log.truncate(log.end_at_or_before(log.last_index - 4))
            settle(log, disk)
    found = records(log)
    offsets = {
        record: content.find(record) - 20
        for content in disk.segments().values()
        for record in found
        if record in content
    }
    log.close()
    return disk, found, offsets


def opened(files: dict[str, bytes]) -> list[bytes] | LogCorruptError:
    """The records a log has on these files, or how it refuses them."""
    try:
        return records(Log(MemoryDisk(files)))
    except LogCorruptError as error:
        return error


@pytest.mark.parametrize("truncated", [False, True])
def test_every_flipped_byte(truncated: bool) -> None:
    """A flip is harmless, costs at most the last batch, or is refused where it is."""
    disk, everything, offsets = small_log(truncated=truncated)
    files = disk.segments()
    chance = random.Random(7)
    refused = 0
    for name, content in files.items():
        used = len(content.rstrip(b"\0")) + 16
        for position in range(min(used, len(content))):
            flipped = bytearray(content)
            flipped[position] ^= 1 << chance.randrange(8)
            found = opened(files | {name: bytes(flipped)})
            if isinstance(found, LogCorruptError):
                refused += 1
                assert found.file == name
                assert found.offset == 0 or found.offset in offsets.values()
                here = [offsets[record] for record in everything if record in content]
                assert found.offset == max([0, *(at for at in here if at <= position)])
            elif found != everything:
                last = everything[-1]
                in_header = position < RECORDS_OFFSET and everything[-2] not in content
                assert found == everything[:-1]
                assert last in content
                assert position >= offsets[last] or in_header
    assert refused > 1_000, "most of these bytes were durable"


def test_every_length_a_file_may_be_cut_to() -> None:
    """A file that became shorter is refused, or nothing proves what is missing was durable."""
    disk, everything, offsets = small_log()
    files = disk.segments()
    newest = max(files)
    for name, content in files.items():
        for length in range(len(content)):
            found = opened(files | {name: content[:length]})
            if isinstance(found, LogCorruptError):
                assert found.file == name
            else:
                assert found == everything[: len(found)]
                assert name == newest or found == everything
    assert len(files) > 3
    assert offsets


def test_a_file_that_lost_its_zeros_is_gone_on_with() -> None:
    """What was allocated and never used is no part of the log: a file that ends with its last record
    is read, continued, and read again."""
    disk, everything, _ = small_log()
    files = disk.files()
    name = max(name for name, content in disk.segments().items() if content.strip(b"\0"))
    length = len(files[name].rstrip(b"\0")) + 8
    assert length < len(files[name]) == SEGMENT_BYTES
    disk = MemoryDisk(files | {name: files[name][:length]})
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    added = batch(log.last_index + 1)
    log.append(added)
    settle(log, disk)
    assert records(Log(MemoryDisk(disk.files()))) == [*everything, added.record]


def test_a_header_alone_is_witness_enough() -> None:
    """A segment that was begun after a sync proves what was durable, without any batch in it."""
    disk = MemoryDisk()
    first, second = Segment(disk, 1), Segment(disk, 2)
    first.begin(0, 1, 0, 0)
    first.append(batch(1).record, 0)
    second.begin(1, 2, 1, 0)
    first.flush()
    second.flush()
    files = disk.segments()
    assert opened(files) == [batch(1).record]
    damaged = bytearray(files[first.name])
    damaged[-1] ^= 1
    assert isinstance(opened(files | {first.name: bytes(damaged)}), LogCorruptError)


@pytest.mark.parametrize("durable_index", [0, 1])
def test_a_segment_does_not_count_without_the_one_it_continues(durable_index: int) -> None:
    """Two truncations in one unsynced group, and only the later header survived: neither counts."""
    disk = MemoryDisk()
    first, second, third = Segment(disk, 1), Segment(disk, 2), Segment(disk, 3)
    first.begin(0, 1, 0, 0)
    second.begin(1, 2, durable_index, 0)
    third.begin(2, 3, durable_index, 0)
    for segment, indexes, term in ((first, (1, 2, 3), 1), (second, (2, 3), 2), (third, (3,), 3)):
        for index in indexes:
            segment.append(batch(index, term=term).record, 0)
        segment.flush()
    files = disk.segments()
    terms = [Batch.decode(record).term for record in records(Log(MemoryDisk(files)))]
    assert terms == [1, 2, 3]
    del files[second.name]
    terms = [Batch.decode(record).term for record in records(Log(MemoryDisk(files)))]
    assert terms == [1, 1, 1]


def test_every_sector_that_reads_as_zeros() -> None:
    """A sector of durable batches that the disk has forgotten is refused like a flipped byte."""
    disk, everything, _ = small_log()
    files = disk.segments()
    for name in sorted(files)[:-2]:
        content = files[name]
        for start in range(0, len(content.rstrip(b"\0")), 512):
            damaged = (
                content[:start] + bytes(len(content[start : start + 512])) + content[start + 512 :]
            )
            with pytest.raises(LogCorruptError):
                Log(MemoryDisk(files | {name: damaged}))
    assert everything


def test_a_missing_segment_is_refused() -> None:
    """Somebody who deletes a file of the log is told so; the rest of the log is not dropped."""
    disk, _, _ = small_log()
    files = disk.segments()
    for name in sorted(files)[:-2]:
        rest = {other: content for other, content in files.items() if other != name}
        with pytest.raises(LogCorruptError):
            Log(MemoryDisk(rest))


def test_a_segment_under_another_name_is_refused() -> None:
    """A file that was copied or renamed is not taken for the one whose name it has."""
    disk, _, _ = small_log()
    files = disk.segments()
    first, second = sorted(files)[:2]
    with pytest.raises(LogCorruptError) as caught:
        Log(MemoryDisk(files | {second: files[first]}))
    assert (caught.value.file, caught.value.offset) == (second, 0)


def test_a_batch_in_the_place_of_another_is_refused() -> None:
    """A whole envelope that the disk put to a wrong place is not read as what belongs there."""
    disk = MemoryDisk()
    log = Log(disk)
    for index in range(1, 6):
        log.append(batch(index, operations=b"x" * 100))
        settle(log, disk)
    (name,) = [name for name, content in disk.segments().items() if content.rstrip(b"\0")]
    content = disk.segments()[name]
    length = (20 + len(batch(1, operations=b"x" * 100).record) + 7) // 8 * 8
    second, third = RECORDS_OFFSET + length, RECORDS_OFFSET + 2 * length
    swapped = (
        content[:second]
        + content[third : third + length]
        + content[second:third]
        + content[third + length :]
    )
    with pytest.raises(LogCorruptError) as caught:
        Log(MemoryDisk({name: swapped}))
    assert caught.value.offset == second


def test_envelopes_inside_a_value_prove_nothing() -> None:
    """A client that stores a copy of a log file cannot make a torn tail look like damage."""
    disk = MemoryDisk()
    log = Log(disk)
    for index in range(1, 30):
        log.append(batch(index))
        settle(log, disk)
    copied = max(disk.segments().values(), key=lambda content: len(content.rstrip(b"\0")))
    copied = copied.rstrip(b"\0")
    disk = MemoryDisk()
    log = Log(disk)
    log.append(batch(1, operations=b"torn"))
    log.append(batch(2, operations=copied))
    log.start_sync(SERVER)
    (name,) = [name for name, content in disk.segments().items() if content.rstrip(b"\0")]
    content = bytearray(disk.segments()[name])
    content[RECORDS_OFFSET] ^= 1
    assert Log(MemoryDisk({name: bytes(content)})).last_index == 0


def test_damage_to_a_batch_is_found_when_it_is_read_later() -> None:
    """Old batches are read from the disk with every byte checked; a bad one is never served."""
    disk, everything, _ = small_log()
    log = Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
    name = min(disk.segments())
    disk.visible[name].visible[RECORDS_OFFSET + 30] ^= 1
    with pytest.raises(LogCorruptError) as caught:
        log.batch_at(1)
    assert (caught.value.file, caught.value.offset) == (name, RECORDS_OFFSET)
    disk.visible[name].visible[RECORDS_OFFSET] ^= 1
    with pytest.raises(LogCorruptError):
        log.records_from(1, 10, 10)
    assert log.batch_at(log.last_index).record == everything[-1]


def test_an_unknown_format_is_refused_not_dropped() -> None:
    """A log of a newer version is not taken for damage, and nothing of it is lost."""
    disk, _, _ = small_log()
    files = disk.segments()
    name = min(files)
    header = bytearray(files[name][:RECORDS_OFFSET])
    struct.pack_into("<I", header, 12, 2)
    struct.pack_into("<I", header, 8, crc32(header[12:]))
    with pytest.raises(LogFormatError) as caught:
        Log(MemoryDisk(files | {name: bytes(header) + files[name][RECORDS_OFFSET:]}))
    assert caught.value.file == name


@pytest.mark.parametrize("position", [4, 5])
def test_an_unknown_batch_is_refused_not_dropped(position: int) -> None:
    """A batch whose format or kind a newer version brought stops an older one."""
    record = bytearray(batch(1).record)
    record[position] = 77
    record[:4] = crc32(record[4:]).to_bytes(4, "little")
    newer = batch(1)
    newer.record = bytes(record)
    disk = MemoryDisk()
    log = Log(disk)
    log.append(newer)
    settle(log, disk)
    with pytest.raises(LogFormatError) as caught:
        Log(MemoryDisk(disk.segments()))
    assert caught.value.offset == RECORDS_OFFSET


def test_the_message_says_where_why_and_what_to_do() -> None:
    """The error is one line with the file, the byte, the witness and the advice."""
    disk, _, _ = small_log()
    files = disk.segments()
    name = min(files)
    content = bytearray(files[name])
    content[RECORDS_OFFSET + 40] ^= 1
    with pytest.raises(LogCorruptError) as caught:
        Log(MemoryDisk(files | {name: bytes(content)}))
    message = str(caught.value)
    assert "\n" not in message
    assert f"{segment_name(1)} at byte {RECORDS_OFFSET}" in message
    assert "index 1 cannot be read" in message
    assert (
        "bring it back as it was when this server last stopped, if it has not run since" in message
    )


@pytest.mark.parametrize("forged", [batch(3, term=5), batch(1, term=5), batch(2, term=4)])
def test_only_what_could_have_been_appended_is_read(forged: Batch) -> None:
    """A whole batch with a gap before it, or with a falling term, ends the log before it."""
    disk = MemoryDisk()
    segment = Segment(disk, 1)
    segment.begin(0, 1, 0, 0)
    segment.append(batch(1, term=5).record, 0)
    segment.append(forged.record, 0)
    segment.flush()
    assert records(Log(MemoryDisk(disk.segments()))) == [batch(1, term=5).record]


def test_a_batch_across_the_beginning_of_a_later_segment_is_not_read() -> None:
    """Truncation keeps whole batches, so one that reaches over it is none that was kept."""
    disk = MemoryDisk()
    first, second = Segment(disk, 1), Segment(disk, 2)
    first.begin(0, 1, 0, 0)
    first.append(batch(1).record, 0)
    first.append(batch(2, count=2).record, 0)
    second.begin(1, 3, 0, 0)
    second.append(batch(3).record, 0)
    first.flush()
    second.flush()
    assert records(Log(MemoryDisk(disk.segments()))) == [batch(1).record]
