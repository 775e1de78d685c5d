"""The model: what one look at the cluster shows, worked out from the answers of its servers.

An ``Observer`` remembers what a single look cannot tell: rates, since when there is no leader,
when a server was last heard. Every figure is one that a server told, or the difference of two;
what is not known is None. Nothing here knows of a terminal.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from copycat.client.status import Answer
from copycat.console.health import Health, Member, health_of
from copycat.protocol.status import PeerStatus, Status

HISTORY_MAX = 240  # rates that are kept for the curves
LAG_WARNING = 1000  # entries


@dataclass(frozen=True, slots=True)
class Row:
    """One server in the list of members."""

    name: str
    endpoint: str
    leads: bool
    role: str
    condition: str  # OK, or a word behind "!" (look at it) or "X" (it is gone)
    term: int | None
    match: int | None  # up to where its log agrees with the leader's, as the leader knows
    lag: int | None  # entries that the leader has and this one has not
    last: int | None  # the end of its log
    commit: int | None  # how much of it is known to be decided
    apply_lag: int | None  # entries that are committed and not applied yet
    heard_s: float | None  # since it answered the leader last
    seen_s: float | None  # since it answered us last; None: never
    log_bytes: int | None
    connections: int | None
    uptime_s: float | None
    reason: str  # why it did not answer us, or is not well; "" when it is


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a server noted."""

    wall_s: float
    level: str
    server: str
    text: str


@dataclass(frozen=True, slots=True)
class Leaderless:
    """A time without a leader that we could see."""

    since_wall_s: float
    age_s: float
    last_leader: str | None  # that we have seen; None: none yet
    term_before: int | None
    elections: int  # started since, as far as the servers that answer tell


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a screen shows."""

    wall_s: float
    watched_s: float
    health: Health
    rows: tuple[Row, ...]
    events: tuple[Event, ...]  # newest first, those of servers that are gone too
    write_per_s: float | None
    read_per_s: float | None
    writes: tuple[float | None, ...]  # the rates of each look from the second on, newest last
    reads: tuple[float | None, ...]
    leaderless: Leaderless | None
    looks: int  # how often we have looked
    last_contact_wall_s: float | None  # when a server answered us last


@dataclass(slots=True)
class _Memory:
    """What is kept of a server."""

    status: Status
    at_s: float


@dataclass(slots=True)
class Observer:
    """Turns answers into pictures, one look after the other.

    Times are given to it: ``now_s`` on a clock that never goes back, ``wall_s`` since 1970.
    """

    began_s: float | None = None
    looks: int = 0
    _known: dict[str, _Memory] = field(default_factory=dict)
    _endpoints: dict[str, str] = field(default_factory=dict)  # by name, as the others told
    _looked_s: float = 0.0
    _writes: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    _reads: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    _last_leader: str | None = None
    _last_term: int | None = None
    _leaderless_since: tuple[float, float] | None = None  # now_s and wall_s
    _elections: int = 0  # since there is no leader
    _last_contact_wall_s: float | None = None

    def observe(self, answers: Sequence[Answer], now_s: float, wall_s: float) -> Picture:
        """Take a look into account."""
        health = health_of(answers)
        if self.began_s is None:
            self.began_s = now_s
        self.looks += 1
        write_per_s, read_per_s = self._rates(health, now_s)
        if self.looks > 1:
            self._writes.append(write_per_s)
            self._reads.append(read_per_s)
        leaderless = self._notice_leader(health, now_s, wall_s)
        for member in health.members:
            self._endpoints[member.id] = member.endpoint or self._endpoints.get(member.id, "")
        for status in health.statuses:
            self._known[status.name] = _Memory(status, now_s)
            self._last_contact_wall_s = wall_s
        self._looked_s = now_s
        return Picture(
            wall_s=wall_s,
            watched_s=now_s - self.began_s,
            health=health,
            rows=tuple(self._row(member, health, now_s) for member in health.members),
            events=_events([known.status for known in self._known.values()]),
            write_per_s=write_per_s,
            read_per_s=read_per_s,
            writes=tuple(self._writes),
            reads=tuple(self._reads),
            leaderless=leaderless,
            looks=self.looks,
            last_contact_wall_s=self._last_contact_wall_s,
        )

    def _rates(self, health: Health, now_s: float) -> tuple[float | None, float | None]:
        """Writes by what the leader has applied, reads by what all servers have answered."""
        if self.looks == 1 or now_s <= self._looked_s:
            return None, None
        spent_s = now_s - self._looked_s
        lasting = [status for status in health.statuses if self._lasts(status)]
        writes = [
            status.commands_applied - self._known[status.name].status.commands_applied
            for status in lasting
            if status.name == health.leader
        ]
        reads = [
            status.queries_answered - self._known[status.name].status.queries_answered
            for status in lasting
        ]
        return (
            max(0, writes[0]) / spent_s if writes else None,
            max(0, sum(reads)) / spent_s if reads else None,
        )

    def _lasts(self, status: Status) -> bool:
        """Whether the server answered the last time too, in the same life: counters begin anew."""
        known = self._known.get(status.name)
        return (
            known is not None
            and known.at_s == self._looked_s
            and known.status.server_id == status.server_id
            and known.status.uptime_ms <= status.uptime_ms
        )

    def _notice_leader(self, health: Health, now_s: float, wall_s: float) -> Leaderless | None:
        if health.verdict == "unreachable":
            return None  # nothing is known
        if health.leader is not None:
            self._last_leader, self._last_term = health.leader, health.term
            self._leaderless_since, self._elections = None, 0
            return None
        if self._leaderless_since is None:
            self._leaderless_since = (now_s, wall_s)
        for status in health.statuses:
            if self._lasts(status):
                before = self._known[status.name].status.elections_started
                self._elections += status.elections_started - before
        since_s, since_wall_s = self._leaderless_since
        return Leaderless(
            since_wall_s, now_s - since_s, self._last_leader, self._last_term, self._elections
        )

    def _row(self, member: Member, health: Health, now_s: float) -> Row:
        told = _told_by_leader(health, member.id)
        known = self._known.get(member.id)
        status = member.status
        match = (told.match_index or None) if told is not None else None  # 0: not known yet
        leader = _leader_status(health)
        if leader is not None and leader is status:
            match = status.last_index
        lag = None
        if leader is not None and leader is not status and match is not None:
            lag = max(0, leader.last_index - match)
        return Row(
            name=member.id,
            endpoint=self._endpoints[member.id],
            leads=member.id == health.leader,
            role=status.role if status is not None else "?",
            condition=_condition(member, lag),
            term=status.term if status is not None else None,
            match=match,
            lag=lag,
            last=status.last_index if status is not None else None,
            commit=status.commit_index if status is not None else None,
            apply_lag=status.commit_index - status.applied_index if status is not None else None,
            heard_s=None
            if told is None or told.contact_age_ms is None
            else told.contact_age_ms / 1000,
            seen_s=None if known is None else now_s - known.at_s,
            log_bytes=status.log_bytes if status is not None else None,
            connections=status.connections if status is not None else None,
            uptime_s=status.uptime_ms / 1000 if status is not None else None,
            reason=member.reason,
        )


def _condition(member: Member, lag: int | None) -> str:
    if member.trouble:
        return {
            "down": "XDOWN",
            "cut off": "XCUT",  # we reach it, the leader does not
            "stands still": "XSTILL",  # it applies nothing of what is committed
            "starts": "!STARTS",  # it leads, and applies its log before it serves
        }[member.trouble]
    if member.status is not None and member.status.role == "inactive":
        return "!WAITS"  # for servers it has never met
    if lag is not None and lag > LAG_WARNING:
        return "!BEHIND"
    return "OK"


def _leader_status(health: Health) -> Status | None:
    for status in health.statuses:
        if status.name == health.leader:
            return status
    return None


def _told_by_leader(health: Health, name: str) -> PeerStatus | None:
    """What the leader says of one of the others."""
    leader = _leader_status(health)
    if leader is not None:
        for peer in leader.peers:
            if peer.name == name:
                return peer
    return None


def _events(statuses: Sequence[Status]) -> tuple[Event, ...]:
    """What servers noted, newest first. A note of a form that we do not know is left out."""
    events = []
    for status in statuses:
        for note in status.notes:
            wall_ms, _, rest = note.partition(" ")
            level, _, text = rest.partition(" ")
            if wall_ms.isdecimal() and text:
                events.append(Event(int(wall_ms) / 1000, level, status.name, text))
    events.sort(key=lambda event: event.wall_s, reverse=True)
    return tuple(events)
