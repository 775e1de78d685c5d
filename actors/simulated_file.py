"""Files of a simulated disk: what is visible in them, and what of it would survive a crash.

Invariant: a page (512 bytes) is *dirty* exactly when its visible content was not saved since it
was written, unless a failed sync has made the disk believe that it was.
"""

import errno
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copycat.actors.simulated_disk import SimulatedDisk

PAGE_BYTES = 512  # what a disk writes whole or not at all


@dataclass(slots=True, eq=False)
class Capture:
    """What one sync is going to save: the dirty pages as they were when it was asked for."""

    number: int
    size_bytes: int
    pages: dict[int, tuple[int, bytes]]  # page: (number of its last write, content)


class Content:
    """The two images of one file, and the pages in which they differ."""

    __slots__ = ("_captures", "_dirty", "_writes", "durable", "visible")

    def __init__(self) -> None:
        self.visible = bytearray()
        self.durable = bytearray()
        self._dirty: dict[int, int] = {}  # page: the number of its last write
        self._writes = 0
        self._captures: list[Capture] = []  # syncs under way

    @classmethod
    def durable_from(cls, content: bytes) -> "Content":
        """A file with this content, all of it durable."""
        made = cls()
        made.visible += content
        made.durable += content
        return made

    @classmethod
    def zeros(cls, size_bytes: int) -> "Content":
        """A file of durable zeros; costs no memory before it is written to."""
        made = cls()
        made.visible = bytearray(size_bytes)
        made.durable = bytearray(size_bytes)
        return made

    def write(self, offset: int, content: bytes) -> None:
        """Change the visible image; a gap before ``offset`` is filled with zeros."""
        visible = self.visible
        end = offset + len(content)
        if offset > len(visible):
            visible.extend(bytes(offset - len(visible)))
        visible[offset:end] = content
        self._writes += 1
        for page in range(offset // PAGE_BYTES, -(-end // PAGE_BYTES)):
            self._dirty[page] = self._writes

    def capture(self, number: int) -> Capture:
        """Begin a sync: remember what is to be saved."""
        visible = self.visible
        pages = {
            page: (write, bytes(visible[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]))
            for page, write in self._dirty.items()
        }
        made = Capture(number, len(visible), pages)
        self._captures.append(made)
        return made

    def save(self, capture: Capture) -> None:
        """End a sync: what it captured is durable, unless a newer sync saved something newer."""
        self._captures.remove(capture)
        if len(self.durable) < capture.size_bytes:
            self.durable.extend(bytes(capture.size_bytes - len(self.durable)))
        for page, (_, content) in capture.pages.items():
            start = page * PAGE_BYTES
            self.durable[start : start + len(content)] = content
        self._clean(capture)
        for older in self._captures:
            if older.number < capture.number:
                for page in capture.pages:
                    older.pages.pop(page, None)

    def abandon(self, capture: Capture) -> None:
        """A sync fails: its pages count as clean, though they are not durable."""
        self._captures.remove(capture)
        self._clean(capture)

    def forget_captures(self) -> None:
        """Syncs under way will never end; their pages stay dirty."""
        self._captures.clear()

    def _clean(self, capture: Capture) -> None:
        for page, (write, _) in capture.pages.items():
            if self._dirty.get(page) == write:
                del self._dirty[page]

    def crash(self, chance: random.Random, kept: float) -> None:
        """Keep each dirty page with probability ``kept``; the rest is as it was last saved."""
        durable = self.durable
        longest = len(self.visible)
        if longest > len(durable) and chance.random() < kept:
            whole_pages = chance.randint(len(durable) // PAGE_BYTES, longest // PAGE_BYTES)
            size = max(len(durable), chance.choice((longest, whole_pages * PAGE_BYTES)))
            durable.extend(bytes(size - len(durable)))
        for page in sorted(self._dirty):
            if chance.random() < kept:
                start = page * PAGE_BYTES
                versions = [one.pages[page][1] for one in self._captures if page in one.pages]
                versions.append(bytes(self.visible[start : start + PAGE_BYTES]))
                content = chance.choice(versions)[: max(0, len(durable) - start)]
                durable[start : start + len(content)] = content
        self.visible = bytearray(durable)
        self._dirty.clear()
        self._captures.clear()

    def flip(self, offset: int, mask: int) -> None:
        """Turn bits over in both images."""
        self.visible[offset] ^= mask
        if offset < len(self.durable):
            self.durable[offset] ^= mask

    def exchange(self, offset: int, before: bytes, after: bytes) -> bool:
        """Put other bytes in the place of some, in both images; False when they are not there."""
        end = offset + len(before)
        if not self.visible[offset:end] == self.durable[offset:end] == before:
            return False
        self.visible[offset:end] = self.durable[offset:end] = after
        return True


class SimulatedFile:
    """One open file of a simulated disk."""

    __slots__ = ("closed", "content", "disk", "life", "name")

    def __init__(self, name: str, content: Content, disk: "SimulatedDisk") -> None:
        self.name = name
        self.content = content
        self.disk = disk
        self.life = disk.life
        self.closed = False

    def size(self) -> int:
        """Bytes in the file, preallocated ones included."""
        self._check_open()
        return len(self.content.visible)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """At most ``size_bytes`` bytes from ``offset``; fewer only at the end of the file."""
        self._check_open()
        self.disk.check_readable(self.name)
        return bytes(self.content.visible[offset : offset + size_bytes])

    def write(self, offset: int, content: bytes) -> None:
        """Put all of ``content`` at ``offset``: visible at once, durable only after a sync.

        When it raises ``OSError``, any first part of the content may have been written.
        """
        self._check_open()
        assert offset >= 0, "a file begins at 0"
        try:
            self.disk.check_writable(self.name, self._growth(offset, len(content)))
        except OSError:
            part = self.disk.random.randrange(len(content) + 1)
            if not self.disk.is_full(self._growth(offset, part)):
                self.content.write(offset, content[:part])
            raise
        self.content.write(offset, content)

    def close(self) -> None:
        """Give the file up; what was not synced stays undecided."""
        self.closed = True

    def _growth(self, offset: int, size_bytes: int) -> int:
        return max(0, offset + size_bytes - len(self.content.visible))

    def _check_open(self) -> None:
        if self.closed or self.life != self.disk.life:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.name)
