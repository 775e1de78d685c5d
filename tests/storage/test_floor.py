"""The floor: whatever is taken from a log, or put back as it was, is refused by name or harmless.

The exceptions stand in docs/faults.md: what was written since the floor was raised last, and a log
and a floor that go back together.
"""

import random
from collections.abc import Callable, Iterator
from itertools import chain, combinations

import pytest

from copycat.storage import recovery
from copycat.storage.errors import (
    AmnesiaError,
    DiskFailedError,
    FloorCorruptError,
    LogCorruptError,
)
from copycat.storage.floor import Floor, Promise
from copycat.storage.log import Log
from copycat.storage.segment import segment_name
from log_story import batch, records, settle
from memory_disk import SERVER, MemoryDisk

SEGMENT_BYTES = 512
BALLOT = (3, 7)

Files = dict[str, bytes]


def raised(log: Log, disk: MemoryDisk) -> None:
    """Promise all that the log has, as an idle server does that knows it is committed."""
    assert log.raise_floor(log.last_index, BALLOT)
    settle(log, disk)


def lived() -> list[Files]:
    """What a disk has held: each time after the log was raised over another few batches, with a
    truncation of what was not committed, and a second life."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    pasts = []
    for life in range(2):
        for turn in range(4):
            for size in (30, 90, 0):
                operations = bytes([life * 4 + turn + 1]) * size
                log.append(
                    batch(log.last_index + 1, term=turn + 1 + 4 * life, operations=operations)
                )
            settle(log, disk)
            if turn == 2:
                log.truncate(log.last_index - 2)
                settle(log, disk)
            raised(log, disk)
            pasts.append(disk.files())
        disk = MemoryDisk(disk.files())
        log = Log(disk, segment_bytes=SEGMENT_BYTES)
        settle(log, disk)
    return pasts


PASTS = lived()
NOW = PASTS[-1]
WHOLE = records(Log(MemoryDisk(NOW), segment_bytes=SEGMENT_BYTES))


def refused(files: Files) -> bool:
    """Whether a log refuses these files, and leaves them as they are; else it has lost nothing."""
    disk = MemoryDisk(files)
    try:
        found = records(Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0))
    except (AmnesiaError, LogCorruptError, FloorCorruptError) as error:
        refusal = error
    else:
        assert found == WHOLE, "nothing is lost in silence, and nothing returns"
        return False
    assert disk.files() == files, "what is refused is left as it is"
    assert refusal.file in {*NOW, *files}, "the file is named"
    assert f"file {refusal.file} " in str(refusal)
    return True


def without(names: tuple[str, ...]) -> Files:
    """All files but these."""
    return {name: content for name, content in NOW.items() if name not in names}


def subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of some of them."""
    return chain.from_iterable(combinations(names, count) for count in range(1, len(names) + 1))


def test_every_subset_of_the_segments_removed() -> None:
    """A segment that is missing is missed, however many others are; only one that is of no use yet,
    or no more, is not."""
    needed = [name for name in NOW if refused(without((name,)))]
    assert len(needed) > 3
    for names in subsets([name for name in NOW if name != Floor.NAME]):
        assert refused(without(names)) == any(name in needed for name in names)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("emptied", lambda _: b""),
        ("zeroed", lambda content: bytes(len(content))),
        ("shifted by 40 bytes", lambda content: bytes(40) + content[:-40]),
        ("shifted back by 40 bytes", lambda content: content[40:] + bytes(40)),
    ],
)
def test_every_subset_of_the_segments_changed(what: str, change: Callable[[bytes], bytes]) -> None:
    """The same for segments that look unused, or have nothing where it was."""
    assert what
    used = [name for name in NOW if name != Floor.NAME and refused(without((name,)))]
    for names in subsets(used):
        assert refused({name: change(old) if name in names else old for name, old in NOW.items()})


def test_every_file_as_it_was_at_any_earlier_time() -> None:
    """A segment that goes back is missed; a floor that goes back promises less, and loses nothing."""
    tried = 0
    for past in PASTS[:-1]:
        for name, content in past.items():
            changed = NOW | {name: content}
            if name == Floor.NAME or content == NOW.get(name):
                assert not refused(changed)
            elif name in NOW:
                tried += 1
                refused(changed)
    assert tried
    newest = max(name for name, content in NOW.items() if content.strip(b"\0") and name != "floor")
    before = [past[newest] for past in PASTS[:-1] if newest in past]
    assert all(refused(NOW | {newest: content}) for content in before if content != NOW[newest])


def test_all_segments_as_they_were_at_any_earlier_time() -> None:
    """Without the floor's going back too, an older log is known as such."""
    for past in PASTS[:-1]:
        segments = {name: content for name, content in past.items() if name != Floor.NAME}
        assert refused({**segments, Floor.NAME: NOW[Floor.NAME]})


def test_every_length_of_the_newest_segment() -> None:
    """Whatever is cut from its end: zeros are no loss, and a record is missed at once."""
    newest = max(name for name, content in NOW.items() if content.strip(b"\0") and name != "floor")
    end = NOW[newest].rindex(WHOLE[-1]) + len(WHOLE[-1])
    lengths = [
        length
        for length in range(SEGMENT_BYTES)
        if not refused(NOW | {newest: NOW[newest][:length]})
    ]
    assert lengths == list(range(min(lengths), SEGMENT_BYTES))
    assert lengths[0] == end


def test_every_flipped_bit_of_the_newest_record() -> None:
    """The record that was acknowledged last is damaged: it is refused, not taken for a torn tail."""
    newest = max(name for name, content in NOW.items() if content.strip(b"\0") and name != "floor")
    content = NOW[newest]
    start = content.rindex(WHOLE[-1])
    for position in range(start * 8, (start + len(WHOLE[-1])) * 8):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        assert refused(NOW | {newest: bytes(flipped)})


def test_every_flipped_bit_of_the_floor() -> None:
    """One slot that cannot be read leaves the other; of a file without any it is said."""
    content = NOW[Floor.NAME]
    for position in range(len(content) * 8):
        if content[position // 8] or position % 64 == 0:
            flipped = bytearray(content)
            flipped[position // 8] ^= 1 << position % 8
            assert not refused(NOW | {Floor.NAME: bytes(flipped)})
    for length in range(0, len(content), 8):
        refused(NOW | {Floor.NAME: content[:length]})
    for bad in (b"", bytes(len(content)), content[:40]):
        with pytest.raises(FloorCorruptError, match="file floor is damaged"):
            Log(MemoryDisk(NOW | {Floor.NAME: bad}))


def test_a_segment_after_the_one_that_is_named_is_no_loss() -> None:
    """The header of a new segment is durable before the floor names it: a crash in between leaves a
    later segment, or none, and neither is refused."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    log.append(batch(1, operations=bytes(300)))
    settle(log, disk)
    before = disk.files()
    log.append(batch(2, operations=bytes(300)))
    log.start_sync(SERVER)
    while Floor.TOKEN not in [done.token for done, _ in disk.pending]:
        log.handle(disk.deliver())
    assert (log.durable, log.synced_index) == (1, 1), "nothing of it is acknowledged before"
    after = disk.files()
    for chance in range(20):
        left = disk.after_crash(random.Random(chance))
        assert len(records(Log(MemoryDisk(left)))) == 2, "its header and content were durable"
    later = segment_name(
        max(int(name[4:]) for name in after if after[name].strip(b"\0") and name != "floor")
    )
    assert later not in before or not before[later].strip(b"\0")
    rest = {name: content for name, content in after.items() if name != later}
    assert len(records(Log(MemoryDisk({**rest, Floor.NAME: before[Floor.NAME]})))) == 1


def test_the_log_goes_on_while_the_floor_is_written() -> None:
    """While a new segment waits to be named, the next sync runs; both count when it is."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=1 << 20)
    settle(log, disk)
    log.append(batch(1))
    log.start_sync(SERVER)
    log.append(batch(2))
    log.handle(disk.deliver())
    assert [done.token == Floor.TOKEN for done, _ in disk.pending] == [True, False]
    log.handle(disk.deliver(1))
    assert log.synced_index == 0
    log.handle(disk.deliver())
    assert log.synced_index == 2


def test_the_floor_does_not_pass_what_is_committed() -> None:
    """What is durable and not committed may be truncated; a floor above it would refuse the log."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    for index in range(1, 6):
        log.append(batch(index))
    settle(log, disk)
    log.raise_floor(3, BALLOT)
    settle(log, disk)
    assert log.floor.promise == Promise(2, 3, *BALLOT)
    log.truncate(3)
    settle(log, disk)
    assert Log(MemoryDisk(disk.files())).last_index == 3
    with pytest.raises(AssertionError):
        log.truncate(2)


def test_a_log_as_it_was_before_the_start() -> None:
    """What was found at a start is promised with the life, committed or not: a log from before lacks
    it. Only a segment that was begun since may end the log before."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    log.append(batch(1))
    settle(log, disk)
    older = {name: content for name, content in disk.segments().items() if content.strip(b"\0")}
    log.append(batch(2))
    settle(log, disk)
    disk = MemoryDisk(disk.files())
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    while not log.begin_life(BALLOT):
        settle(log, disk)
    assert log.floor.promise == Promise(1, 0, *BALLOT, start_segment=1, start_index=2)
    with pytest.raises(LogCorruptError, match="by file floor 2 was durable"):
        Log(MemoryDisk(disk.files() | older))
    log.truncate(1)
    settle(log, disk)
    assert Log(MemoryDisk(disk.files())).last_index == 1
    log.raise_floor(1, BALLOT)
    settle(log, disk)
    assert Log(MemoryDisk(disk.files())).last_index == 1


def test_the_floor_does_not_pass_what_is_durable() -> None:
    """What is committed by others may not be on this disk yet."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    log.append(batch(1))
    settle(log, disk)
    log.append(batch(2))
    log.raise_floor(2, BALLOT)
    settle(log, disk)
    assert log.floor.promise.last_index == 1


def test_what_was_found_is_durable_before_more_is_promised() -> None:
    """A failed sync leaves a slot that is seen and not saved; the next process saves it first, for
    its own slot takes the place of the last that is."""
    disk = MemoryDisk()
    log = Log(disk)
    log.append(batch(1))
    settle(log, disk)
    log.raise_floor(1, BALLOT)
    disk.pending.clear()
    disk.syncing.clear()
    disk = MemoryDisk({name: bytes(inode.visible) for name, inode in disk.visible.items()})
    floor = Floor(disk)
    assert floor.promise.last_index == 1
    floor.write(floor.promise._replace(last_index=5), SERVER)
    floor.handle(disk.deliver())
    assert floor.promise.last_index == 1
    assert Floor(MemoryDisk({Floor.NAME: disk.durable[Floor.NAME].durable})).promise.last_index == 1
    floor.handle(disk.deliver())
    assert floor.promise.last_index == 5


def test_a_new_segment_costs_one_small_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No replacement: the floor is a file of two slots, and each is written in its turn."""
    disk = MemoryDisk()
    log = Log(disk, segment_bytes=SEGMENT_BYTES)
    settle(log, disk)
    size_bytes = len(disk.files()[Floor.NAME])
    asked: list[str] = []
    start = disk._start

    def counted(kind: str, token: int, settle: Callable[[], None]) -> None:
        asked.extend([kind] * (token == Floor.TOKEN))
        start(kind, token, settle)

    monkeypatch.setattr(disk, "_start", counted)
    for index in range(1, 9):
        log.append(batch(index, operations=bytes(300)))
        settle(log, disk)
    assert asked == ["sync"] * 8
    assert len(disk.files()[Floor.NAME]) == size_bytes


@pytest.mark.parametrize("kind", ["replace", "sync", "write"])
def test_a_floor_that_cannot_be_written_stops(kind: str) -> None:
    """Without it nothing of a new segment may be acknowledged."""
    disk = MemoryDisk()
    floor = Floor(disk)
    with pytest.raises(DiskFailedError, match="file floor"):
        if kind == "replace":
            disk.fail_next = (kind, "Input/output error")
        floor.make(SERVER)
        floor.handle(disk.deliver())
        disk.fail_next = (kind, "Input/output error")
        floor.write(Promise(1), SERVER)
        floor.handle(disk.deliver())
    assert floor.promise == Promise()


def test_a_log_whose_floor_nobody_reads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With that judgement left out, what is removed is lost in silence, and the tests above see it."""
    monkeypatch.setattr(recovery, "_refuse_amnesia", lambda *_: None)
    with pytest.raises(AssertionError, match=r"in silence|what is before it"):
        test_every_subset_of_the_segments_removed()
    with pytest.raises(AssertionError, match=r"in silence|what is before it"):
        test_every_flipped_bit_of_the_newest_record()
