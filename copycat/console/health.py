"""What the answers of the servers say together: who leads, who is there, what still works."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from copycat.client.status import Answer, NoAnswer
from copycat.console.notation import age_text
from copycat.protocol.status import Status

STANDS_STILL_MS = 1_000
"""A server whose applied index stands behind its commit index for longer is not well: a state machine
does not come to its end, or something is broken that should have stopped the server."""

TAKES_NOTHING_MS = 5_000
"""A server that has taken nothing over for longer of what is committed is not well either, though it
answers; a slow disk takes less for one record."""

CUT_OFF_MS = 1_000
"""A server of which the leader has not heard for longer, nor for an election time-out, takes no part:
it is refused, or there is no way between the two, or it hangs."""

Trouble = Literal["", "down", "cut off", "stands still", "starts"]

Verdict = Literal["healthy", "degraded", "no leader", "unreachable"]


@dataclass(frozen=True, slots=True)
class Member:
    """One server, whether it answered or not.

    Attributes:
        id: its name; its endpoint if nobody knows its name.
        endpoint: as the other servers call it, or as it was dialled; "" if neither is known.
        status: what it says of itself; None when it did not answer.
        trouble: in a word; "" when it is well.
        reason: why it did not answer, or is not well though it did; "" when it is well.
    """

    id: str
    endpoint: str
    status: Status | None
    trouble: Trouble = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A cluster at one moment.

    Attributes:
        members: in the order of their names.
        leader: the name of the server that leads and serves; None when none does, as far as can be
            seen.
        term: the highest that a server told; None when none answered.
        total: how many servers there are, as far as is known.
    """

    members: tuple[Member, ...]
    leader: str | None
    term: int | None
    total: int

    @property
    def statuses(self) -> list[Status]:
        """What those say that answered."""
        return [member.status for member in self.members if member.status is not None]

    @property
    def well(self) -> int:
        """How many servers are there and take part as they should."""
        return sum(not member.trouble for member in self.members)

    @property
    def majority(self) -> int:
        """How many servers have to be there for anything to be written."""
        return self.total // 2 + 1

    @property
    def verdict(self) -> Verdict:
        """The whole in a word."""
        if not self.statuses:
            return "unreachable"
        if self.leader is None:
            return "no leader"
        if any(member.trouble for member in self.members if member.status is not None):
            return "degraded"
        return "healthy" if len(self.statuses) == self.total else "degraded"


def health_of(answers: Sequence[Answer]) -> Health:
    """Put answers together; each server comes once in them.

    A server of another cluster than most is shown, but counts as not there: it was started with
    the wrong directory, or at the wrong endpoint.
    """
    heard = [answer for answer in answers if isinstance(answer, Status)]
    cluster_id = _cluster_id(heard)
    statuses = [status for status in heard if status.cluster_id in (0, cluster_id)]
    endpoints = {peer.name: peer.endpoint for status in statuses for peer in status.peers}
    told = [1 + len(status.peers) for status in statuses]
    total = max(told) if told else len(answers)
    leader = _leader(statuses, total)
    leads = next((status for status in statuses if status.name == leader), None)
    members = [
        Member(status.name, endpoints.get(status.name, ""), status, *_trouble(status, leads))
        for status in statuses
    ]
    members += [
        Member(answer.name or answer.endpoint, answer.endpoint, None, "down", answer.reason)
        for answer in answers
        if isinstance(answer, NoAnswer)
    ]
    members += [
        Member(
            status.name,
            endpoints.get(status.name, ""),
            None,
            "down",
            f"a server of another cluster: {status.cluster_id:016x}, not {cluster_id:016x}",
        )
        for status in heard
        if status not in statuses
    ]
    members.sort(key=lambda member: _natural(member.id))
    return Health(
        members=tuple(members),
        leader=leader,
        term=max((status.term for status in statuses), default=None),
        total=total,
    )


def _trouble(status: Status, leader: Status | None) -> tuple[Trouble, str]:
    """What is wrong with a server that answers, in a word and in a line; nothing for most.

    Whether it takes part is for the leader to say, who hears of it at each heartbeat.
    """
    if status.role == "leader" and not status.serves:
        return "starts", (
            f"was elected in term {status.term} and serves nobody before it has applied what its log has:"
            f" {status.applied_index:,} of {status.commit_index:,} committed entries"
        )
    told = () if leader is None else [peer for peer in leader.peers if peer.name == status.name]
    for peer in told:
        assert leader is not None, "somebody told it"
        age_ms = peer.contact_age_ms or 0
        if age_ms > max(CUT_OFF_MS, leader.election_timeout_ms):
            terms = ""
            if status.term != leader.term:
                terms = f"; it is in term {status.term}, not {leader.term}"
            return "cut off", (
                f"takes no part: {leader.name}, which leads, has not heard of it for"
                f" {age_text(age_ms / 1000)}{terms}; the logs of both say why"
            )
        stood_ms = peer.match_stood_ms or 0
        if stood_ms > TAKES_NOTHING_MS:
            return "stands still", (
                f"has taken over nothing behind entry {peer.match_index or 0:,} for"
                f" {age_text(stood_ms / 1000)}, of {leader.commit_index:,} committed"
                f" ones that {leader.name} has, which leads; the logs of both say why"
            )
    if status.apply_stood_ms > STANDS_STILL_MS:
        return "stands still", (
            f"stands still at {status.applied_index:,} of {status.commit_index:,} committed entries"
            f" for {age_text(status.apply_stood_ms / 1000)}: its log says what it works at"
        )
    return "", ""


def _cluster_id(statuses: list[Status]) -> int:
    """The cluster that most of those belong to who answered; 0 if they have none yet."""
    told = Counter(status.cluster_id for status in statuses if status.cluster_id)
    return told.most_common(1)[0][0] if told else 0


def _leader(statuses: list[Status], total: int) -> str | None:
    """Who leads and serves in the highest term: whoever says so of himself; else, if he did not answer us,
    whom a majority of all servers follows.

    What older terms say is past. A server that answers and does not call itself the leader does
    not lead, whatever others still believe.
    """
    term = max((status.term for status in statuses), default=0)
    latest = [status for status in statuses if status.term == term]
    for status in latest:
        if status.role == "leader":
            return status.name if status.serves else None
    reached = {status.name for status in statuses}
    followed = Counter(status.leader for status in latest if status.leader)
    for name, followers in followed.most_common(1):
        if name not in reached and followers * 2 > total:
            return name
    return None


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Puts n2 before n10."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
