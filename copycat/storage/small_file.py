"""A small file that is always replaced as a whole: after a crash it has its old or its new content.

A file that exists and is not valid is refused, never taken for a missing one.

Format, little endian: magic (8 bytes), CRC-32 of all that follows, format version of this kind of
file, content.
"""

import struct
from zlib import crc32

from copycat.actors.address import NodeAddress
from copycat.actors.environment import Disk, DiskDone
from copycat.storage.errors import DiskFailedError, SmallFileCorruptError

_HEADER = struct.Struct("<8sII")


class SmallFile:
    """What all small files share; a subclass says what is in it, by ``_content``.

    Attributes:
        NAME, MAGIC, TOKEN: the file, its first eight bytes, the token of its disk operations.
        VERSION: of the format of its content.
        CORRUPT: what is raised when it is damaged.
        written: how often it has changed, and 1 for what was found on the disk.
        durable: the highest ``written`` that is known to survive a crash.
    """

    NAME: str
    MAGIC: bytes
    TOKEN: int
    VERSION = 1
    CORRUPT: type[SmallFileCorruptError]

    __slots__ = ("_disk", "_replacing", "_reply_to", "durable", "written")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._reply_to: NodeAddress | None = None
        self._replacing: int | None = None  # the ``written`` that is on its way to the disk
        self.written = 0
        self.durable = 0

    def _content(self) -> bytes:
        raise NotImplementedError

    def _load(self) -> bytes | None:
        """The content that is on the disk, or None when there is no such file.

        Raises:
            SmallFileCorruptError: it is damaged, or of another version.
            DiskFailedError: it cannot be read.
        """
        try:
            found = self._disk.load(self.NAME)
        except OSError as error:
            raise DiskFailedError(f"read file {self.NAME}", error) from error
        if found is None:
            return None
        if len(found) < _HEADER.size:
            raise self.CORRUPT(self.NAME, f"only {len(found)} bytes long")
        magic, crc, version = _HEADER.unpack_from(found)
        if magic != self.MAGIC or crc32(found[12:]) != crc:
            raise self.CORRUPT(self.NAME, "its magic or CRC does not match")
        if version != self.VERSION:
            raise self.CORRUPT(self.NAME, f"format version {version} is not known")
        self.written = 1
        return found[_HEADER.size :]

    def owns(self, token: int) -> bool:
        """Whether a disk operation with this token was this file's."""
        return token == self.TOKEN

    def start_sync(self, reply_to: NodeAddress) -> None:
        """Make the present content durable, if it is not and is not on its way.

        It ends as a ``DiskDone`` to ``reply_to``, which must be handed to ``handle``. What changes
        meanwhile follows after that without being asked again.

        Raises:
            DiskFailedError: the disk refused; the file has its old content.
        """
        self._reply_to = reply_to
        if self._replacing is not None or self.durable == self.written:
            return
        self._replacing = self.written
        body = self.VERSION.to_bytes(4, "little") + self._content()
        content = self.MAGIC + crc32(body).to_bytes(4, "little") + body
        try:
            self._disk.replace(self.NAME, content, reply_to, self.TOKEN)
        except OSError as error:
            raise DiskFailedError(f"replace file {self.NAME}", error) from error

    def handle(self, done: DiskDone) -> None:
        """Take note that a replacement has ended.

        Raises:
            DiskFailedError: it failed; the file has its old or its new content.
        """
        assert self.owns(done.token), "completions go to whom they belong"
        assert self._replacing is not None, "every replacement ends once"
        assert self._reply_to is not None, "a replacement was asked for by somebody"
        if done.error is not None:
            raise DiskFailedError(f"replace file {self.NAME}", done.error)
        self.durable = self._replacing
        self._replacing = None
        self.start_sync(self._reply_to)
