"""Faults: what one of them is, as a value, and which kinds there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LEADER = "leader"
"""As a place: whoever leads when the time of the fault comes."""

KINDS: Mapping[str, str] = {
    "crash": "a server loses power, and what it had not synced in any combination",
    "crash leader": "the same for the server that leads",
    "crash all": "the same for all servers at once",
    "kill": "the process of a server is killed; its disk keeps what was written",
    "pause": "a server does nothing for a while",
    "clock": "a server's clocks run fast or slow, and its wall clock jumps",
    "partition": "two groups of servers and clients do not hear each other",
    "isolate leader": "the leader and the other servers do not hear each other",
    "bridge": "two groups of servers are cut, but one server hears all",
    "ring": "each server hears its two neighbours in a ring only",
    "one way": "what one node sends to another is stopped, not what comes back",
    "network": "messages are delayed, lost, doubled, overtaken, connections reset, at some rate",
    "reset": "the connections between two nodes break",
    "clog": "a link, or each from a server to one client, carries few bytes a second, and breaks when"
    " too many wait",
    "slow disk": "the disk of a server stalls, or is slow",
    "failed sync": "the next sync of a server fails, and its pages count as clean",
    "write error": "writes and syncs of a server fail with EIO",
    "read error": "reads of a server fail with EIO",
    "full disk": "the disk of a server is full until room is made",
    "flip": "one bit in the files of a server turns over, where that can be noticed",
    "misdirected write": "a page in the files of a server is written to the place of another, where"
    " that can be noticed",
    "wipe": "a server loses its disk, and comes back with an empty one; it must be refused",
    "lost files": "files of a server are removed while it does not run; it must refuse to start",
    "old copy": "the disk of a server is brought back as it was, where the others have met a later"
    " life; it must be refused",
    "old file": "some of ballot, lives, floor and log of a server are brought back as they were; where"
    " something contradicts that, above all a later life, it must be refused, and an old floor alone must"
    " do no harm",
    "client pause": "a client does nothing for a while",
    "client crash": "a client's machine dies; another one of its name begins at once",
    "client clock": "a client's clock runs fast or slow",
    "lost client": "a client hears no server, or is not heard; its connections may break then",
}
"""Every kind of fault, and what it does."""

AMNESIA_KINDS = ("lost files", "old copy")
"""They are drawn apart from all others, so that the worlds without them stay as they were."""

APART_KINDS = (*AMNESIA_KINDS, "old file")
"""All that are drawn so."""

CLIENT_KINDS = ("client pause", "client crash", "client clock", "lost client")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, and is mended after a while.

    Attributes:
        kind: of ``KINDS``.
        at_s: when it begins, after the first leader was elected.
        lasts_s: how long until it is mended; None: until the faults end, or it is over at once.
        where: the servers or clients concerned, in a meaningful order; ``LEADER`` is one, too. A
            client alone that is clogged is so from every server.
        groups: of partitions: who has no group in common with another is cut from it; nodes that
            are in no group are cut from nobody.
        numbers: what else there is to decide, by name; see ``drawing``.
    """

    kind: str
    at_s: float
    lasts_s: float | None = None
    where: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
