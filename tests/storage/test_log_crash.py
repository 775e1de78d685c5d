"""The log under crashes: nothing durable is lost, nothing truncated returns, nothing bad is read."""

import pytest

from copycat.storage.log import Log
from log_story import SEGMENT_BYTES, Story, batch, records, settle
from memory_disk import SERVER, MemoryDisk, PowerCutError

LIVES = 8


@pytest.mark.parametrize("part", range(8))
def test_lives_with_crashes_at_random_operations(seed: int, part: int) -> None:
    """Over several lives, each ended by a random crash, the log keeps its promises."""
    story = Story(seed * 8 + part)
    for _ in range(LIVES):
        story.disk.operations_max = story.disk.operations + story.random.randint(1, 25)
        story.live(steps=40)
        story.crash(power=story.random.random() < 0.7)
        story.live(steps=3)
        story.crash(power=story.random.random() < 0.5)


def test_what_was_truncated_stays_away_once_that_is_durable() -> None:
    """After a durable truncation no crash brings the dropped batches back, appended to or not."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    for index in range(1, 40):
        log.append(batch(index, operations=bytes([index]) * 200))
    settle(log, disk)
    log.truncate(5)
    settle(log, disk)
    assert log.durable == log.written
    log = Log(MemoryDisk({name: inode.durable for name, inode in disk.durable.items()}))
    assert log.last_index == 5
    assert log.last_log_time_us == 50


def test_a_segment_that_returns_after_its_removal_changes_nothing() -> None:
    """The disk may bring a removed segment back; what overrules it is durable by then."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    for index in range(1, 40):
        log.append(batch(index, operations=bytes([index]) * 200))
    settle(log, disk)
    before = disk.files()
    log.truncate(5)
    assert set(before) <= set(disk.names()), "nothing is removed before the truncation is durable"
    settle(log, disk)
    assert not set(before) <= set(disk.names()), "then what is dead is removed"
    log.append(batch(6, term=2))
    settle(log, disk)
    reopened = Log(MemoryDisk(before | disk.files()), segment_bytes=SEGMENT_BYTES)
    assert records(reopened) == records(log)


def test_a_torn_overwrite_after_a_truncation_is_not_taken_for_damage() -> None:
    """Batches that were durable, truncated, and half replaced when the power went are no damage."""
    for seed in range(50):
        story = Story(seed)
        log, disk = story.log, story.disk
        for index in range(1, 11):
            log.append(batch(index, operations=b"old" * 50))
            settle(log, disk)
        log.truncate(5)
        for index in range(6, 9):
            log.append(batch(index, term=2, operations=b"new" * 200))
        log.start_sync(SERVER)
        reopened = Log(MemoryDisk(disk.after_crash(story.random)), segment_bytes=SEGMENT_BYTES)
        assert reopened.last_index >= 5


def test_leftovers_of_a_torn_group_never_join_what_is_appended_later() -> None:
    """A batch that outlived the loss of the one before it is not continued by a new one."""
    disk = MemoryDisk()
    log = Log(disk)
    log.append(batch(1))
    settle(log, disk)
    first_end = len(disk.files()["log-" + "1".zfill(20)].rstrip(b"\0"))
    log.append(batch(2, operations=b"lost" * 10))
    log.append(batch(3, operations=b"left over"))
    log.close()
    log.start_sync(SERVER)
    (name,) = [name for name, old in disk.segments().items() if old.rstrip(b"\0")]
    content = bytearray(disk.files()[name])
    content[first_end : first_end + 40] = bytes(40)
    disk = MemoryDisk({name: bytes(content)})
    log = Log(disk)
    assert log.last_index == 1
    log.append(batch(2, operations=b"LOST" * 10))
    settle(log, disk)
    assert Log(MemoryDisk(disk.files())).last_index == 2


def test_what_is_found_after_the_death_of_the_process_is_not_yet_durable() -> None:
    """What is visible at a start may still be lost with the power, so it is synced first."""
    disk = MemoryDisk()
    log = Log(disk)
    log.append(batch(1))
    log.start_sync(SERVER)  # written, but the process dies before the sync ends
    disk.pending.clear()
    disk.syncing.clear()
    log = Log(disk)
    assert log.last_index == 1
    assert (log.written, log.durable, log.synced_index) == (1, 0, 0)
    settle(log, disk)
    assert (log.written, log.durable, log.synced_index) == (1, 1, 1)
    durable = {name: inode.durable for name, inode in disk.durable.items()}
    assert Log(MemoryDisk(durable)).last_index == 1


def test_restarts_without_work_leave_no_files_behind() -> None:
    """A server that starts and dies again and again does not fill its disk."""
    story = Story(3)
    story.live(steps=60)
    for _ in range(10):
        story.disk.operations_max = story.disk.operations + story.random.randint(0, 3)
        try:
            story.crash(power=True)
        except PowerCutError:
            story.disk.operations_max = None
    settle(story.log, story.disk)
    count = len(story.disk.names())
    for _ in range(10):
        story.disk = MemoryDisk(story.disk.after_crash(story.random))
        story.log = story.open()
        settle(story.log, story.disk)
    assert len(story.disk.names()) <= count + 1
