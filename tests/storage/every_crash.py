"""Every crash there is: one at each operation of the disk, with all that a disk may then keep.

A simulated disk draws what survives a crash from its generator. Here the generator takes, run
after run, another branch at every draw until all are taken. That is every combination of pages of
512 bytes, lengths of files, names, and replacements and allocations under way.

The work is bounded by what is done, not by leaving cases out: who asks for more than
``BRANCHES_MAX`` ways at one operation has to do less between two syncs.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from copycat.actors.address import NodeAddress
from copycat.actors.environment import File
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulated_file import PAGE_BYTES, SimulatedFile

SERVER = NodeAddress.well_known("s1", 1)
BRANCHES_MAX = 20_000

Option = TypeVar("Option")
Promises = TypeVar("Promises")


class CutError(BaseException):
    """The power went, or the process died, at an operation of the disk."""


class Branches(random.Random):
    """A generator that takes every way: ``advance`` chooses the next one until there is none."""

    def __init__(self) -> None:
        super().__init__(0)
        self._way: list[tuple[int, int]] = []  # at each draw: the option taken, and how many
        self._at = 0

    def advance(self) -> bool:
        """Turn to the next way; False when all are taken."""
        self._at = 0
        while self._way:
            taken, options = self._way.pop()
            if taken + 1 < options:
                self._way.append((taken + 1, options))
                return True
        return False

    def _take(self, options: int) -> int:
        if self._at == len(self._way):
            self._way.append((0, options))
        taken, options_then = self._way[self._at]
        assert options == options_then, "the same way leads to the same draws"
        self._at += 1
        return taken

    def random(self) -> float:
        return (0.0, 0.5)[self._take(2)]

    def choice(self, seq: Sequence[Option]) -> Option:  # type: ignore[override]  # typeshed says SupportsLenAndGetItem
        return seq[self._take(len(seq))]

    def randint(self, a: int, b: int) -> int:
        return a + self._take(b - a + 1)


class CutFile(SimulatedFile):
    """A file whose writes are operations to be cut at, before every page if the disk tears writes."""

    __slots__ = ()

    def write(self, offset: int, content: bytes) -> None:
        assert isinstance(self.disk, CutDisk)
        written = 0
        if self.disk.tears_writes:
            for end in range(PAGE_BYTES - offset % PAGE_BYTES, len(content), PAGE_BYTES):
                super().write(offset + written, content[written:end])
                written = end
                self.disk.count()
        super().write(offset + written, content[written:])
        self.disk.count()


class CutDisk(SimulatedDisk):
    """A disk that counts what is done to it, and ends the life of its user at any point.

    Attributes:
        operations_left: how many more operations are carried out; the next one is the last.
            None: there is no limit.
        tears_writes: whether a write may end after any page of it. A loss of power needs no such
            thing: it takes the pages one by one anyway.
    """

    def __init__(
        self,
        chance: random.Random,
        operations_left: int | None = None,
        *,
        tears_writes: bool = False,
    ) -> None:
        super().__init__(chance)
        self.operations_left = operations_left
        self.tears_writes = tears_writes

    def count(self) -> None:
        """One operation has been carried out."""
        if self.operations_left is not None:
            self.operations_left -= 1
            if self.operations_left < 0:
                raise CutError

    def open(self, name: str, *, create: bool = False) -> SimulatedFile:
        is_new = name not in self.names()
        file = super().open(name, create=create)
        if is_new:
            self.count()
        return CutFile(name, file.content, self)

    def remove(self, name: str) -> None:
        super().remove(name)
        self.count()

    def sync(self, file: File, reply_to: NodeAddress, token: int) -> None:
        super().sync(file, reply_to, token)
        self.count()

    def replace(self, name: str, content: bytes, reply_to: NodeAddress, token: int) -> None:
        super().replace(name, content, reply_to, token)
        self.count()

    def allocate(self, name: str, size_bytes: int, reply_to: NodeAddress, token: int) -> None:
        super().allocate(name, size_bytes, reply_to, token)
        self.count()

    def end(self, position: int = 0) -> Any:
        """End an operation that is under way, the oldest if not told otherwise.

        A life ends before that, if it does: what was acknowledged until then is on its own.
        """
        self.count()
        return self.finish(self.pending[position])

    def files(self) -> dict[str, bytes]:
        """All that programs see."""
        return {name: self.load(name) or b"" for name in self.names()}


@dataclass(slots=True)
class Tally:
    """What was looked at.

    Attributes:
        points: operations at which a crash was tried.
        ways: crashes that were tried.
        images: different contents of the disk that they left.
    """

    points: int = 0
    ways: int = 0
    images: int = 0


def after_every_crash(
    begin: Callable[[], Promises],
    live: Callable[[CutDisk, Promises], None],
    judge: Callable[[CutDisk, Promises], None],
    *,
    power: bool,
) -> Tally:
    """Judge what is on the disk after each crash that may end a life.

    Args:
        begin: makes what the life writes its promises to.
        live: what is done; the same each time.
        judge: asserts that what is on the disk keeps the promises.
        power: whether the power is lost, or the process alone dies.
    """
    tally, seen = Tally(), set()
    for operations in count():
        branches = Branches()
        is_whole = True
        tally.points += 1
        for way in count(1):
            assert way <= BRANCHES_MAX, "too much is unsynced at once to try every combination"
            disk = CutDisk(branches, operations, tears_writes=not power)
            promises = begin()
            try:
                live(disk, promises)
            except CutError:
                is_whole = False
            if power:
                disk.crash(kept=0.5)
            else:
                disk.detach()
            disk.operations_left = None
            seen.add(tuple(sorted(disk.files().items())))
            judge(disk, promises)
            tally.ways += 1
            if not branches.advance():
                break
        if is_whole:
            tally.images = len(seen)
            return tally
    raise AssertionError("a life ends")
