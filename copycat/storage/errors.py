"""Every error of the storage.

::

    StorageError
    ├── BatchCorruptError            a record is damaged; nothing of it was used
    │   └── BatchFormatError         it is whole, but of a format or kind that is not known here
    ├── LogCorruptError              a record that was durable cannot be read any more
    ├── LogFormatError               the log was written by another version
    ├── SmallFileCorruptError        a small file is damaged
    │   ├── BallotCorruptError
    │   ├── FloorCorruptError
    │   └── IdentityCorruptError     the identity or the configuration
    ├── AmnesiaError                 every file is whole, but what was promised is not among them
    ├── MemoryDamagedError           a part of the log is damaged in this process
    ├── UnknownRecordError           the leader's log has a record of a newer version
    └── DiskFailedError              the disk refused an operation

None of them may be retried in the same process: the server stops and a person decides.
"""

from copycat.errors import BRING_BACK


class StorageError(Exception):
    """Something on the disk is not as it must be."""


class BatchCorruptError(StorageError):
    """The bytes are not a batch. Nothing of them was used or stored."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"a batch record is damaged ({reason}): nothing of it was used; "
            f"read or send it again from another server"
        )


class BatchFormatError(BatchCorruptError):
    """A batch arrived whole, but its format version or kind is not known here."""

    def __init__(self, reason: str) -> None:
        StorageError.__init__(
            self,
            f"a batch record is of {reason}: it is whole but nothing of it was used; "
            f"run a version of Copycat that knows it",
        )
        self.reason = reason


class LogCorruptError(StorageError):
    """A part of the log that was durable cannot be read any more; nothing was changed on the disk.

    Attributes:
        file: the damaged file.
        offset: the byte in it at which reading failed.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        self.file = file
        self.offset = offset
        super().__init__(
            f"the log is damaged in file {file} at byte {offset} ({reason}): nothing was changed "
            f"on the disk; {BRING_BACK}"
        )


class LogFormatError(StorageError):
    """The log has a format that is not known here; nothing was changed on the disk."""

    def __init__(self, file: str, offset: int, reason: str) -> None:
        self.file = file
        self.offset = offset
        super().__init__(
            f"file {file} of the log holds {reason} at byte {offset}: nothing was changed on the "
            f"disk; start a version of Copycat that knows it"
        )


class MemoryDamagedError(StorageError):
    """A part of the log is damaged in the memory of this process; its disk may be whole."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(
            f"index {index} of the log is damaged in the memory of this server ({reason}): nothing "
            f"that was acknowledged is lost; test the memory of this machine, then start the server "
            f"again, which reads its log anew and checks it"
        )


class UnknownRecordError(StorageError):
    """The leader has sent a record of a format or kind that is not known here."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(
            f"the leader's log has a record of {reason} at index {index}, which only a newer version "
            f"of Copycat knows: it was not stored, and nothing that was acknowledged is lost; start "
            f"this server again with the version of the others"
        )


class SmallFileCorruptError(StorageError):
    """A small file exists but is damaged; it was neither used nor changed."""

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        super().__init__(
            f"file {file} is damaged ({reason}): it was neither used nor changed; {BRING_BACK}"
        )


class BallotCorruptError(SmallFileCorruptError):
    """The term and vote cannot be read; starting without them could vote twice in one term."""


class FloorCorruptError(SmallFileCorruptError):
    """How far the log must reach cannot be read; without it a lost log looks like a short one."""


class IdentityCorruptError(SmallFileCorruptError):
    """Who this server is, or which servers form its cluster, cannot be read."""


class AmnesiaError(StorageError):
    """The disk has less than this server has promised to others, so it may not speak for itself.

    Nothing was changed on the disk. A server that lost what it had acknowledged or voted is a wiped
    server: the others have what it lost, and it would let them lose it, too.

    Attributes:
        file: what is missing, or older than another file says.
    """

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        super().__init__(
            f"file {file} {reason}: this server has lost what it had promised to others, and nothing"
            f" was changed on the disk; {BRING_BACK}"
        )


class DiskFailedError(StorageError):
    """The disk refused an operation. What was acknowledged is durable; the rest is undecided."""

    def __init__(self, operation: str, reason: object) -> None:
        self.operation = operation
        super().__init__(
            f"the disk failed to {operation} ({reason}): nothing that was acknowledged is lost; "
            f"repair the disk or free space, then start the server again"
        )
