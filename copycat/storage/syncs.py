"""What of a log is durable, and what makes it so.

There is one sync of segments at a time, and all that is written meanwhile shares the next one. A sync
counts when the floor names the last segment of it; so every new segment costs a second, small sync,
and the log goes on during it.
"""

from collections import deque
from dataclasses import dataclass

from copycat.actors.address import NodeAddress
from copycat.actors.environment import Disk, DiskDone
from copycat.storage.batch_index import BatchIndex
from copycat.storage.errors import DiskFailedError
from copycat.storage.floor import Floor, Promise
from copycat.storage.segment import Segment
from copycat.types import Index, Term

LOG_TOKEN_MIN = 1_000


@dataclass(slots=True, eq=False)
class _Sync:
    """What is durable when a sync has ended.

    Attributes:
        written: the changes.
        index: the end of the log then; lower if it was truncated since.
        segments: that are synced.
        dead: what these overrule, which goes then.
        tokens: of what is under way.
    """

    written: int
    index: Index
    segments: list[Segment]
    dead: list[Segment]
    tokens: list[int]


class Syncs:
    """The syncs of one log.

    Attributes:
        written: how often the log has changed.
        durable: the highest ``written`` that is known to survive a crash.
        synced_index: the last index of the present log that is.
        unsynced: the segments that have changed since the last sync began, as they follow each other.
        dead: what is overruled by those, and removed once they are durable and the floor names them.
        commit_index: how far the log is committed, as its owner says: the floor never passes that.
        ballot: term and vote, durable, for the floor.
        floor: what the disk holds at least.
    """

    def __init__(
        self,
        disk: Disk,
        index: BatchIndex,
        floor: Floor,
        synced_index: Index,
        unsynced: list[Segment],
        dead: list[Segment],
    ) -> None:
        """Begin with a log as it was found.

        Args:
            disk: where it is.
            index: of the log.
            floor: as it was found.
            synced_index: how far it is known to be durable.
            unsynced: what may not be; if there is anything, the log counts as changed once.
            dead: segments that are not of the log.
        """
        self._disk = disk
        self._index = index
        self.floor = floor
        self.written = 1 if unsynced else 0
        self.durable = 0
        self.synced_index = synced_index
        self.unsynced = unsynced
        self.dead = dead
        self.commit_index: Index = 0
        self.ballot: tuple[Term, int] = (0, 0)
        self._found_sequence = floor.sequence
        self._start = floor.promise[-2:]
        self._next_token = LOG_TOKEN_MIN
        self._began_written = 0  # by the sync that began last
        self._under_way: _Sync | None = None
        self._ended: deque[_Sync] = deque()  # waiting for the floor
        self._reply_to: NodeAddress | None = None

    def _each(self) -> list[_Sync]:
        """Those that do not count yet."""
        return [*self._ended, *([self._under_way] if self._under_way else [])]

    def every_dead(self) -> list[Segment]:
        """The segments that are not of the log, and still there."""
        return [*self.dead, *(segment for sync in self._each() for segment in sync.dead)]

    def truncated(self, last_index: Index) -> None:
        """The log ends here: nothing behind it is durable, or will be by a sync that has begun."""
        assert last_index >= self.floor.promise.last_index, "what is promised is kept"
        self.synced_index = min(self.synced_index, last_index)
        for sync in self._each():
            sync.index = min(sync.index, last_index)

    # Syncs.

    def take_token(self) -> int:
        """A token that no operation of the log has had."""
        self._next_token += 1
        return self._next_token - 1

    def owns(self, token: int) -> bool:
        """Whether a disk operation with this token was the log's."""
        return token >= LOG_TOKEN_MIN or self.floor.owns(token)

    def start(self, reply_to: NodeAddress) -> None:
        """Begin a sync if there is something to sync, and make the floor if there is none.

        Raises:
            DiskFailedError: the disk refused.
        """
        self._reply_to = reply_to
        if not self.floor.exists and not self.floor.busy:
            self.floor.make(reply_to)
        if self._began_written < self.written and self._under_way is None:
            self._begin(reply_to)

    def _begin(self, reply_to: NodeAddress) -> None:
        segments, self.unsynced = self.unsynced, []
        dead, self.dead = self.dead, []
        assert segments, "whatever was written, was written to a segment"
        tokens = [self.take_token() for _ in segments]
        self._began_written = self.written
        self._under_way = _Sync(self.written, self._index.last_index, segments, dead, list(tokens))
        for segment in segments:
            segment.flush()
        for segment, token in zip(segments, tokens, strict=True):
            try:
                self._disk.sync(segment.file(), reply_to, token)
            except OSError as error:
                raise DiskFailedError(f"sync file {segment.name}", error) from error

    def handle(self, done: DiskDone) -> None:
        """Take note that an operation has ended: of the floor, or of a sync.

        Raises:
            DiskFailedError: it failed, or the next one did; nothing may be acknowledged any more.
        """
        if self.floor.owns(done.token):
            self.floor.handle(done)
            self._count()
            return
        sync = self._under_way
        assert sync is not None, "every sync ends once"
        assert done.token in sync.tokens, "likewise"
        if done.error is not None:
            raise DiskFailedError("sync the log", done.error)
        sync.tokens.remove(done.token)
        if not sync.tokens:
            self._under_way = None
            self._end(sync)

    def _end(self, sync: _Sync) -> None:
        self._ended.append(sync)
        self._count()
        tail = (self.unsynced or sync.segments)[-1]
        for segment in sync.segments:
            if segment is not tail:
                segment.close()
        assert self._reply_to is not None, "a sync was asked for by somebody"
        if self._began_written < self.written:
            self._begin(self._reply_to)

    def _count(self) -> None:
        """Let those syncs count whose segments the floor names, and have it name the others."""
        named = self.floor.promise.segment
        while self._ended and self._ended[0].segments[-1].number <= named:
            sync = self._ended.popleft()
            self.durable = sync.written
            self.synced_index = sync.index
            # Only now is what overrules the dead segments durable, and no sync uses their files.
            for segment in sync.dead:
                segment.close()
                self.remove(segment.name)
        if self._ended:
            self._write_floor(self._ended[-1].segments[-1].number)

    def remove(self, name: str) -> None:
        """Remove a file that holds nothing of the log.

        Raises:
            DiskFailedError: it is still there.
        """
        try:
            self._disk.remove(name)
        except OSError as error:
            raise DiskFailedError(f"remove file {name}", error) from error

    # The floor.

    def begin_life(self, ballot: tuple[Term, int]) -> bool:
        """Have the floor written in this life, with what was found; True when it is durable.

        Raises:
            DiskFailedError: the disk refused.
        """
        floor = self.floor
        if floor.busy or not floor.exists or self.durable < self.written:
            return False
        assert self.synced_index == self._index.last_index, "all was made durable again"
        self.ballot = ballot
        self._start = (floor.promise.segment, self.synced_index)
        promise = self._promise(floor.promise.segment)
        if floor.sequence > self._found_sequence and floor.promise == promise:
            return True
        self._write_floor(promise.segment)
        return False

    def raise_floor(self) -> bool:
        """Have the floor say what is durable now, if it says less; False when it is being written.

        Raises:
            DiskFailedError: the disk refused.
        """
        if self.floor.busy:
            return False
        segment = self.floor.promise.segment
        if self._promise(segment) != self.floor.promise:
            self._write_floor(segment)
        return True

    def _promise(self, segment: int) -> Promise:
        """What the floor says next."""
        before = self.floor.promise
        last_index = max(before.last_index, min(self.commit_index, self.synced_index))
        ballot = max(self.ballot, (before.term, before.voted_for))
        return Promise(segment, last_index, *ballot, *self._start)

    def _write_floor(self, segment: int) -> None:
        """Write the floor. If it is being written, this follows by itself as far as it is needed."""
        if self.floor.exists and not self.floor.busy:
            assert self._reply_to is not None, "a sync was asked for by somebody"
            self.floor.write(self._promise(segment), self._reply_to)

    def check(self) -> None:
        """Assert every invariant."""
        assert self.durable <= self.written, "nothing is durable before it is written"
        assert self.synced_index <= self._index.last_index, "only what is there can be durable"
        assert self.floor.promise.last_index <= self._index.last_index, "what is promised is there"
        for sync in self._each():
            assert sync.index <= self._index.last_index, "only what is there will be durable"
