"""Lives: which starts this server has had, and which start of each other server it has met last.

Every start of a server is a life, with a number of its own, and each knows all before it. So an
earlier copy of a directory lacks a life that others have met, and is known by that. A life also knows
which floor it began with, for an earlier copy of single files.
"""

import struct

from copycat.actors.environment import Disk
from copycat.storage.errors import IdentityCorruptError
from copycat.storage.small_file import SmallFile

_HEAD = struct.Struct("<IQ")  # how many are its own, sequence of the floor
_NUMBER_BYTES = 8
LIVES_KEPT = 64
"""So many are kept when all others have met a later one: somebody may bring back an earlier copy of
another server, that met one of them last, and the healthy ones must not be taken for copies."""


def packed(lives: tuple[int, ...]) -> bytes:
    """Lives as they stand in files and messages."""
    return b"".join([life.to_bytes(_NUMBER_BYTES, "little") for life in lives])


def unpacked(content: bytes) -> tuple[int, ...]:
    """The opposite.

    Raises:
        ValueError: these are no whole numbers.
    """
    if len(content) % _NUMBER_BYTES:
        raise ValueError("a life is cut off")
    return tuple(
        [
            int.from_bytes(content[at : at + _NUMBER_BYTES], "little")
            for at in range(0, len(content), _NUMBER_BYTES)
        ]
    )


class Lives(SmallFile):
    """The lives of one server, and of those it has met.

    Attributes:
        own: the lives of this server, the present one last; empty before the first.
        floor_sequence: of the floor, as it was durable when the last one began; 0 before the first.
        met: the life of each other server that was introduced last, by server id.
    """

    NAME = "lives"
    MAGIC = b"CopyLive"
    TOKEN = 5
    CORRUPT = IdentityCorruptError

    __slots__ = ("floor_sequence", "met", "own")

    def __init__(self, disk: Disk) -> None:
        """Load the lives, if there were any.

        Raises:
            IdentityCorruptError: the file is damaged. It is never replaced by a fresh one.
            DiskFailedError: it cannot be read.
        """
        super().__init__(disk)
        self.own: tuple[int, ...] = ()
        self.floor_sequence = 0
        self.met: dict[int, int] = {}
        content = self._load()
        if content is not None:
            try:
                count, self.floor_sequence = _HEAD.unpack_from(content)
                numbers = unpacked(content[_HEAD.size :])
                self.own, pairs = numbers[:count], numbers[count:]
                self.met = dict(zip(pairs[::2], pairs[1::2], strict=True))
                if len(self.own) < count or self._content() != content:
                    raise ValueError("its numbers do not fit together")
            except (ValueError, struct.error) as error:
                raise IdentityCorruptError(self.NAME, str(error)) from error

    def _content(self) -> bytes:
        met = [number for pair in sorted(self.met.items()) for number in pair]
        return _HEAD.pack(len(self.own), self.floor_sequence) + packed((*self.own, *met))

    def begin(self, life: int, floor_sequence: int) -> None:
        """Begin a life, behind those there were, with a floor that was written for it."""
        assert life not in {0, *self.own}, "every life has its own number"
        assert floor_sequence > self.floor_sequence, "every life has its own floor"
        self.floor_sequence = floor_sequence
        self.own = (*self.own, life)
        self.written += 1

    def meet(self, server_id: int, life: int) -> None:
        """Remember the life of another server that is introduced now."""
        assert server_id, "0 stands for no server"
        assert life, "0 stands for no life"
        self.met[server_id] = life
        self.written += 1

    def forget_early(self) -> None:
        """Every other server has met the present life: forget the early ones."""
        if len(self.own) > LIVES_KEPT:
            self.own = self.own[-LIVES_KEPT:]
            self.written += 1
