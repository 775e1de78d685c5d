"""What a server tells about itself to anybody who asks, without asking anybody else."""

from copycat.actors.message import message


@message(80)
class AskStatus:
    """Sent to the well-known address of a server."""

    request: int


@message(81)
class PeerStatus:
    """What a server knows of another one."""

    name: str
    endpoint: str
    connected: bool
    match_index: int | None  # None unless the one who tells leads
    contact_age_ms: int | None  # since the last answer; None unless the one who tells leads
    match_stood_ms: int | None  # since match_index has moved, while commit_index is beyond it, or 0


@message(83)
class LongHandlers:
    """How often a handler, or other work, has kept a server's loop for longer than it should."""

    name: str  # the actor's class and the handler
    over_10_ms: int  # since the server started
    over_50_ms: int  # of these
    over_200_ms: int  # of these


@message(82)
class Status:
    """The answer, from this server's own knowledge."""

    request: int
    name: str
    server_id: int
    cluster_id: int  # 0: not configured yet
    role: str  # inactive, follower, candidate, leader
    serves: bool  # whether it leads and has applied all that was before: none is served until then
    term: int
    leader: str  # its name; "" when none is known
    last_index: int
    commit_index: int
    applied_index: int
    apply_stood_ms: int  # since applied_index has moved, while commit_index is beyond it; else 0
    log_bytes: int
    log_time_us: int
    sessions: int
    connections: int
    resources: tuple[tuple[str, ...], ...]  # (name, type), at most RESOURCES_SHOWN_MAX
    resource_count: int
    commands_applied: int  # counters since this server started
    queries_answered: int
    elections_started: int
    uptime_ms: int
    election_timeout_ms: int  # the longest
    peers: tuple[PeerStatus, ...]
    handlers: tuple[LongHandlers, ...]
    notes: tuple[str, ...]  # recent happenings, newest last: "<wall ms> <level> <text>"


RESOURCES_SHOWN_MAX = 100
