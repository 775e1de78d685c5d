"""The log: batches by index, on disk in segments, recent ones in memory too.

Appending and truncating take effect at once in memory; they are durable when a sync that was
started after them has ended, which the log learns by ``handle``.

Invariants: ``durable <= written``; ``synced_index <= last_index``; a place on the disk is written
with one content; a segment is removed only when a later one that overrules it is durable and named by
the floor, so that its return after a crash changes nothing.

How segments are laid out is in ``segment``, what makes them durable in ``syncs``, what is read back
after a crash in ``recovery``, what tells that something is missing in ``floor``.
Source: Raft dissertation §3.5, §3.8.
"""

import itertools
from collections.abc import Iterator

from copycat.actors.address import NodeAddress
from copycat.actors.environment import Disk, DiskDone
from copycat.storage.batch import Batch
from copycat.storage.errors import DiskFailedError
from copycat.storage.floor import Floor
from copycat.storage.recovery import OFFSET_BITS, recover
from copycat.storage.segment import RECORDS_OFFSET, Segment, envelope_bytes, segment_name
from copycat.storage.syncs import Syncs
from copycat.types import Index, Term

SEGMENT_BYTES = 8 << 20
CACHE_BYTES = 16 << 20
LARGE_BATCH_BYTES = 128 << 10  # on average of a segment; see _has_small_batches
_READERS_MAX = 8  # segments kept open only because somebody reads far behind
_READ_BYTES = 64 << 10  # in one piece, for who reads on
_READ_COUNT = 1024  # batches in such a piece
_READ_ONE_BYTES = 1 << 10  # for the last of them; if it is larger, it takes a second read
_OFFSET_MASK = (1 << OFFSET_BITS) - 1


class Log:
    """The replicated log of one server, as far as it has it.

    Every error of the disk is a ``DiskFailedError`` after which the log must not be used: nothing
    that was durable is lost, and the server stops.
    """

    def __init__(
        self, disk: Disk, *, segment_bytes: int = SEGMENT_BYTES, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Recover the log from the disk, or begin an empty one.

        Args:
            disk: the server's own directory.
            segment_bytes: the size of a new segment; a larger record gets one of its own.
            cache_bytes: how many bytes of the latest records are kept in memory.

        Raises:
            LogCorruptError: something that was durable cannot be read any more.
            AmnesiaError: a segment that was in use is not there any more.
            FloorCorruptError: the floor cannot be read.
            LogFormatError: the log was written by a version that is not known here.
            DiskFailedError: the disk cannot be read or written.
        """
        assert RECORDS_OFFSET < segment_bytes <= _OFFSET_MASK, "an offset fits into a position"
        found = recover(disk)
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._cache_bytes_max = cache_bytes
        self._index = found.index
        self._segments = found.segments
        self._tail = next(reversed(found.segments.values())) if found.segments else None
        self._readers: list[Segment] = []
        self._number_max = found.number_max
        self._last_log_time_us = found.last_log_time_us
        # The cache holds every batch from this ordinal on, by base index.
        self._cached_from = len(found.index)
        self._cached: dict[int, Batch] = {}
        self._cached_bytes = 0

        unsynced = self._recovered_unsynced(found.durable_index)
        self._syncs = Syncs(
            disk, found.index, found.floor, found.durable_index, unsynced, found.dead
        )
        self._allocation_token = 0  # of the allocation under way; 0 for none
        self._spare_number = 0  # of the segment allocated ahead, or being so; 0 for none
        if self._tail is not None and not found.resumable:
            self._roll()

    def _recovered_unsynced(self, synced_index: Index) -> list[Segment]:
        """The recovered segments that may hold anything which is visible but not durable, open.

        All of that is written again, or a sync that failed before the start would never be made
        good.
        """
        unsynced = []
        end = self._index.last_index
        for segment in reversed(self._segments.values()):
            if segment is self._tail or end > synced_index:
                if segment.first_index > synced_index:
                    segment.write_again(0)
                elif end > synced_index:
                    ordinal = self._index.ordinal_of(synced_index + 1)
                    segment.write_again(self._index.position(ordinal) & _OFFSET_MASK)
                unsynced.append(segment)
            end = segment.first_index - 1
        return unsynced[::-1]

    @property
    def last_index(self) -> int:
        """The index of the last operation; 0 when the log is empty."""
        return self._index.last_index

    @property
    def last_term(self) -> int:
        """The term of the last batch; 0 when the log is empty."""
        return self._index.last_term

    @property
    def last_log_time_us(self) -> int:
        """The log time of the last batch in microseconds; 0 when the log is empty."""
        return self._last_log_time_us

    @property
    def bytes_used(self) -> int:
        """What the log takes on the disk, what is allocated ahead included."""
        segments = [*self._segments.values(), *self._syncs.every_dead()]
        spare = self._segment_bytes if self._spare_number else 0
        return spare + sum(segment.size_bytes for segment in segments)

    @property
    def written(self) -> int:
        """How often the log has changed: appends and truncations, and 1 for what was recovered."""
        return self._syncs.written

    @property
    def durable(self) -> int:
        """The highest ``written`` that is known to survive a crash."""
        return self._syncs.durable

    @property
    def synced_index(self) -> int:
        """The last index of the present log that is known to survive a crash."""
        return self._syncs.synced_index

    @property
    def floor(self) -> Floor:
        """What the disk holds at least; the log alone writes it."""
        return self._syncs.floor

    def append(self, batch: Batch) -> None:
        """Add a batch at the end, visible at once and durable after the next sync.

        Raises:
            DiskFailedError: it is not, and will not be, in the log as far as anybody may tell.
        """
        assert batch.base_index == self._index.last_index + 1, "batches follow each other"
        assert batch.term >= self._index.last_term, "terms do not fall"
        tail = self._tail
        if tail is None or (
            tail.end + envelope_bytes(batch.record) > self._segment_bytes
            and tail.end > RECORDS_OFFSET
        ):
            tail = self._roll()
        syncs = self._syncs
        offset = tail.append(batch.record, syncs.synced_index)
        if not syncs.unsynced or syncs.unsynced[-1] is not tail:
            syncs.unsynced.append(tail)
        self._index.append(batch.last_index, batch.term, tail.number << OFFSET_BITS | offset)
        self._last_log_time_us = batch.log_time_us
        self._cached[batch.base_index] = batch
        self._cached_bytes += len(batch.record)
        if self._cached_bytes > self._cache_bytes_max:
            self._shrink_cache()
        syncs.written += 1

    def truncate(self, last_index: int) -> None:
        """Drop every batch after ``last_index``; when there is none, nothing changes.

        It is durable after the next sync, whether or not anything is appended before it.

        Args:
            last_index: 0 or the end of a batch.

        Raises:
            DiskFailedError: after a crash the batches may or may not be there.
        """
        assert 0 <= last_index <= self.last_index, "truncation drops what is there"
        assert last_index == self._index.end_at_or_before(last_index), "whole batches are kept"
        if last_index == self.last_index:
            return
        self._drop_from_cache(last_index)
        self._index.truncate(last_index)
        self._syncs.truncated(last_index)
        # An overruling segment truncates; no place of the disk is written twice.
        self._roll()
        self._last_log_time_us = self.batch_at(last_index).log_time_us if last_index else 0
        self._syncs.written += 1

    def _roll(self) -> Segment:
        """Begin a new segment with the next index; earlier ones from that index on are dead."""
        first_index = self._index.last_index + 1
        syncs = self._syncs
        while self._segments:
            number, segment = self._segments.popitem()
            if segment.first_index < first_index:
                self._segments[number] = segment
                break
            syncs.dead.append(segment)
        syncs.unsynced = [old for old in syncs.unsynced if old.number in self._segments]
        if self._spare_number and not self._allocation_token:
            number, allocated_bytes = self._spare_number, self._segment_bytes
            self._spare_number = 0
        else:
            self._number_max += 1
            number, allocated_bytes = self._number_max, 0
        tail = Segment(self._disk, number)
        continues = next(reversed(self._segments)) if self._segments else 0
        tail.begin(continues, first_index, syncs.synced_index, allocated_bytes)
        self._segments[number] = tail
        syncs.unsynced.append(tail)
        self._tail = tail
        return tail

    def term_at(self, index: int) -> int:
        """The term at an index that is in the log, or 0 for index 0."""
        return self._index.term_at(index)

    def end_of_term(self, term: int) -> int:
        """The end of the last batch whose term is not above this one; 0 when there is none."""
        return self._index.end_of_term(term)

    def base_of(self, index: int) -> int:
        """The first index of the batch that contains ``index``."""
        return self._index.base_of(index)

    def end_of(self, index: int) -> int:
        """The last index of the batch that contains ``index``."""
        return self._index.end_of(index)

    def end_at_or_before(self, index: int) -> int:
        """The largest end of a batch that is not above ``index``; 0 when there is none."""
        return self._index.end_at_or_before(index)

    def batch_at(self, index: int) -> Batch:
        """The batch that contains ``index``.

        Raises:
            LogCorruptError: it stands on the disk only, and damaged.
            DiskFailedError: it cannot be read.
        """
        return self._batch(self._index.ordinal_of(index))

    def records_from(self, index: int, bytes_max: int, count_max: int) -> tuple[list[bytes], int]:
        """The records of the batches from the one with base ``index`` on, and where they end.

        It takes at most one read of the disk. No batch is decoded, but every byte is checked.

        Args:
            index: the base of a batch.
            bytes_max: how many bytes they may have together, envelopes included where they stand on
                the disk only; the first is returned in any case.
            count_max: how many there may be.

        Raises:
            LogCorruptError: one of them stands on the disk only, and damaged.
            DiskFailedError: they cannot be read.
        """
        ordinal = self._index.ordinal_of(index)
        assert self._index.base(ordinal) == index, "batches are whole"
        if ordinal < self._cached_from:
            records = self._stored(ordinal, bytes_max, count_max)
        else:
            records = []
            size_bytes = 0
            for base in self._index.bases(ordinal, count_max):
                record = self._cached[base].record
                size_bytes += len(record)
                if records and size_bytes > bytes_max:
                    break
                records.append(record)
        return records, self._index.end(ordinal + len(records) - 1)

    def read_ahead(self, index: int, last_index: int) -> Iterator[Batch]:
        """The batches from the one with base ``index`` to the one that ends with ``last_index``.

        What stands on the disk only is read in large pieces, each when it is needed: a batch of one
        command takes a few microseconds. The iterator may be kept while the log grows, as long as
        nothing up to ``last_index`` is truncated; a committed batch never is.

        Raises:
            LogCorruptError: the next one stands on the disk only, and damaged.
            DiskFailedError: it cannot be read.
        """
        while index <= last_index:
            ordinal = self._index.ordinal_of(index)
            if ordinal >= self._cached_from:
                batch = self._cached[index]
                index = batch.last_index + 1
                yield batch
                continue
            for record in self._stored(ordinal, _READ_BYTES, _READ_COUNT):
                if index > last_index:
                    return
                batch = Batch.decode(record, is_whole=True)
                index = batch.last_index + 1
                yield batch

    def _batch(self, ordinal: int) -> Batch:
        if ordinal >= self._cached_from:
            return self._cached[self._index.base(ordinal)]
        return Batch.decode(self._stored(ordinal, _READ_ONE_BYTES, 1)[0], is_whole=True)

    def _stored(self, ordinal: int, bytes_max: int, count_max: int) -> list[bytes]:
        """Records from the disk, in one read: of one segment, and not of batches in the cache."""
        positions = self._index.positions(ordinal, min(count_max, self._cached_from - ordinal))
        number = positions[0] >> OFFSET_BITS
        segment = self._segments[number]
        if not segment.is_open:
            self._readers = [reader for reader in self._readers if reader.is_open]
            if len(self._readers) == _READERS_MAX:
                self._readers.pop(0).close()
            self._readers.append(segment)
        offsets = [place & _OFFSET_MASK for place in positions if place >> OFFSET_BITS == number]
        return segment.records(offsets, min(bytes_max, offsets[-1] - offsets[0] + _READ_ONE_BYTES))

    def _shrink_cache(self) -> None:
        while self._cached_bytes > self._cache_bytes_max and self._cached:
            batch = self._cached.pop(self._index.base(self._cached_from))
            self._cached_bytes -= len(batch.record)
            self._cached_from += 1

    def _drop_from_cache(self, last_index: int) -> None:
        """Forget the cached batches that are about to be truncated."""
        first_dropped = self._index.ordinal_of(last_index + 1)
        for ordinal in range(max(first_dropped, self._cached_from), len(self._index)):
            batch = self._cached.pop(self._index.base(ordinal))
            self._cached_bytes -= len(batch.record)
        self._cached_from = min(self._cached_from, first_dropped)

    def owns(self, token: int) -> bool:
        """Whether a disk operation with this token was the log's."""
        return self._syncs.owns(token)

    def start_sync(self, reply_to: NodeAddress) -> None:
        """Make all that was written so far durable, if it is not and no sync is under way.

        It ends as a ``DiskDone`` to ``reply_to``, which must be handed to ``handle``. What is
        written meanwhile is synced after that without being asked again. May also make the floor,
        and allocate the next segment ahead, which ends in the same way.

        Raises:
            DiskFailedError: the disk refused.
        """
        self._syncs.start(reply_to)
        tail = self._tail
        if not self._spare_number and (
            tail is None or (tail.end * 2 >= self._segment_bytes and self._has_small_batches(tail))
        ):
            self._number_max += 1
            self._spare_number = self._number_max
            self._allocation_token = self._syncs.take_token()
            name = segment_name(self._spare_number)
            try:
                self._disk.allocate(name, self._segment_bytes, reply_to, self._allocation_token)
            except OSError as error:
                raise DiskFailedError(f"allocate file {name}", error) from error

    def _has_small_batches(self, tail: Segment) -> bool:
        """Whether syncs gain from zeros that were written before: what they save is the same for
        each, whatever its size, and large batches would only be written twice."""
        if tail.first_index > self._index.last_index:
            return True
        batches = len(self._index) - self._index.ordinal_of(tail.first_index)
        return tail.end < batches * LARGE_BATCH_BYTES

    def begin_life(self, ballot: tuple[Term, int]) -> bool:
        """Have the floor say, anew and in this life, what was found at the start: for a server that
        is going to begin a life, so that log and floor of an earlier one are known as such.

        Args:
            ballot: term and vote, durable.

        Returns:
            Whether it is durable; until then this has to be asked for whenever an operation of the
            log has ended.

        Raises:
            DiskFailedError: the disk refused.
        """
        return self._syncs.begin_life(ballot)

    def raise_floor(self, commit_index: Index, ballot: tuple[Term, int]) -> bool:
        """Have the floor say what is durable now, if it says less: for a server that is idle, so
        that damage to its newest records is noticed, of which no later record speaks.

        Args:
            commit_index: how far the log is committed.
            ballot: term and vote, durable.

        Returns:
            False when the floor is being written, so that this has to be asked for again.

        Raises:
            DiskFailedError: the disk refused.
        """
        self._syncs.commit_index = commit_index
        self._syncs.ballot = ballot
        return self._syncs.raise_floor()

    def handle(self, done: DiskDone) -> None:
        """Take note that a disk operation of the log has ended.

        Raises:
            DiskFailedError: it failed, or the next one did; nothing may be acknowledged any more.
        """
        assert self.owns(done.token), "completions go to whom they belong"
        if done.token == self._allocation_token:
            self._allocated(done.error)
        else:
            self._syncs.handle(done)

    def _allocated(self, error: str | None) -> None:
        if error is not None:
            raise DiskFailedError(f"allocate file {segment_name(self._spare_number)}", error)
        self._allocation_token = 0
        if self._tail is not None and self._tail.number > self._spare_number:
            # Came too late: the log has rolled without it, and later segments have higher numbers.
            self._syncs.remove(segment_name(self._spare_number))
            self._spare_number = 0

    def close(self) -> None:
        """Give all files up. What was not synced is undecided."""
        for segment in [*self._segments.values(), *self._syncs.every_dead()]:
            segment.close()
        self._syncs.floor.close()

    def check(self) -> None:
        """Assert every invariant of the log; takes time linear in the number of batches."""
        self._index.check()
        self._syncs.check()
        assert self._cached_from + len(self._cached) == len(self._index), "the cache is a suffix"
        cached_bytes = sum(len(batch.record) for batch in self._cached.values())
        assert self._cached_bytes == cached_bytes, "cached bytes are counted"
        segments = list(self._segments.values())
        for before, after in itertools.pairwise(segments):
            assert before.number < after.number, "segments are numbered in order"
            assert before.first_index < after.first_index, "a later segment begins later"
        assert self._tail is (segments[-1] if segments else None), "the tail is the last segment"
