"""Every bit turned over, every byte zeroed, every length: the right log, or an error that says so.

This is what the files of the log say of each other, without the floor; see ``test_floor`` for that.
What may be lost in silence is what was synced last, as long as nothing was written since; and what
was cut off from the newest file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from copycat.storage import recovery
from copycat.storage.batch import Batch
from copycat.storage.errors import LogCorruptError, LogFormatError
from copycat.storage.log import Log
from log_story import batch, records, settle
from memory_disk import SERVER, MemoryDisk

SEGMENT_BYTES = 512
BEHIND_BYTES = 16  # so much behind the end is damaged too


@dataclass
class Past:
    """What a log has gone through, and what the disk can prove of it.

    Attributes:
        states: its records after each sync, and at last; the last one is what is read undamaged.
        returned: files that were removed, but that a crash has brought back.
        proven_index: the last envelope or header says that all up to here was durable.
    """

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    states: list[list[bytes]] = field(default_factory=lambda: [[]])
    returned: dict[str, bytes] = field(default_factory=dict)
    proven_index: int = 0

    def __post_init__(self) -> None:
        self.begin_life()

    def begin_life(self) -> None:
        """Open the log."""
        self.log = Log(self.disk, segment_bytes=SEGMENT_BYTES)

    def append(self, *sizes: int) -> None:
        """Append batches with operations of these sizes, no two of them the same."""
        for size in sizes:
            self.proven_index = self.log.synced_index
            operations = bytes([len(self.states)]) * size
            self.log.append(batch(self.log.last_index + 1, operations=operations))

    def truncate(self, last_index: int) -> None:
        """Truncate; what begins then says what was durable."""
        self.proven_index = min(self.log.synced_index, last_index)
        self.log.truncate(last_index)

    def sync(self) -> None:
        """Sync all, and wait for it."""
        settle(self.log, self.disk)
        self.states.append(records(self.log))

    def files(self) -> dict[str, bytes]:
        """What is on the disk; what was not synced has survived."""
        if self.log.durable < self.log.written:
            self.log.start_sync(SERVER)
            self.states.append(records(self.log))
        return self.returned | self.disk.segments()


def grown(past: Past) -> None:
    """Groups of batches, over several segments, with syncs between them."""
    for _ in range(3):
        past.append(3, 40, 0)
        past.sync()


def not_quite_synced(past: Past) -> None:
    """The same, and batches behind them that may have been synced or not."""
    grown(past)
    past.append(5, 6)


def truncated(past: Past) -> None:
    """What came instead of the truncated batches is less than they were."""
    past.append(0, 0, 0, 0, 0, 0, 0)
    past.sync()
    past.truncate(2)
    past.append(9)
    past.sync()
    past.append(1)
    past.sync()
    past.append(2)
    past.sync()


def truncated_in_a_file(past: Past) -> None:
    """The same, where the file goes on behind what is kept of it."""
    past.append(0, 0, 0)
    past.sync()
    past.truncate(1)
    past.append(8)
    past.sync()
    past.append(9)
    past.sync()


def truncated_last(past: Past) -> None:
    """Nothing was written after a truncation was synced."""
    past.append(0, 9, 0, 4)
    past.sync()
    past.truncate(2)
    past.sync()


def truncated_and_not_synced(past: Past) -> None:
    """A truncation, and what came instead, that may have been synced or not."""
    past.append(0, 9, 0, 4)
    past.sync()
    past.truncate(2)
    past.append(7, 7)


def removed_and_returned(past: Past) -> None:
    """Segments that were truncated and removed are back after a crash."""
    past.append(0, 0, 0)
    past.sync()
    past.append(0, 0, 0, 0, 0, 0)
    past.sync()
    past.returned = past.disk.segments()
    past.truncate(2)
    past.append(9, 9)
    past.sync()
    past.append(9)
    past.sync()


def rolled_after_a_truncation(past: Past) -> None:
    """A segment that overrules others is full, and another one continues it."""
    past.append(*[0] * 14)
    past.sync()
    past.returned = past.disk.segments()
    past.truncate(2)
    past.append(9, 9, 9, 9)
    past.sync()
    past.append(9)
    past.sync()


def in_a_second_life(past: Past) -> None:
    """A process has died, and the next one has gone on."""
    past.append(9, 0)
    past.sync()
    past.append(5, 5)
    past.log.start_sync(SERVER)
    past.disk = MemoryDisk(past.disk.files())
    past.begin_life()
    past.append(4)
    past.sync()
    past.append(3)
    past.sync()


PASTS = [
    grown,
    not_quite_synced,
    truncated,
    truncated_in_a_file,
    truncated_last,
    truncated_and_not_synced,
    removed_and_returned,
    rolled_after_a_truncation,
    in_a_second_life,
]


def end_of(found: list[bytes]) -> int:
    """The last index of these records."""
    return Batch.decode(found[-1]).last_index if found else 0


def judge(past: Past, damaged: dict[str, bytes], proven_index: int) -> bool:
    """Open a damaged log; whether it is refused. Every other exception is a failure by itself."""
    disk = MemoryDisk(damaged)
    try:
        log = Log(disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
        found: list[bytes] | None = records(log)
    except (LogCorruptError, LogFormatError):
        found = None
    if found is None:
        assert disk.files() == damaged, "what is refused is left as it is"
        return True
    assert end_of(found) >= proven_index, "what was provably durable is not dropped in silence"
    shared = [number for number, record in enumerate(past.states[-1]) if record in found]
    assert len(shared) >= proven_index, "nor is anything else in its place"
    assert any(found == state[: len(found)] for state in past.states), "this was the log once"
    return False


def flips(content: bytes) -> Iterator[bytes]:
    """Every bit turned over, and every byte zero, as far as anything was written."""
    used = min(len(content), len(content.rstrip(b"\0")) + BEHIND_BYTES)
    for at in range(used):
        for mask in (*(1 << bit for bit in range(8)), content[at]):
            if mask:
                yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def sweep_flips(past: Past) -> tuple[int, int]:
    """Damage one byte after the other; returns how many were tried, and how many refused."""
    files = past.files()
    tried = refused = 0
    for name, content in files.items():
        for damaged in flips(content):
            tried += 1
            refused += judge(past, files | {name: damaged}, past.proven_index)
    return tried, refused


def made(live: Callable[[Past], None]) -> Past:
    """A log that has gone through this."""
    past = Past()
    live(past)
    return past


@pytest.mark.parametrize("live", PASTS)
def test_every_bit_of_a_log(live: Callable[[Past], None]) -> None:
    """A flip is refused, or costs nothing that the disk can prove, and brings nothing back."""
    past = made(live)
    assert not judge(past, past.files(), end_of(past.states[-1])), "undamaged, it is read whole"
    tried, refused = sweep_flips(past)
    assert refused > tried // 20


@pytest.mark.parametrize("live", PASTS)
def test_every_length_of_every_file(live: Callable[[Past], None]) -> None:
    """A file that became shorter, or is gone, is refused, or what is lost stood in it alone."""
    past = made(live)
    files = past.files()
    newest = max(name for name, content in files.items() if content.strip(b"\0"))
    outside = [
        record
        for record in past.states[-1]
        if any(record in content for name, content in files.items() if name != newest)
    ]
    for name, content in files.items():
        proven = min(past.proven_index, end_of(outside)) if name == newest else past.proven_index
        judge(past, {other: files[other] for other in files if other != name}, proven)
        for length in range(min(len(content), len(content.rstrip(b"\0")) + BEHIND_BYTES)):
            judge(past, files | {name: content[:length]}, proven)


def test_every_bit_while_the_log_is_read() -> None:
    """What is read from the disk later is right to the last bit, or refused."""
    past = made(grown)
    everything = records(past.log)
    past.log.close()
    log = Log(past.disk, segment_bytes=SEGMENT_BYTES, cache_bytes=0)
    refused = 0
    for name, content in past.disk.segments().items():
        visible = past.disk.visible[name].visible
        for damaged in flips(content):
            visible[:] = damaged
            try:
                assert records(log) == everything
            except LogCorruptError:
                refused += 1
        visible[:] = content
    assert refused > 1_000
    assert records(log) == everything


def test_a_lost_header_that_nobody_misses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With that judgement left out, batches that were truncated return, and the sweep sees it."""
    monkeypatch.setattr(recovery, "_refuse_lost_headers", lambda *_: None)
    for live in (truncated, truncated_in_a_file, removed_and_returned, rolled_after_a_truncation):
        with pytest.raises(AssertionError, match=r"silence|in its place"):
            sweep_flips(made(live))


def test_claims_that_nobody_reads_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no refusal at all, damage drops what was durable, and the sweep sees it."""
    monkeypatch.setattr(recovery, "_refuse_damage", lambda *_: None)
    with pytest.raises(AssertionError, match="silence"):
        sweep_flips(made(grown))
