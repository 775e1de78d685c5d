"""A disk in memory for tests of the storage: it remembers what is durable, and can crash.

Every sector of 512 bytes that was written and not synced is kept or lost on its own in a crash,
in any version it has had since the last sync. Creations, removals and replacements that were not
made durable are kept or lost too. Completions wait until the test delivers them, so that a sync
can be under way. ``operations_max`` cuts the power at any chosen operation.
"""

import random
from collections.abc import Callable

from copycat.actors.address import NodeAddress
from copycat.actors.environment import DiskDone, File
from copycat.storage.floor import Floor

SECTOR_BYTES = 512
SERVER = NodeAddress.well_known("s1", 1)


class PowerCutError(BaseException):
    """The power went while an operation was under way."""


class Inode:
    """What a file is apart from its name."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.visible = bytearray(durable)
        self.unsynced: list[tuple[int, bytes]] = []

    def write(self, offset: int, content: bytes) -> None:
        """Visible at once, undecided until a sync."""
        self.unsynced.append((offset, content))
        apply(self.visible, offset, content)

    def settle(self, count: int) -> None:
        """The first ``count`` unsynced writes are durable now."""
        durable = bytearray(self.durable)
        for offset, content in self.unsynced[:count]:
            apply(durable, offset, content)
        self.durable = bytes(durable)
        del self.unsynced[:count]

    def after_crash(self, chance: random.Random, keep: float) -> bytes:
        """The durable content, and of each sector any version that it has had since."""
        found = bytearray(self.durable)
        versions: dict[int, list[bytes]] = {}
        image = bytearray(self.durable)
        for offset, content in self.unsynced:
            apply(image, offset, content)
            for sector in range(
                offset // SECTOR_BYTES, -(-(offset + len(content)) // SECTOR_BYTES)
            ):
                start = sector * SECTOR_BYTES
                versions.setdefault(sector, []).append(bytes(image[start : start + SECTOR_BYTES]))
        for sector, contents in versions.items():
            if chance.random() < keep:
                apply(found, sector * SECTOR_BYTES, chance.choice(contents))
        return bytes(found)


def apply(image: bytearray, offset: int, content: bytes) -> None:
    """Put ``content`` at ``offset``; a hole becomes zeros."""
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(content)] = content


class MemoryFile:
    """An open file."""

    def __init__(self, disk: "MemoryDisk", name: str, inode: Inode) -> None:
        self.disk, self.name, self.inode, self.is_open = disk, name, inode, True

    def size(self) -> int:
        assert self.is_open
        return len(self.inode.visible)

    def read(self, offset: int, size_bytes: int) -> bytes:
        assert self.is_open
        self.disk.reads += 1
        return bytes(self.inode.visible[offset : offset + size_bytes])

    def write(self, offset: int, content: bytes) -> None:
        assert self.is_open
        self.disk.step("write", lambda: self.inode.write(offset, content))

    def close(self) -> None:
        assert self not in self.disk.syncing, "no file is closed while it is being synced"
        self.is_open = False


class MemoryDisk:
    """A node's directory.

    Attributes:
        pending: operations under way: the completion, and what it makes durable.
        operations: how many operations have changed anything.
        operations_max: the power is cut in the operation after this many; None for never.
        fail_next: the kind of operation that fails next, with what error.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.visible = {name: Inode(content) for name, content in (files or {}).items()}
        self.durable = dict(self.visible)
        self.pending: list[tuple[DiskDone, Callable[[], None]]] = []
        self.syncing: list[MemoryFile] = []
        self.operations = 0
        self.operations_max: int | None = None
        self.fail_next: tuple[str, str] | None = None
        self.reads = 0

    def step(self, kind: str, act: Callable[[], None]) -> None:
        """Do one operation, or fail, or lose the power right after it."""
        if self.fail_next is not None and self.fail_next[0] == kind:
            message, self.fail_next = self.fail_next[1], None
            raise OSError(message)
        self.operations += 1
        act()
        if self.operations_max is not None and self.operations > self.operations_max:
            raise PowerCutError

    def names(self) -> list[str]:
        return sorted(self.visible)

    def open(self, name: str, *, create: bool = False) -> MemoryFile:
        if name not in self.visible:
            if not create:
                raise FileNotFoundError(name)
            inode = Inode()
            self.step("open", lambda: self.visible.__setitem__(name, inode))
        return MemoryFile(self, name, self.visible[name])

    def remove(self, name: str) -> None:
        self.step("remove", lambda: self.visible.__delitem__(name))

    def load(self, name: str) -> bytes | None:
        inode = self.visible.get(name)
        return bytes(inode.visible) if inode else None

    def sync(self, file: File, reply_to: NodeAddress, token: int) -> None:
        assert isinstance(file, MemoryFile)
        assert file.is_open
        count_then = len(file.inode.unsynced)
        inode = file.inode
        self.syncing.append(file)

        def settle() -> None:
            self.syncing.remove(file)
            inode.settle(count_then)
            if self.visible.get(file.name) is inode:
                self.durable[file.name] = inode

        self._start("sync", token, settle)

    def replace(self, name: str, content: bytes, reply_to: NodeAddress, token: int) -> None:
        inode = Inode(content)
        self.visible[name] = inode
        self._start("replace", token, lambda: self.durable.__setitem__(name, inode))

    def allocate(self, name: str, size_bytes: int, reply_to: NodeAddress, token: int) -> None:
        inode = Inode()
        inode.write(0, bytes(size_bytes))
        self.visible[name] = inode

        def settle() -> None:
            inode.settle(1)
            self.durable[name] = inode

        self._start("allocate", token, settle)

    def _start(self, kind: str, token: int, settle: Callable[[], None]) -> None:
        error: str | None = None
        if self.fail_next is not None and self.fail_next[0] == kind:
            error, self.fail_next = self.fail_next[1], None
        self.step(kind, lambda: self.pending.append((DiskDone(token, error), settle)))

    def deliver(self, position: int = 0) -> DiskDone:
        """End one of the operations that are under way."""
        done, settle = self.pending.pop(position)
        if done.error is None:
            settle()
        return done

    def files(self) -> dict[str, bytes]:
        """All that is visible, as it is after the death of the process alone."""
        return {name: bytes(inode.visible) for name, inode in self.visible.items()}

    def segments(self) -> dict[str, bytes]:
        """The log without its floor: what its own files say of it."""
        return {name: content for name, content in self.files().items() if name != Floor.NAME}

    def after_crash(self, chance: random.Random) -> dict[str, bytes]:
        """All that is left after a loss of power: what is durable, and any part of the rest."""
        keep = chance.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        files: dict[str, bytes] = {}
        for name in sorted({*self.visible, *self.durable}):
            versions = [table.get(name) for table in (self.durable, self.visible)]
            inode = versions[chance.random() < keep]
            if inode is not None:
                files[name] = inode.after_crash(chance, keep)
        return files
