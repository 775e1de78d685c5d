"""Finds places on a disk that may be damaged so that the server must notice it and refuse.

The storage can tell damage from a crash in all but the last records, of which nothing on the disk
says that they were ever synced. Damage there would make a server forget what it had acknowledged,
without anybody's fault; so it is left alone here, and the tests of the storage know that limit.

Which damage must be noticed is not left to the code that has to notice it: that code is asked only
how it reads files that are whole. What it refuses beyond that may be damaged, too.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_file import PAGE_BYTES, Content
from copycat.storage.amnesia import refuse_amnesia
from copycat.storage.ballot import Ballot
from copycat.storage.errors import StorageError
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.lives import Lives
from copycat.storage.recovery import recover
from copycat.storage.segment import Segment

SMALL_FILES = (Ballot.NAME, ServerIdentity.NAME, ClusterConfiguration.NAME, Lives.NAME)


@dataclass(frozen=True, slots=True)
class Damage:
    """Some bytes of one file that become others, wherever the file goes.

    Attributes:
        file, offset: where.
        before, after: what is there, and what will be.
        content: the file.
        is_noticed: whether a server refuses to start with it, as it must.
    """

    file: str
    offset: int
    before: bytes
    after: bytes
    content: Content
    is_noticed: bool

    def do(self) -> None:
        """Damage the file."""
        done = self.content.exchange(self.offset, self.before, self.after)
        assert done, "what is there was looked at just before"

    def undo(self) -> bool:
        """Bring back what was there; False when something else was written meanwhile."""
        return self.content.exchange(self.offset, self.after, self.before)


def find_flip(disk: SimulatedDisk, file: float, byte: float, bit: int) -> Damage | None:
    """A bit that turns over, if a server would refuse to start with it, whatever happens before.

    Args:
        disk: with files that can be read now.
        file: which of them, from 0 for the first to less than 1 for the last.
        byte: which of its bytes, from 0 to less than 1; zeros at the end do not count.
        bit: which of it, from 0 to 7.
    """
    name = _file(disk, file)
    if name is None:
        return None
    content = _written(disk, name)
    offset = int(byte * len(content))
    return _damage(disk, name, offset, bytes([content[offset] ^ 1 << bit]))


def find_misdirected(
    disk: SimulatedDisk, file: float, byte: float, source_file: float, source_byte: float
) -> Damage | None:
    """A page that was written to the place of another, under the same condition.

    Args:
        disk: with files that can be read now.
        file, byte: where it went, as above; the place of the page that has this byte.
        source_file, source_byte: where it should have gone, and where it is, too.
    """
    name, source = _file(disk, file), _file(disk, source_file)
    if name is None or source is None:
        return None
    page = _page(_written(disk, source), source_byte)[1]
    offset, before = _page(_written(disk, name), byte)
    return _damage(disk, name, offset, page[: len(before)])


def _file(disk: SimulatedDisk, place: float) -> str | None:
    """One of the files that have something in them."""
    if disk.read_error is not None:
        return None
    names = [name for name in sorted(disk.image()) if name in disk.names()]
    names = [name for name in names if _written(disk, name)]
    return names[int(place * len(names))] if names else None


def _written(disk: SimulatedDisk, name: str) -> bytes:
    return disk.image()[name].rstrip(b"\0")


def _page(content: bytes, place: float) -> tuple[int, bytes]:
    """The page of a byte: where it begins, and what of it is written."""
    offset = int(place * len(content)) // PAGE_BYTES * PAGE_BYTES
    return offset, content[offset : offset + PAGE_BYTES]


def _damage(disk: SimulatedDisk, name: str, offset: int, after: bytes) -> Damage | None:
    """The damage, if it is one, and will be noticed."""
    durable = disk.image()
    visible = {each: disk.load(each) or b"" for each in disk.names()}
    before = durable[name][offset : offset + len(after)]
    # What is visible now and what would survive a crash: the damage must show in both.
    if visible[name][offset : offset + len(after)] != before or before == after:
        return None
    images = (durable, visible)
    if name not in SMALL_FILES and any(is_refused(image) for image in images):
        return None
    is_noticed = all(is_refused(_damaged(image, name, offset, after)) for image in images)
    if not is_noticed and not all(_is_contradicted(image, name, offset, after) for image in images):
        return None
    return Damage(name, offset, before, after, disk.content(name), is_noticed)


def _damaged(image: Mapping[str, bytes], name: str, offset: int, after: bytes) -> dict[str, bytes]:
    content = bytearray(image[name])
    content[offset : offset + len(after)] = after
    return {**image, name: bytes(content)}


def is_refused(image: Mapping[str, bytes]) -> bool:
    """Whether a server refuses these files; one that takes them changes nothing while it looks."""
    disk = disk_with(image)
    try:
        found = recover(disk)
        refuse_amnesia(
            ServerIdentity(disk),
            ClusterConfiguration(disk),
            Ballot(disk),
            found.floor,
            Lives(disk),
            found.index.last_term,
        )
    except StorageError:
        return True
    return False


def is_contradicted_by_log(image: Mapping[str, bytes]) -> bool:
    """Whether there is a record of a term of which the ballot knows nothing, or the floor a vote."""
    disk = disk_with(image)
    ballot, found = Ballot(disk), recover(disk)
    promised = found.floor.promise
    return ballot.term < max(found.index.last_term, promised.term) or (
        ballot.term == promised.term and promised.voted_for not in (0, ballot.voted_for)
    )


def _is_contradicted(image: Mapping[str, bytes], name: str, offset: int, after: bytes) -> bool:
    """Whether damage to files that are whole contradicts what is left of them.

    Of the small files every byte is checked. Of the log it does when a batch is hit of which
    something behind it, whole itself, says that it was durable.
    """
    if name in SMALL_FILES:
        return True
    pairs = zip(image[name][offset:], after, strict=False)
    hit = [offset + place for place, (old, new) in enumerate(pairs) if old != new]
    lost = 0  # the first index that is
    for file, begin, end, base_index, durable_index in _claims(image):
        if file == name and any(begin <= place < end for place in hit):
            lost = lost or base_index
        elif 0 < lost <= durable_index:
            return True
    return False


def _claims(image: Mapping[str, bytes]) -> Iterator[tuple[str, int, int, int, int]]:
    """What says how far the log was durable, in its order: headers of segments, and batches.

    Yields:
        The file, from where to where it stands there, the index of the batch or 0, and the claim.
    """
    disk = disk_with(image)
    found = recover(disk)
    if not found.segments:
        return  # nothing was written yet
    ends = [segment.first_index - 1 for segment in found.segments.values()][1:]
    for number, end_index in zip(found.segments, (*ends, found.index.last_index), strict=True):
        segment = Segment(disk, number)
        assert segment.recover_header(), "it is of the log"
        yield segment.name, 0, segment.end, 0, segment.durable_index
        content = segment.load()
        index = segment.first_index
        while index <= end_index:
            begin = segment.end
            read = segment.recover_batch(content, index)
            assert read is not None, "it is of the log"
            batch, durable_index = read
            end = content.index(batch.record, begin) + len(batch.record)
            yield segment.name, begin, end, index, durable_index
            index = batch.last_index + 1


def disk_with(image: Mapping[str, bytes]) -> SimulatedDisk:
    """A disk with these files, and nothing else."""
    disk = SimulatedDisk(random.Random(0))
    disk.restore(dict(image))
    return disk
