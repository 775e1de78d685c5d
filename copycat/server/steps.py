"""Messages inside a server, between its own actors. They never travel to another node.

Some are *stepped*: delivered to a child at once, with a result, outside of any mailbox.
"""

from copycat.actors import NodeAddress, Plain, message
from copycat.protocol.client import AttachSession, SubmitQueries

# To a role, stepped by the Server.


@message(100)
class Tick:
    """The server's timer; the result is the moment at which the role wants the next one."""

    now_s: float


@message(101)
class Durable:
    """The disk has caught up with something that was written."""


@message(102)
class LeaderLost:
    """The connection from the leader was reset: a hint that it has gone."""


@message(103)
class PeerAnswered:
    """A replicator has learnt something of its follower. Sent to the leader's own mailbox."""


@message(104)
class PeerLinked:
    """Another link to a peer is in use: it is up (again), or one of two has gone."""

    name: str


@message(105)
class Replicate:
    """There may be something to send. To a leader, and from it to its replicators."""

    announce: bool  # send an empty AppendEntries if there is nothing else


@message(106)
class Begin:
    """The server has this role now."""


@message(107)
class Retire:
    """The role is about to end: answer every open request."""


@message(108)
class AskFollowing:
    """What is known of the followers; the result is a dictionary by name, empty but on a leader."""


# To the Server.


@message(110)
class TermSeen:
    """A reply carried a higher term."""

    term: int


@message(111)
class Flush:
    """The end of what arrived in this turn: start the sync, send to the followers."""


@message(112)
class Reached:
    """The Applier has come to the index that the role waits for."""


# To the Applier (the second also from a Replicator to itself).


@message(120)
class Advance:
    """The commit index has moved."""

    commit_index: int


@message(121)
class Proceed:
    """Go on: the rest of what was too much for one turn."""


@message(122)
class Read:
    """Queries of a client, or its question whether its session exists."""

    queries: SubmitQueries | None  # exactly one of the two is not None
    attach: AttachSession | None
    connection: NodeAddress
    client: NodeAddress


@message(125)
class RunReads:
    """Reads that may run at this index or later."""

    index: int
    reads: tuple[Read, ...]


@message(127)
class ProceedReading:
    """Go on with reads that are ready: the rest of what was too much for one turn."""


@message(126)
class ConnectionGone:
    """A connection has ended: nobody waits for its reads any more."""

    connection: NodeAddress
    node: str  # its client's


@message(123)
class AnswerAgain:
    """A batch of commands came again after it had been applied here."""

    session: int
    first_sequence: int
    client: NodeAddress


@message(124)
class ResendEvents:
    """A client misses events after this one."""

    session: int
    event_sequence: int
    number: int  # of the question
    client: NodeAddress


@message(128)
class Deliver:
    """Go on sending events to those who are behind."""


# To a Connection.


@message(130)
class SessionOpened:
    """A session that was asked for over this connection is in the log."""

    nonce: bytes
    session: int
    timeout_ms: int


@message(131)
class SessionAttached:
    """A session goes on over this connection."""

    session: int


@message(133)
class LeaderNews:
    """The server knows another leader than before, or none."""


@message(134)
class ProceedTelling:
    """Go on telling clients who leads: the rest of what was too much for one turn."""


# To Reads (and Read itself).


@message(141)
class FlushReads:
    """The end of what arrived in this turn: ask the leader for all of it at once."""


@message(142)
class RefuseReads:
    """Go on to tell who waits for reads that are refused."""


# To a Session, stepped by the Applier.


@message(150)
class AskAnswer:
    """A batch that was applied has come again.

    The result is its answer as (base_index, results), or None when the client has acknowledged it.
    """

    first_sequence: int


@message(151)
class CommandsAnswered:
    """A batch of commands has been applied: its results, to be kept until the client has them."""

    first_sequence: int
    last_sequence: int
    base_index: int
    results: bytes
    counted_bytes: int  # what they count, whatever the texts of failures
    resources: tuple[int, ...]  # that the batch was for
    response_sequence: int  # as in Acknowledged
    event_sequence: int


@message(152)
class Acknowledged:
    """A batch of the session says up to where its client has everything."""

    response_sequence: int
    event_sequence: int


@message(153)
class EventsPublished:
    """Events for the session; at one index there may be several.

    The result is None when the session keeps so much already that it has to end; then nothing was
    queued. Else it is a ``ToSend``.
    """

    index: int
    events: Plain  # a list of Published, not empty
    sent: int | None  # the sequence after which events are to be sent now; None: nothing is


@message(154)
class EventsAfter:
    """The result is a ``ToSend``: the next events after this one."""

    event_sequence: int


@message(155)
class Ending:
    """The session is no more. The result is the list of the resources it has used."""


@message(157)
class Forget:
    """Let go of what an ended session keeps; the result is whether nothing is left."""


@message(156)
class AskRetained:
    """The result is how many bytes of events and answers the session keeps."""


# To a Resource, stepped by the Applier.


@message(160)
class ApplyOperations:
    """Commands of one session in a row. The result is (values, failures); with fewer values than
    commands, the rest was not carried out."""

    first_index: int
    log_time_us: int
    session: int
    operations: Plain  # a list of [resource, method, argument, ...]
    effects: Plain  # a list to which the effects are added
    room_bytes: int  # when they have answered more than this, no other is carried out


@message(161)
class AnswerQueries:
    """Queries in a row. The result is (values, failures)."""

    operations: Plain


@message(162)
class FireTimer:
    """A scheduled call is due."""

    index: int
    due_us: int
    timer: int
    effects: Plain


@message(163)
class EndSession:
    """A session that has used the resource is no more."""

    index: int
    log_time_us: int
    session: int
    effects: Plain
