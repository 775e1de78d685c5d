"""Finds a bit on a disk that may be flipped: one that the server must notice and refuse.

The storage can tell damage from a crash in all but the last records, of which nothing on the disk
says that they were ever synced. A bit there would make a server forget what it had acknowledged,
without anybody's fault; so it is left alone here, and the tests of the storage know that limit.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_file import Content
from copycat.storage.ballot import Ballot
from copycat.storage.errors import StorageError
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.recovery import recover


@dataclass(frozen=True, slots=True)
class Damage:
    """One bit of one file, wherever the file goes."""

    file: str
    offset: int
    mask: int
    content: Content

    def flip(self) -> None:
        """Turn it over; done twice, nothing has happened."""
        self.content.flip(self.offset, self.mask)


def find_damage(disk: SimulatedDisk, file: float, byte: float, bit: int) -> Damage | None:
    """The damage at a place, if a server would refuse to start with it, whatever happens before.

    Args:
        disk: with files that can be read now.
        file: which of them, from 0 for the first to less than 1 for the last.
        byte: which of its bytes, from 0 to less than 1; zeros at the end do not count.
        bit: which of it, from 0 to 7.
    """
    durable = disk.image()
    if disk.read_error is not None or not durable:
        return None
    name = sorted(durable)[int(file * len(durable))]
    length = len(durable[name].rstrip(b"\0"))
    if length == 0 or name not in disk.names():
        return None
    offset, mask = int(byte * length), 1 << bit
    visible = {each: disk.load(each) or b"" for each in disk.names()}
    # What is visible now and what would survive a crash: the damage must show in both.
    if visible[name][offset] != durable[name][offset] or any(
        _is_refused(image) or not _is_refused(_flipped(image, name, offset, mask))
        for image in (durable, visible)
    ):
        return None
    return Damage(name, offset, mask, disk.content(name))


def _flipped(image: Mapping[str, bytes], name: str, offset: int, mask: int) -> dict[str, bytes]:
    content = bytearray(image[name])
    content[offset] ^= mask
    return {**image, name: bytes(content)}


def _is_refused(image: Mapping[str, bytes]) -> bool:
    """Whether a server refuses these files; one that takes them changes nothing while it looks."""
    disk = SimulatedDisk(random.Random(0))
    disk.restore(dict(image))
    try:
        Ballot(disk)
        ServerIdentity(disk)
        ClusterConfiguration(disk)
        recover(disk)
    except StorageError:
        return True
    return False
