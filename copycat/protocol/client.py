"""Messages between a client session and the server that holds its connection (dissertation §6.3).

A client sends its first message to the well-known address ``SERVER``; the answer comes from the
``Connection`` actor that the server keeps for the client's node, and everything after goes there.
Every request may be sent again, exactly as it was, over any connection and in any order:
commands are recognised by their sequence, reads by their number, the rest is idempotent.
"""

from enum import IntEnum

from copycat.actors.message import message

SERVER = 1
"""The well-known serial of the Server actor in a server's node."""

COMMANDS_PER_BATCH_MAX = 512
OPERATIONS_BYTES_MAX = 256 * 1024  # a single larger command travels alone
SPARE_VALUES = 160
"""For each operation of a batch a server takes so many values beyond ``OPERATION_VALUES_MAX``: no data
holds more values than bytes, so that it need not look into most batches."""
RESULTS_BYTES_MAX = 2 << 20
"""Of the answers to one batch together. Commands behind which the largest answer might not fit are
not carried out: the batch ends before them, and they are to be sent again, as a batch of their own."""

EVENT_BYTES = 256  # what an event is counted with besides its own bytes, wherever events wait
EVENTS_WINDOW_BYTES = 2 << 20
"""Of a session's events, what a server sends before it hears that the client has received any of
them. A client says so when it has half as much."""


class Branch(IntEnum):
    """What is known of an operation that failed."""

    REJECTED = 1  # a command: it changed nothing and will not
    FAILED = 2  # a command: it was carried out once and ended by an exception
    ANSWER_LOST = 3  # a command: it was carried out once, and its answer cannot be sent
    QUERY_FAILED = 4  # a query, which changes nothing


class Consistency(IntEnum):
    """How fresh the state is that a query sees."""

    LINEARIZABLE = 0  # at least as new as all that was answered before the query was submitted
    SEQUENTIAL = 1  # never older than what this session has seen; any server answers


class Refusal(IntEnum):
    """Why a server did not take a request. What it refused, it did not append."""

    NO_LEADER = 1
    UNKNOWN_SESSION = 2
    OVERLOADED = 3
    TOO_LARGE = 4
    LACKS_TYPE = 5  # a voter does not know the type of the resource to be opened
    WRONG_TYPE = 6  # the name belongs to a resource of another type
    NOT_ATTACHED = 7  # the session is not attached to this connection: attach it, then ask again
    CANNOT_BE_MADE = 8  # the state machine's constructor failed; the name stays free


class Request(IntEnum):
    """What a refusal speaks of."""

    OPEN_SESSION = 1
    ATTACH_SESSION = 2
    COMMANDS = 3
    QUERIES = 4
    OPEN_RESOURCE = 5
    KEEP_ALIVE = 6
    CLOSE_SESSION = 7


@message(20)
class OpenSession:
    """A client asks for a session; the same nonce again gets the same session."""

    nonce: bytes  # 16 bytes of the client's choice
    client: str  # a name for people
    timeout_ms: int  # without a sign of life for this long, in log time, the session expires


@message(21)
class OpenSessionReply:
    """The session is open; its events and answers come over this connection."""

    nonce: bytes
    session: int
    timeout_ms: int  # the one in force
    servers: tuple[str, ...]  # endpoints of the members, as clients dial them


@message(22)
class AttachSession:
    """A client wants to go on with its session over this connection."""

    session: int
    nonce: bytes  # with which it was opened: only who knows it may go on with it
    event_sequence: int  # of the last event received; later ones are sent


@message(23)
class AttachSessionReply:
    """The session goes on here. An ended one, or another's, is answered by SessionEnded."""

    session: int
    servers: tuple[str, ...]


@message(24)
class SubmitCommands:
    """Commands in the order they were submitted: one batch, which is resent exactly as it was."""

    session: int
    first_sequence: int  # of the first command; commands of a session count from 1 without a hole
    count: int  # at most COMMANDS_PER_BATCH_MAX
    response_sequence: int  # all responses up to this command have been received
    event_sequence: int  # all events up to this one have been received
    operations: bytes  # the codec's list of [resource, method, argument, ...]


@message(25)
class CommandsReply:
    """The batch has been applied: the results of its commands, or of so many of the first of them as
    have been carried out. The rest counts as not received, and so does what was sent behind it."""

    session: int
    first_sequence: int
    base_index: int  # of the batch in the log
    # the codec's [values, failures], failures as [[offset, branch, kind, text], ...]
    results: bytes


@message(26)
class SubmitQueries:
    """Queries that were submitted together."""

    session: int
    read: int  # drawn anew for every attempt, so that no late answer fits another one
    count: int
    consistency: int
    sequence: int  # of the last command submitted before them; they run when it is applied
    index: int  # the highest index this session has seen; they run at this or later
    operations: bytes  # as in SubmitCommands


@message(27)
class QueriesReply:
    """What the queries of one read found."""

    session: int
    read: int
    index: int  # the log index of the state they saw
    results: bytes  # as in CommandsReply


@message(28)
class OpenResource:
    """Open the resource of this name, making it if there is none."""

    session: int
    request: int  # the client's number for it
    name: str
    type: str
    version: int


@message(29)
class OpenResourceReply:
    """The resource is there."""

    session: int
    request: int
    resource: int


@message(30)
class KeepAlive:
    """A sign of life of an idle session, with its acknowledgements."""

    session: int
    number: int  # that the reply repeats; each one has another
    response_sequence: int
    event_sequence: int


@message(31)
class KeepAliveReply:
    """The sign of life is in the log. A client that lacks events which were sent before asks."""

    session: int
    number: int
    event_sequence: int  # of the last event that was sent over this connection before this


@message(32)
class CloseSession:
    """The client is done: everything the session holds is given up."""

    session: int


@message(33)
class SessionEnded:
    """The session is no more."""

    session: int
    text: str  # how it ended, one line for people


@message(34)
class Events:
    """What one entry of the log published to the session, or a part of it."""

    session: int
    first_sequence: int  # of the first event; events of a session count from 1 without a hole
    index: int  # of that entry
    events: tuple[bytes, ...]  # each the codec's [resource, event, values]

    @property
    def last_sequence(self) -> int:
        """Of the last event."""
        return self.first_sequence + len(self.events) - 1

    @property
    def size_bytes(self) -> int:
        """What they are counted with, alike on servers and clients."""
        return EVENT_BYTES * len(self.events) + sum(map(len, self.events))


@message(35)
class ResetEvents:
    """The client misses events: send again all after this one, and answer before you do."""

    session: int
    event_sequence: int
    number: int  # higher than that of an earlier question; the same when it is asked again


@message(36)
class Refused:
    """A request was not taken, and nothing of it was appended by this attempt."""

    session: int  # 0 for OPEN_SESSION
    request: int  # a Request
    number: int  # its first sequence, read, request number; 0 when it has none
    reason: int  # a Refusal
    text: str  # one line for people


@message(37)
class LeaderChanged:
    """The server has learnt of a new leader, or has lost the old one."""

    leader: str  # its endpoint as clients dial it; "" when none is known
    term: int


@message(39)
class ResetEventsReply:
    """From here on the events come again; what was sent before this was on its way already."""

    session: int
    number: int  # of the question


@message(38)
class DetachSession:
    """The client has moved to another server; this one sends it nothing more. Not answered."""

    session: int
