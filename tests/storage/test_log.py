"""The log's behaviour without crashes: look-ups, durability, segments, memory, failing disks."""

import random

import pytest

from copycat.actors.environment import DiskDone
from copycat.storage.errors import DiskFailedError
from copycat.storage.log import SEGMENT_BYTES as SEGMENT_BYTES_OF_SERVERS
from copycat.storage.log import Log
from copycat.storage.segment import envelope_bytes
from copycat.storage.syncs import LOG_TOKEN_MIN
from log_story import SEGMENT_BYTES, batch, records, settle
from memory_disk import SERVER, MemoryDisk


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20], ids=["disk", "memory"])
def test_what_fits_is_returned_and_at_least_one(cache_bytes: int) -> None:
    """The limits are on the bytes of records and on their number; one that is larger alone is
    returned alone. Where they stand does not matter, but for the bytes of the envelopes."""
    log = Log(MemoryDisk(), cache_bytes=cache_bytes)
    batches = [batch(index, count=2, operations=b"x" * 100) for index in range(1, 11, 2)]
    for one in batches:
        log.append(one)
    records = [one.record for one in batches]
    size = len(records[0]) if cache_bytes else envelope_bytes(records[0])
    assert log.records_from(1, 0, 9) == (records[:1], 2)
    assert log.records_from(1, 3 * size, 9) == (records[:3], 6)
    assert log.records_from(3, 3 * size - 8, 9) == (records[1:3], 6)
    assert log.records_from(3, 100 * size, 1) == (records[1:2], 4)
    assert log.records_from(7, 100 * size, 9) == (records[3:], 10)


def test_reading_on_takes_large_pieces() -> None:
    """A stretch of the log is read from the disk a segment or a piece at a time, whole batches of
    any size, and then from memory; what is truncated and written anew is not mixed up."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=1 << 20, cache_bytes=40_000)
    sizes = random.Random(5)
    for term in (1, 2):
        for index in range(log.last_index + 1, 1_500 * term):
            size_bytes = 200_000 if index == 700 * term else sizes.randrange(1_000)
            log.append(batch(index, term=term, operations=bytes(size_bytes)))
        log.truncate(log.last_index - 100)
    everything = [log.batch_at(index) for index in range(1, log.last_index + 1)]
    disk.reads = 0
    assert list(log.read_ahead(1, log.last_index)) == everything
    size_bytes = sum(len(one.record) for one in everything)
    assert 5 < disk.reads < 2 * size_bytes / (64 << 10)
    assert list(log.read_ahead(11, 20)) == everything[10:20]
    assert list(log.read_ahead(11, 10)) == []


def begun_log(disk: MemoryDisk) -> Log:
    """A log with one batch, of which everything is durable."""
    log = Log(disk)
    log.append(batch(1))
    settle(log, disk)
    return log


def test_what_arrives_during_a_sync_shares_the_next_one() -> None:
    """There is one sync at a time; the next follows by itself and covers all that came meanwhile."""
    disk = MemoryDisk()
    log = begun_log(disk)
    log.append(batch(2))
    log.start_sync(SERVER)
    for index in range(3, 6):
        log.append(batch(index))
        log.start_sync(SERVER)
    assert len(disk.pending) == 1
    log.handle(disk.deliver())
    assert (log.durable, log.synced_index) == (2, 2)
    assert len(disk.pending) == 1
    log.handle(disk.deliver())
    assert (log.durable, log.synced_index) == (5, 5)
    log.start_sync(SERVER)
    assert not disk.pending, "nothing is synced twice"


def test_a_truncation_during_a_sync_is_not_durable_with_it() -> None:
    """A sync makes durable what was written before it, and counts only what is still there."""
    disk = MemoryDisk()
    log = begun_log(disk)
    for index in range(2, 6):
        log.append(batch(index))
    log.start_sync(SERVER)
    log.truncate(2)
    log.append(batch(3, term=2))
    assert log.synced_index == 1
    log.handle(disk.deliver())
    assert (log.written, log.durable) == (7, 5)
    assert log.synced_index == 2, "index 3 is another batch now, and not durable"
    settle(log, disk)
    assert (log.durable, log.synced_index) == (7, 3)


def test_a_sync_over_a_roll_waits_for_both_files() -> None:
    """What stands in two segments is durable when both are, in whatever order they end, and the floor
    names the second."""
    for order in ([0, 0], [1, 0]):
        disk = MemoryDisk()
        log = Log(disk, segment_bytes=SEGMENT_BYTES)
        log.start_sync(SERVER)
        log.handle(disk.deliver())  # the floor
        log.handle(disk.deliver())  # a segment that is allocated ahead
        log.append(batch(1, operations=b"x" * 1_500))
        log.append(batch(2, operations=b"x" * 1_500))
        log.start_sync(SERVER)
        assert len(disk.pending) == 3, "two syncs and an allocation"
        log.handle(disk.deliver(order[0]))
        log.handle(disk.deliver(order[1]))
        assert (log.durable, log.synced_index) == (0, 0)
        log.handle(disk.deliver(1))
        assert (log.durable, log.synced_index) == (2, 2)


def test_the_next_segment_is_allocated_ahead_and_used() -> None:
    """When a segment is half full the next one is made in the background, and rolling takes it."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    settle(log, disk)
    (spare,) = disk.segments()
    assert log.bytes_used == SEGMENT_BYTES
    log.append(batch(1, operations=b"x" * 1_200))
    assert list(disk.segments()) == [spare]
    settle(log, disk)
    assert len(disk.segments()) == 2
    log.append(batch(2, operations=b"x" * 1_200))
    settle(log, disk)
    assert len(disk.segments()) == 3
    assert log.bytes_used == 3 * SEGMENT_BYTES == sum(map(len, disk.segments().values()))


def test_no_segment_is_made_ahead_of_large_batches() -> None:
    """Zeros that large batches would only be written over are not written; small ones have them again."""
    disk = MemoryDisk()
    log = Log(disk)
    settle(log, disk)
    for index in range(1, 18):
        log.append(batch(index, operations=b"x" * (1 << 20)))
        settle(log, disk)
    first, *others = disk.segments().values()
    assert len(first) == SEGMENT_BYTES_OF_SERVERS
    assert len(others) == 2
    assert not any(content.endswith(bytes(4_096)) for content in others)
    assert log.bytes_used == sum(map(len, disk.segments().values()))
    for index in range(18, 1_200):
        log.append(batch(index, operations=b"x" * 1_000))
    settle(log, disk)
    *_, spare = disk.segments().values()
    assert spare == bytes(SEGMENT_BYTES_OF_SERVERS)


def test_a_segment_allocated_too_late_is_removed() -> None:
    """A roll that could not wait uses a file made on the spot; the late one would be out of order."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    for index in range(1, 4):
        log.append(batch(index, operations=b"x" * 1_200))
        log.start_sync(SERVER)
    settle(log, disk)
    log.append(batch(4, operations=b"x" * 1_200))
    settle(log, disk)
    expected = records(log)
    assert len(expected) == 4
    assert records(Log(MemoryDisk(disk.files()))) == expected
    unused = [name for name, content in disk.files().items() if not content.strip(b"\0")]
    assert len(unused) <= 1, "only the next segment waits"


def test_a_record_larger_than_a_segment_gets_its_own() -> None:
    """The size of segments limits nothing that may be in the log."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    log.append(batch(1))
    log.append(batch(2, operations=b"x" * 3 * SEGMENT_BYTES))
    log.append(batch(3))
    settle(log, disk)
    expected = records(log)
    assert records(Log(MemoryDisk(disk.files()), segment_bytes=SEGMENT_BYTES)) == expected


def test_one_write_for_all_that_is_appended_in_a_turn() -> None:
    """Envelopes are gathered until they are synced or read from the disk."""
    disk = MemoryDisk()
    log = begun_log(disk)
    before = disk.operations
    for index in range(2, 50):
        log.append(batch(index))
    assert disk.operations == before
    settle(log, disk)
    assert disk.operations == before + 2, "one write and one sync"


def test_recent_batches_are_read_from_memory_and_others_from_the_disk() -> None:
    """The cache is bounded in bytes, holds the latest batches, and is read before the disk."""
    disk = MemoryDisk()
    size = len(batch(1, operations=b"x" * 100).record)
    log = Log(disk, cache_bytes=3 * size)
    for index in range(1, 11):
        log.append(batch(index, operations=b"x" * 100))
    before = disk.reads
    assert [log.batch_at(index).base_index for index in (8, 9, 10)] == [8, 9, 10]
    assert disk.reads == before
    assert log.batch_at(7).base_index == 7
    assert disk.reads > before
    log.truncate(9)
    log.check()
    assert log.batch_at(9).base_index == 9


def test_old_segments_are_open_only_while_they_are_read() -> None:
    """However long the log is, a bounded number of files is open."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
    for index in range(1, 60):
        log.append(batch(index, operations=b"x" * 1_200))
        settle(log, disk)
    log = Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
    assert len(log._segments) > 50
    for _ in range(2):
        assert len(records(log)) == 59
        assert sum(segment.is_open for segment in log._segments.values()) <= 10
    settle(log, disk)
    assert len(records(log)) == 59


@pytest.mark.parametrize("kind", ["sync", "allocate", "write"])
def test_a_failing_disk_stops_the_log(kind: str) -> None:
    """Every refusal of the disk is a DiskFailedError in one line, and nothing becomes durable."""
    disk = MemoryDisk()
    log = Log(disk)
    disk.fail_next = (kind, "No space left on device")
    with pytest.raises(DiskFailedError, match="No space left on device") as caught:
        settle(log, disk)
        log.append(batch(1))
        settle(log, disk)
    assert "\n" not in str(caught.value)
    assert log.synced_index == log.durable == 0


def test_a_segment_that_cannot_be_created_stops_the_log() -> None:
    """A roll that finds no room or no file handle is a DiskFailedError too."""
    disk = MemoryDisk()
    log = Log(disk)
    disk.fail_next = ("open", "Too many open files")
    with pytest.raises(DiskFailedError, match="Too many open files"):
        log.append(batch(1))
    assert Log(disk).last_index == 0


def test_after_a_full_disk_the_log_goes_on_where_it_was() -> None:
    """A write that failed with a full disk loses nothing that was durable."""
    disk = MemoryDisk()
    log = Log(disk)
    log.append(batch(1))
    settle(log, disk)
    log.append(batch(2))
    disk.fail_next = ("write", "No space left on device")
    with pytest.raises(DiskFailedError):
        log.start_sync(SERVER)
    log = Log(disk)
    assert log.last_index == 1
    log.append(batch(2, term=2))
    settle(log, disk)
    assert Log(MemoryDisk(disk.files())).last_term == 2


def test_tokens_below_the_logs_belong_to_others() -> None:
    """The server hands a completion to whom it belongs by its token."""
    log = Log(MemoryDisk())
    assert log.owns(LOG_TOKEN_MIN)
    assert not log.owns(LOG_TOKEN_MIN - 1)
    with pytest.raises(AssertionError):
        log.handle(DiskDone(1, None))


def test_appending_asserts_what_raft_promises() -> None:
    """A gap, a falling term and a cut through a batch are our own bugs and stop at once."""
    log = Log(MemoryDisk())
    log.append(batch(1, count=3, term=2))
    with pytest.raises(AssertionError):
        log.append(batch(5, term=2))
    with pytest.raises(AssertionError):
        log.append(batch(4, term=1))
    with pytest.raises(AssertionError):
        log.truncate(2)
    with pytest.raises(AssertionError):
        log.term_at(4)
    log.check()


def test_other_files_of_the_directory_are_left_alone() -> None:
    """Only files that are named like segments are."""
    others = {
        "ballot": b"x",
        "log-": b"x",
        "log-12": b"x",
        "log-" + "x" * 20: b"x",
        "snapshot": b"",
    }
    disk = MemoryDisk(dict(others))
    log = Log(disk)
    log.append(batch(1))
    settle(log, disk)
    files = disk.files()
    assert {name: files[name] for name in others} == others
