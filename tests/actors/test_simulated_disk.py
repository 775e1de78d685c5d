"""A simulated disk loses in a crash exactly what was not synced, in every combination."""

import errno
import random

import pytest

from copycat.actors.address import NodeAddress
from copycat.actors.environment import DiskDone
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_file import PAGE_BYTES, SimulatedFile
from copycat.actors.simulated_loop import SimulatedLoop

ASKER = NodeAddress("n1", 1, 17)
CRASHES = 200  # seeds per claim about "every combination"


def synced_file(disk: SimulatedDisk, content: bytes) -> SimulatedFile:
    file = disk.open("log", create=True)
    file.write(0, content)
    disk.sync(file, ASKER, 1)
    assert disk.finish() == DiskDone(1, None)
    return file


def pages(*letters: str) -> bytes:
    return b"".join(letter.encode() * PAGE_BYTES for letter in letters)


def crashed(seed: int, *letters: str) -> tuple[SimulatedDisk, SimulatedFile]:
    disk = SimulatedDisk(random.Random(seed))
    return disk, synced_file(disk, pages(*letters))


def test_a_write_is_visible_at_once() -> None:
    """Readers see a write before any sync, across pages and over a gap."""
    disk = SimulatedDisk(random.Random(0))
    file = disk.open("log", create=True)
    file.write(1000, b"abc")
    assert file.size() == 1003
    assert file.read(999, 100) == b"\0abc"
    assert disk.open("log").read(1000, 2) == b"ab"
    assert disk.load("log") == bytes(1000) + b"abc"
    assert disk.names() == ["log"]


def test_what_was_synced_survives_every_crash() -> None:
    """However a crash treats later writes to other pages, a synced page is as it was."""
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a", "b", "c")
        file.write(PAGE_BYTES, pages("x"))
        disk.crash()
        content = disk.load("log")
        assert content is not None
        assert content[:PAGE_BYTES] + content[2 * PAGE_BYTES :] == pages("a", "c")


def test_a_crash_keeps_any_combination_of_unsynced_pages() -> None:
    """Over the seeds, each subset of three overwritten pages is seen, and no mixed page."""
    seen = set()
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a", "b", "c")
        file.write(0, pages("x", "y", "z"))
        disk.crash()
        content = disk.load("log")
        assert content is not None
        kept = [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]
        for page, old, new in zip(kept, "abc", "xyz", strict=True):
            assert page in (pages(old), pages(new))
        seen.add(tuple(page[0] for page in kept))
    assert len(seen) == 8


def test_growth_that_was_not_synced_may_leave_zeros() -> None:
    """A file that grew has its old length, its new one or one between, and zeros for lost pages."""
    seen = set()
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a")
        file.write(PAGE_BYTES, pages("x", "y") + b"z")
        disk.crash()
        content = disk.load("log")
        assert content is not None
        assert content[:PAGE_BYTES] == pages("a")
        seen.add((len(content), bytes(content[PAGE_BYTES::PAGE_BYTES])))
    assert {length for length, _ in seen} == {512, 1024, 1536, 1537}
    assert (1537, b"xyz") in seen
    assert any(length == 1537 and 0 < tail.count(0) < 3 for length, tail in seen)


def test_a_sync_saves_what_was_written_before_it_was_asked_for() -> None:
    """A page written while a sync is under way is not durable when that sync ends."""
    seen = set()
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a")
        file.write(0, pages("b"))
        disk.sync(file, ASKER, 2)
        file.write(0, pages("c"))
        disk.finish()
        assert disk.image()["log"] == pages("b")
        disk.crash()
        seen.add(disk.load("log"))
    assert seen == {pages("b"), pages("c")}


def test_a_sync_under_way_promises_nothing() -> None:
    """In a crash before a sync ends, its pages are old, as captured, or as written since."""
    seen = set()
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a")
        file.write(0, pages("b"))
        disk.sync(file, ASKER, 2)
        file.write(0, pages("c"))
        disk.crash()
        assert disk.pending == []
        seen.add(disk.load("log"))
    assert seen == {pages("a"), pages("b"), pages("c")}


def test_an_older_sync_that_ends_late_takes_nothing_back() -> None:
    """Syncs may end in any order; the durable image only gets newer."""
    disk, file = crashed(0, "a", "a")
    file.write(0, pages("b"))
    disk.sync(file, ASKER, 2)
    file.write(0, pages("c"))
    disk.sync(file, ASKER, 3)
    assert disk.pending == [2, 3]
    disk.finish(3)
    disk.finish(2)
    assert disk.image()["log"] == pages("c", "a")


def test_a_sync_saves_only_what_was_written_since_the_last() -> None:
    """Saved pages are clean until they are written again."""
    _, file = crashed(0, "a", "b")
    file.write(PAGE_BYTES + 1, b"x")
    assert list(file.content.capture(99).pages) == [1]


def test_a_name_made_during_a_sync_is_not_covered_by_it() -> None:
    """A sync makes the names durable that there were when it was asked for, and no others."""
    seen = set()
    for seed in range(CRASHES):
        disk = SimulatedDisk(random.Random(seed))
        disk.sync(disk.open("first", create=True), ASKER, 1)
        disk.open("second", create=True)
        disk.finish()
        disk.crash()
        assert "first" in disk.names()
        seen.add("second" in disk.names())
    assert seen == {True, False}


def test_a_new_name_lives_when_its_file_was_synced() -> None:
    """Without a sync a new file is there or not after a crash; with one it is there."""
    seen = set()
    for seed in range(CRASHES):
        disk = SimulatedDisk(random.Random(seed))
        disk.open("unsynced", create=True)
        synced_file(disk, b"x")
        disk.open("later", create=True)
        disk.crash()
        assert disk.load("log") == b"x"
        assert disk.load("unsynced") == b""  # older than the name whose directory was synced
        seen.add(disk.load("later"))
    assert seen == {None, b""}


def test_a_removed_file_may_be_back() -> None:
    """A removal is undecided until the directory is synced."""
    seen = set()
    for seed in range(CRASHES):
        disk, _ = crashed(seed, "a")
        disk.remove("log")
        assert disk.names() == []
        if seed % 2:
            disk.replace("other", b"", ASKER, 2)
            disk.finish()
        disk.crash()
        if seed % 2:
            assert disk.load("log") is None
        else:
            seen.add(disk.load("log"))
    assert seen == {None, pages("a")}


@pytest.mark.parametrize("finished", [True, False])
def test_replace_is_old_or_new(finished: bool) -> None:
    """After a crash a replaced file is old or new and nothing else, and new if it was done."""
    seen = set()
    for seed in range(CRASHES):
        disk = SimulatedDisk(random.Random(seed))
        disk.replace("ballot", b"old", ASKER, 1)
        disk.finish()
        disk.replace("ballot", b"new", ASKER, 2)
        assert disk.load("ballot") == b"old"
        if finished:
            disk.finish()
            assert disk.load("ballot") == b"new"
        disk.crash()
        seen.add(disk.load("ballot"))
    assert seen == ({b"new"} if finished else {b"old", b"new"})


def test_allocation_is_there_when_it_is_done() -> None:
    """An allocated file is full of durable zeros at the end; before, it is there or not."""
    seen = set()
    for seed in range(CRASHES):
        disk = SimulatedDisk(random.Random(seed))
        disk.allocate("segment", 5000, ASKER, 1)
        assert disk.names() == []
        if seed % 2:
            disk.finish()
        disk.crash()
        if seed % 2:
            assert disk.load("segment") == bytes(5000)
        else:
            seen.add(disk.load("segment"))
    assert seen == {None, bytes(5000)}


def test_a_killed_process_loses_nothing_that_it_wrote() -> None:
    """When only the node ends, unsynced writes are still visible, but not safer than before."""
    lost = 0
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a")
        file.write(0, pages("b"))
        disk.detach()
        assert disk.load("log") == pages("b")
        disk.crash()
        lost += disk.load("log") == pages("a")
    assert 0 < lost < CRASHES


def test_files_of_an_earlier_life_are_dead() -> None:
    """After a crash nobody writes through a file that was opened before it."""
    disk, file = crashed(0, "a")
    disk.crash()
    with pytest.raises(OSError, match="log"):
        file.write(0, b"x")
    with pytest.raises(OSError, match="log"):
        file.read(0, 1)


def test_a_failed_sync_loses_its_pages_for_good() -> None:
    """After a failed sync the next one succeeds and yet does not save what the first should have."""
    disk, file = crashed(0, "a", "a")
    file.write(0, pages("b"))
    disk.fail_next_sync("Input/output error")
    disk.sync(file, ASKER, 2)
    assert disk.finish() == DiskDone(2, "Input/output error")
    file.write(PAGE_BYTES, pages("c"))
    disk.sync(file, ASKER, 3)
    assert disk.finish() == DiskDone(3, None)
    assert file.read(0, 1) == b"b"
    disk.crash()
    assert disk.load("log") == pages("a", "c")


def test_a_full_disk_may_write_a_part() -> None:
    """A write that fails for lack of room raises ENOSPC and has written some first part or none."""
    sizes = set()
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a")
        disk.write_error = errno.ENOSPC
        with pytest.raises(OSError, match="log") as caught:
            file.write(PAGE_BYTES, b"xxx")
        assert caught.value.errno == errno.ENOSPC
        sizes.add(file.size() - PAGE_BYTES)
        disk.replace("ballot", b"", ASKER, 2)
        assert disk.finish().error == "ballot: No space left on device"
        disk.write_error = None
        file.write(PAGE_BYTES, b"yyy")
        assert file.read(PAGE_BYTES, 9) == b"yyy"
    assert sizes == {0, 1, 2, 3}


def test_capacity_is_a_limit_on_all_files() -> None:
    """Overwriting is possible on a full disk, growing is not, and room is found by removing."""
    disk, file = crashed(0, "a", "a")
    disk.capacity_bytes = 2 * PAGE_BYTES + 10
    file.write(0, pages("b"))
    with pytest.raises(OSError, match="No space"):
        file.write(2 * PAGE_BYTES, bytes(11))
    assert file.size() <= disk.capacity_bytes
    disk.allocate("segment", 100, ASKER, 2)
    assert disk.finish().error == "segment: No space left on device"
    disk.remove("log")
    disk.allocate("segment", 100, ASKER, 3)
    assert disk.finish().error is None


def test_reads_fail_on_demand() -> None:
    """A read error is an OSError with the file's name, for files and loads."""
    disk, file = crashed(0, "a")
    disk.read_error = errno.EIO
    with pytest.raises(OSError, match="log"):
        file.read(0, 1)
    with pytest.raises(OSError, match="log"):
        disk.load("log")


def test_a_lying_disk_saves_nothing() -> None:
    """With lose_syncs a sync reports success and the data is gone after some crash."""
    lost = 0
    for seed in range(CRASHES):
        disk, file = crashed(seed, "a")
        disk.lose_syncs = True
        file.write(0, pages("b"))
        disk.sync(file, ASKER, 2)
        assert disk.finish() == DiskDone(2, None)
        disk.crash()
        lost += disk.load("log") == pages("a")
    assert lost > CRASHES // 4


def test_a_flipped_bit_stays() -> None:
    """Corruption is seen by readers at once and after a crash; exactly one bit differs."""
    disk, file = crashed(0, "a")
    offset = disk.flip_bit("log")
    changed = file.read(offset, 1)[0] ^ ord("a")
    assert changed.bit_count() == 1
    disk.crash()
    assert disk.open("log").read(offset, 1)[0] ^ ord("a") == changed


def test_a_disk_can_be_rolled_back() -> None:
    """An image taken earlier brings back the files as they were then."""
    disk, file = crashed(0, "a")
    image = disk.image()
    file.write(0, pages("b"))
    disk.sync(file, ASKER, 2)
    disk.finish()
    disk.replace("ballot", b"new", ASKER, 3)
    disk.finish()
    disk.restore(image)
    assert disk.names() == ["log"]
    assert disk.load("log") == pages("a")


def test_missing_files_are_errors() -> None:
    """Opening or removing what is not there raises FileNotFoundError; loading gives None."""
    disk = SimulatedDisk(random.Random(0))
    with pytest.raises(FileNotFoundError):
        disk.open("log")
    with pytest.raises(FileNotFoundError):
        disk.remove("log")
    assert disk.load("log") is None


def ends_of_operations(seed: int, *, factor: float = 1.0, stall_s: float = 0.0) -> list[float]:
    """When each of ten syncs of ten files ends."""
    loop = SimulatedLoop()
    disk = SimulatedDisk(random.Random(seed))
    ended: dict[int, float] = {}

    def deliver(_: NodeAddress, done: DiskDone) -> None:
        ended[done.token] = loop.time()

    disk.attach(loop, deliver)
    disk.latency_factor = factor
    for token in range(10):
        disk.sync(disk.open(f"file{token}", create=True), ASKER, token)
    if stall_s:
        disk.stall(stall_s)
    assert not ended
    loop.call_later(1000, loop.stop)
    loop.run_forever()
    loop.close()
    return [ended[token] for token in range(10)]


def test_operations_take_virtual_time() -> None:
    """Syncs of different files end in any order, within the latencies, slower with the factor."""
    ends = ends_of_operations(3)
    assert ends != sorted(ends)
    assert 0.00005 <= min(ends) <= max(ends) <= 0.002
    slow = ends_of_operations(3, factor=100)
    assert slow == pytest.approx([100 * end_s for end_s in ends])


def test_operations_on_one_file_end_in_order() -> None:
    """A later sync or replace of the same file never overtakes an earlier one."""
    for seed in range(20):
        loop = SimulatedLoop()
        disk = SimulatedDisk(random.Random(seed))
        ended: list[DiskDone] = []
        disk.attach(loop, lambda _, done: ended.append(done))  # noqa: B023 - it ends with the loop
        for token in range(10):
            disk.replace("ballot", b"%d" % token, ASKER, token)
        loop.call_later(1, loop.stop)
        loop.run_forever()
        loop.close()
        assert [done.token for done in ended] == list(range(10))
        assert disk.load("ballot") == b"9"


def test_a_stalled_disk_ends_nothing() -> None:
    """Operations under way when a disk stalls end when the stall is over."""
    assert min(ends_of_operations(3, stall_s=5)) == 5


def test_a_crash_answers_no_operation() -> None:
    """What was under way in a crash is never reported done, not even to the next life."""
    loop = SimulatedLoop()
    disk = SimulatedDisk(random.Random(0))
    done: list[DiskDone] = []
    disk.attach(loop, lambda _, one: done.append(one))
    disk.sync(disk.open("log", create=True), ASKER, 1)
    disk.crash()
    disk.detach()
    disk.attach(loop, lambda _, one: done.append(one))
    disk.sync(disk.open("log", create=True), ASKER, 2)
    loop.call_later(10, loop.stop)
    loop.run_forever()
    loop.close()
    assert done == [DiskDone(2, None)]
