"""What a server tells of itself: only what it knows without asking anybody (design: status)."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from copycat.protocol.status import RESOURCES_SHOWN_MAX, LongHandlers, PeerStatus, Status

if TYPE_CHECKING:
    from copycat.server.peers import Following
    from copycat.server.server import Server


class Counters:
    """What a server has done since it started.

    Attributes:
        started_s: the monotonic clock at the start.
        elections_started: how often it stood for election.
    """

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.elections_started = 0


def status_of(server: "Server", request: int) -> Status:
    """The status of a server now."""
    now_s = server.now_s()
    progress = server.progress
    shown = islice(progress.resources.items(), RESOURCES_SHOWN_MAX)
    following = server.following()
    peers = []
    for peer in server.peers.values():
        known = following.get(peer.name)
        peers.append(
            PeerStatus(
                name=peer.name,
                endpoint=peer.endpoint,
                connected=peer.connected,
                match_index=known.match_index if known else None,
                contact_age_ms=round((now_s - known.contact_s) * 1000) if known else None,
                match_stood_ms=_match_stood_ms(server, known, now_s) if known else None,
            )
        )
    return Status(
        request=request,
        name=server.options.name,
        server_id=server.identity.server_id,
        cluster_id=server.membership.configuration.cluster_id,
        role=server.role_title,
        serves=server.role_title == "leader" and progress.wanted_index is None,
        term=server.ballot.term,
        leader=server.leader or "",
        last_index=server.log.last_index,
        commit_index=server.commit_index,
        applied_index=progress.applied_index,
        apply_stood_ms=_apply_stood_ms(server, now_s),
        log_bytes=server.log.bytes_used,
        log_time_us=server.log.last_log_time_us,
        sessions=len(progress.sequences),
        connections=len(server.connections),
        resources=tuple((name, kind) for name, (_, kind, _) in shown),
        resource_count=len(progress.resources),
        commands_applied=progress.commands_applied,
        queries_answered=progress.queries_answered,
        elections_started=server.counters.elections_started,
        uptime_ms=round((now_s - server.counters.started_s) * 1000),
        election_timeout_ms=round(server.options.election_timeout_max_s * 1000),
        peers=tuple(peers),
        handlers=tuple(_long_handlers(server)),
        notes=server.notes.all(),
    )


def _long_handlers(server: "Server") -> Iterator[LongHandlers]:
    over = server.environment.handlers.over
    for name in over[0]:
        yield LongHandlers(name, *[counts.get(name, 0) for counts in over])


def _match_stood_ms(server: "Server", known: "Following", now_s: float) -> int:
    if known.match_index >= server.commit_index:
        return 0
    return round((now_s - known.matched_s) * 1000)


def _apply_stood_ms(server: "Server", now_s: float) -> int:
    if server.progress.applied_index >= server.commit_index:
        return 0
    return round((now_s - max(server.progress.moved_s, server.behind_since_s)) * 1000)
