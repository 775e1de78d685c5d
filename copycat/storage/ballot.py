"""The ballot: the term a server is in and whom it voted for in that term.

Invariants: the term never falls; the vote is cleared only when the term rises; in one term there
is one vote. A server speaks of a term or a vote only when the ballot is durable.

Source: Raft dissertation §3.4, §3.8.
"""

import struct

from copycat.actors.environment import Disk
from copycat.storage.errors import BallotCorruptError
from copycat.storage.small_file import SmallFile

_CONTENT = struct.Struct("<QQ")


class Ballot(SmallFile):
    """Term and vote of one server, in memory at once and on disk after the next sync.

    Attributes:
        term: the latest term this server knows of; 0 before the first.
        voted_for: the id of the server that has this server's vote in ``term``; 0 for none.
    """

    NAME = "ballot"
    MAGIC = b"CopyBall"
    TOKEN = 1
    CORRUPT = BallotCorruptError

    __slots__ = ("term", "voted_for")

    def __init__(self, disk: Disk) -> None:
        """Load the ballot; without a file it is term 0 and no vote, and has yet to begin.

        Raises:
            BallotCorruptError: the file is damaged. It is never replaced by a fresh one.
            DiskFailedError: it cannot be read.
        """
        super().__init__(disk)
        self.term = 0
        self.voted_for = 0
        content = self._load()
        if content is not None:
            if len(content) != _CONTENT.size:
                raise BallotCorruptError(self.NAME, f"{len(content)} bytes of content")
            self.term, self.voted_for = _CONTENT.unpack(content)

    def _content(self) -> bytes:
        return _CONTENT.pack(self.term, self.voted_for)

    def begin(self) -> None:
        """Have term 0 on the disk, so that a ballot that is missing later is known as lost."""
        assert self.written == 0, "a ballot that was found has begun"
        self.written = 1

    def raise_term(self, term: int) -> None:
        """Enter a higher term, without a vote in it."""
        assert term > self.term, "the term never falls, and entering it again would clear the vote"
        self.term = term
        self.voted_for = 0
        self.written += 1

    def vote(self, server_id: int) -> None:
        """Give this term's vote to a server; giving it again to the same one changes nothing."""
        assert server_id != 0, "a vote is for somebody"
        assert self.term > 0, "nobody stands in term 0"
        assert self.voted_for in (0, server_id), "one vote a term"
        if self.voted_for == 0:
            self.voted_for = server_id
            self.written += 1
