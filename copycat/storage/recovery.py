"""Finds the log on the disk after a start, whatever a crash has left of it. Changes nothing.

Which batches are the log: of two segments the later one overrules the earlier from its first index
on, provided that the segment it continues is there; what is left is read forward, and the log ends
at the first batch that is not there whole. A crash may have lost any of the pages that were not synced, in any order, so a missing batch alone
proves nothing. But every envelope and header says how far the log was durable when it was
written. If any of them behind the end of the log says that the next index was durable, the log was
not cut by a crash but damaged, and that is refused with file and offset.

That judgement is sound because nothing is written twice: a claim in the segment of the missing
batch or in a later one speaks of that very batch. Claims in earlier segments do not count, they
may speak of batches that were truncated. For the same reason a segment without a header that claims
one of its own batches had a durable header once.

The floor says which segment was begun last, how far the log reached when the server was idle or began
that segment, and where it ended when the server was started, unless it was truncated since. What cannot be told from a crash is damage to what was synced last of all, before
the floor was raised to it or another envelope was written. Nothing on this disk contradicts it.
"""

from dataclasses import dataclass, field

from copycat.actors.environment import Disk
from copycat.storage.batch_index import BatchIndex
from copycat.storage.errors import AmnesiaError, LogCorruptError
from copycat.storage.floor import Floor
from copycat.storage.segment import Segment, segment_name, segment_numbers

OFFSET_BITS = 32
"""A position in the index is the number of a segment, shifted by this, and an offset in it."""


@dataclass(slots=True)
class RecoveredLog:
    """What was found.

    Attributes:
        floor: what the disk holds at least.
        index: every batch of the log.
        segments: the segments it stands in, by number, rising.
        dead: segments that hold nothing of it; they go once a later segment is durable.
        number_max: the highest number any segment has.
        durable_index: how far it is known to be durable; the rest is there but may be unsynced.
        last_log_time_us: the log time of the last batch; 0 when there is none.
        resumable: whether the last segment may be continued: nothing stands behind its end.
    """

    floor: Floor
    index: BatchIndex = field(default_factory=BatchIndex)
    segments: dict[int, Segment] = field(default_factory=dict)
    dead: list[Segment] = field(default_factory=list)
    number_max: int = 0
    durable_index: int = 0
    last_log_time_us: int = 0
    resumable: bool = False


def recover(disk: Disk) -> RecoveredLog:
    """Read the whole log.

    Raises:
        LogCorruptError: a batch that was durable is missing or damaged.
        AmnesiaError: a segment that was in use is missing.
        FloorCorruptError: the floor cannot be read.
        LogFormatError: it was written by a version that is not known here.
        DiskFailedError: the disk cannot be read.
    """
    found = RecoveredLog(Floor(disk))
    every = [Segment(disk, number) for number in segment_numbers(disk)]
    headed = [segment for segment in every if segment.recover_header()]
    content = b""
    current = _current(headed)
    overruled_from = [*(segment.first_index for segment in current[1:]), None]
    for segment, limit in zip(current, overruled_from, strict=False):
        if segment.first_index != found.index.last_index + 1:
            break
        content = segment.load()
        _read_forward(found, segment, content, limit)
        found.segments[segment.number] = segment
    _refuse_damage(found, every, content)
    _refuse_amnesia(found, headed)
    found.durable_index = max(found.durable_index, found.floor.promise.last_index)
    for segment in every:
        segment.close()
        if segment.number not in found.segments:
            found.dead.append(segment)
    if every:
        found.number_max = every[-1].number
    if found.segments:
        last = next(reversed(found.segments.values()))
        found.resumable = last is headed[-1] and _is_clear(last, content)
    return found


def _current(headed: list[Segment]) -> list[Segment]:
    """The segments that no later one overrules as a whole; their first indexes rise.

    Without the segment that it continues, a segment says nothing: after two truncations whose
    headers were not synced, the later header may be there and the earlier one lost.
    """
    current: list[Segment] = []
    for segment in headed:
        kept = len(current)
        while kept and current[kept - 1].first_index >= segment.first_index:
            kept -= 1
        if segment.continues == (current[kept - 1].number if kept else 0):
            current[kept:] = [segment]
    return current


def _read_forward(
    found: RecoveredLog, segment: Segment, content: bytes, overruled_from: int | None
) -> None:
    """Take over the batches of one segment up to the index from which it is overruled."""
    index = found.index
    found.durable_index = max(found.durable_index, segment.durable_index)
    while True:
        offset = segment.end
        read = segment.recover_batch(content, index.last_index + 1)
        if read is None:
            return
        batch, durable_index = read
        overruled = overruled_from is not None and batch.last_index >= overruled_from
        if batch.term < index.last_term or overruled:
            segment.end = offset
            return
        index.append(batch.last_index, batch.term, segment.number << OFFSET_BITS | offset)
        found.last_log_time_us = batch.log_time_us
        found.durable_index = max(found.durable_index, durable_index)


def _refuse_damage(found: RecoveredLog, every: list[Segment], content: bytes) -> None:
    """Raise if anything behind the end of the log claims that it was durable beyond that end."""
    last = next(reversed(found.segments.values())) if found.segments else None
    later = [segment for segment in every if last is None or segment.number > last.number]
    claims = []
    if last:
        highest, offset = last.durable_index_claimed(content, last.end)
        claims.append((highest, last, offset))
    for segment in later:
        highest, offset = segment.durable_index_claimed(segment.load(), 0)
        claims.append((segment.durable_index, segment, 0))
        claims.append((highest, segment, offset))
    _refuse_lost_headers(later, {segment.number for segment in every if segment.first_index})
    for durable_index, witness, offset in claims:
        if durable_index <= found.index.last_index:
            continue
        damaged, damaged_at = last or every[0], last.end if last else 0
        # A segment that reads well to its end, before one without a header, is not the damaged one.
        if last and later and later[0].first_index == 0 and _is_clear(last, content):
            damaged, damaged_at = later[0], 0
        raise LogCorruptError(
            damaged.name,
            damaged_at,
            f"index {found.index.last_index + 1} cannot be read, but byte {offset} of "
            f"{witness.name} says that {durable_index} was durable",
        )


def _refuse_lost_headers(later: list[Segment], headed: set[int]) -> None:
    """Raise if a header is missing of which it is claimed that it was durable.

    That is so when a batch behind it was, by a claim in its own segment or in one that continues
    it. Without this, the batches that it overrules would return in their place.
    """
    missing: dict[int, tuple[str, int]] = {}  # the file, and the lowest index known to be in it
    for segment in later:
        content = segment.load()
        if segment.first_index == 0:
            missing[segment.number] = segment.name, segment.lowest_index(content)
        elif segment.continues in missing or (
            segment.continues and segment.continues not in headed
        ):
            unknown = segment_name(segment.continues), 0
            name, lowest = missing.get(segment.continues, unknown)
            before = segment.first_index - 1
            missing[segment.number] = name, min(lowest or before, before)
        name, lowest = missing.get(segment.number, ("", 0))
        durable_index = max(segment.durable_index, segment.durable_index_claimed(content, 0)[0])
        if 0 < lowest <= durable_index:
            raise LogCorruptError(
                name,
                0,
                f"its header cannot be read, but {segment.name} says that {durable_index} was"
                f" durable, and {lowest} stands behind it",
            )


def _refuse_amnesia(found: RecoveredLog, headed: list[Segment]) -> None:
    """Raise if the log has less than the floor says.

    All that was before the segment which the floor names was durable when it was named. So that
    segment is in the log, unless a later one has truncated it as a whole.
    """
    number, last_index = found.floor.promise[:2]
    known = {segment.number: segment for segment in headed}
    witness = "file floor"
    if number and not _is_overruled(found, number, known):
        while number and number in known:
            last_index = max(last_index, known[number].first_index - 1)
            number, witness = known[number].continues, f"file {known[number].name}"
        if number:
            raise AmnesiaError(
                segment_name(number),
                f"is missing or has lost its beginning, but {witness} says that it was in use",
            )
    if not _is_truncated(found):
        last_index = max(last_index, found.floor.promise.start_index)
    if found.index.last_index < last_index:
        last = next(reversed(found.segments.values()), None)
        raise LogCorruptError(
            last.name if last else segment_name(1),
            last.end if last else 0,
            f"index {found.index.last_index + 1} cannot be read, but by file floor {last_index} was"
            " durable",
        )


def _is_overruled(found: RecoveredLog, number: int, known: dict[int, Segment]) -> bool:
    """Whether a segment is in the log, or a later one has truncated it as a whole."""
    if number in found.segments:
        return True
    return number in known and any(
        later > number and segment.first_index <= known[number].first_index
        for later, segment in found.segments.items()
    )


def _is_truncated(found: RecoveredLog) -> bool:
    """Whether a segment that was begun in the life of the floor overrules what was there before."""
    start = found.floor.promise
    return any(
        number > start.start_segment and segment.first_index <= start.start_index
        for number, segment in found.segments.items()
    )


def _is_clear(segment: Segment, content: bytes) -> bool:
    """Whether nothing was ever written behind the end of a segment."""
    rest = content[segment.end :]
    return rest == bytes(len(rest))
