"""Messages between servers (dissertation §3, §4.2.3, §6.4, §9.6).

Requests go to the well-known address of a server, replies to the actor that asked.
"""

from copycat.actors.message import message


@message(50)
class PreVote:
    """A follower asks whether it could win an election, before it raises its term (§9.6)."""

    term: int  # the term it would campaign in
    candidate: int  # server id
    last_index: int
    last_term: int
    round: int  # counts the asker's questions; echoed in the reply


@message(51)
class PreVoteReply:
    """Whether the server would vote for the asker in that term."""

    term: int  # the term asked about if granted, else the term of the one who answers
    voter: int
    granted: bool
    round: int  # a late answer does not count in a later round


@message(52)
class RequestVote:
    """A candidate asks for a vote (§3.4)."""

    term: int
    candidate: int
    last_index: int
    last_term: int


@message(53)
class RequestVoteReply:
    """A vote, or none; sent when term and vote are durable."""

    term: int
    voter: int
    granted: bool


@message(54)
class AppendEntries:
    """The leader replicates batches; with none it only says that it still leads (§3.5)."""

    term: int
    leader: int
    prev_index: int  # the end of the batch just before; 0 when there is none
    prev_term: int
    commit_index: int  # the leader's
    round: int  # counts confirmations of leadership; echoed in the reply
    batches: tuple[bytes, ...]  # records as they stand in the leader's log
    log_time_us: int = 0  # the leader's; it stands still until the leader serves
    request: int = 0  # counts what this leader has sent to this server; echoed in the reply


@message(55)
class AppendEntriesReply:
    """What the follower has, durable, of the leader's log."""

    term: int
    accepted: bool
    match_index: int  # accepted: verified and durable up to here; else a hint where to go on
    request: int  # which is answered
    round: int
    serves_clients: bool  # wants to learn of a new commit index at once


@message(56)
class ReadIndex:
    """A server asks the leader for an index at which a linearizable read may run (§6.4)."""

    request: int


@message(57)
class ReadIndexReply:
    """Leadership was confirmed after the request arrived."""

    request: int
    index: int  # 0: not the leader (any more); ask again


@message(58, bulk=True)
class Propose:
    """A connection hands the leader what is to be appended for a client."""

    kind: int  # a BatchKind
    session: int
    first_sequence: int  # of commands; else the request's own number, or 0
    count: int
    response_sequence: int
    event_sequence: int
    operations: bytes


@message(59)
class ProposalRefused:
    """The server asked did not append the proposal."""

    kind: int
    session: int
    first_sequence: int
    nonce: bytes  # of the session that was to be opened; else empty
    reason: int  # a Refusal
    text: str
