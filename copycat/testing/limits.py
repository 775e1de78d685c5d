"""Limits as small as they may be, and wake-ups as late, so that short stories reach what is rare.

Everything here is legal: it only makes the code take the branches that it takes once a year.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from copycat.actors import NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.simulation import Simulation
from copycat.client import batches, commands, event_order, openings, queries
from copycat.client import window as client_window
from copycat.protocol import client as client_protocol
from copycat.protocol.raft import RequestVote
from copycat.server import (
    delivery,
    operations,
    reads,
    replicator,
    resource,
    session,
    under_way,
    window,
)
from copycat.server.roles import leader, role
from copycat.server.server import Server
from copycat.server.steps import Flush
from copycat.storage import log, segment
from copycat.testing import cluster


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of the code, and the small values that it is given."""

    owner: Any
    attribute: str
    values: tuple[float, ...]


def _begin_low(one: replicator.Replicator) -> int:
    """A leader may begin to send anywhere; followers must bear what they have already."""
    return one._following.match_index


def _flush_after(delay_s: float) -> Callable[[Server], None]:
    """What comes within this time, of whomever, comes in one turn, as on a busy server."""

    def flush_soon(server: Server) -> None:
        if not server._flushing:
            server._flushing = True
            node = server._myRef.node
            node.call_later(delay_s, lambda: node.tell(server.address, Flush()))

    return flush_soon


_answer_vote = role.Role._answer_vote


def _say_votes_twice(
    one: role.Role, message: RequestVote, sender: NodeAddress, *, granted: bool
) -> None:
    """A network that breaks no promise may double what it carries; a vote still counts once."""
    _answer_vote(one, message, sender, granted=granted)
    _answer_vote(one, message, sender, granted=granted)


LIMITS: Mapping[str, Limit] = {
    "budget_s": Limit(Budget.__init__.__kwdefaults__, "time_s", (1e-9,)),  # one element a turn
    "read_groups": Limit(reads, "GROUPS_MAX", (4,)),
    "request_bytes": Limit(replicator, "REQUEST_BYTES_MAX", (1, 500, 5_000)),
    "requests_in_flight": Limit(replicator, "REQUESTS_IN_FLIGHT_MAX", (1, 2, 4)),
    "bytes_in_flight": Limit(replicator, "BYTES_IN_FLIGHT_MAX", (1, 2_000)),
    "waiting_per_session": Limit(window, "WAITING_PER_SESSION_MAX", (2,)),
    "forgotten_sessions": Limit(window, "FORGOTTEN_MAX", (1,)),
    "early_requests": Limit(leader, "EARLY_MAX", (2,)),
    "under_way_of_session_bytes": Limit(under_way, "SESSION_BYTES_MAX", (1, 500)),
    "under_way_of_client_bytes": Limit(under_way, "CLIENT_BYTES_MAX", (1, 500)),
    "under_way_by_link_bytes": Limit(under_way, "LINK_BYTES_MAX", (1, 1_000)),
    "open_bytes": Limit(leader, "OPEN_BYTES_MAX", (2_000,)),
    "event_message_bytes": Limit(session, "MESSAGE_BYTES_MAX", (1, 700)),
    "event_window_bytes": Limit(client_protocol, "EVENTS_WINDOW_BYTES", (600, 4_000)),
    "event_backlog_bytes": Limit(delivery, "BACKLOG_BYTES_MAX", (1, 2_000)),
    "answered_bytes": Limit(operations, "ANSWERED_BYTES_MAX", (0, 20)),
    "small_answers_bytes": Limit(resource, "SMALL_BYTES", (-1,)),
    "light_answers": Limit(resource, "LIGHT", (0,)),  # none
    "answers_behind_bytes": Limit(delivery, "ANSWERS_BEHIND_MAX", (1, 2_000)),
    "segment_bytes": Limit(cluster, "SEGMENT_BYTES", (4_096, 16_384)),
    "pending_bytes": Limit(segment, "_PENDING_BYTES_MAX", (0, 500)),  # written at once
    "readers": Limit(log, "_READERS_MAX", (1,)),
    "cache_bytes": Limit(log.Log.__init__.__kwdefaults__, "cache_bytes", (0, 2_000)),
    "commands_in_flight": Limit(commands, "BATCHES_IN_FLIGHT_MAX", (1, 2)),
    "queries_in_flight": Limit(queries, "BATCHES_IN_FLIGHT_MAX", (1,)),
    "openings_in_flight": Limit(openings, "IN_FLIGHT_MAX", (1,)),
    "client_window_bytes": Limit(client_window, "BYTES_MAX", (1, 200)),
    "session_window_bytes": Limit(client_window, "SESSION_BYTES_MAX", (1, 100)),
    "late_bytes": Limit(batches, "LATE_BYTES_MIN", (1,)),  # all that nobody can change
    "unacknowledged_messages": Limit(event_order, "MANY_MESSAGES", (1, 3)),
    "next_index": Limit(replicator.Replicator, "_guess", (1,)),  # at the lowest, always
    "late_wake_ups_s": Limit(Simulation, "wake_ups_late_s", (0.005, 0.05)),
    "long_turns_s": Limit(Server, "flush_soon", (0.002, 0.02)),
    "votes_twice": Limit(role.Role, "_answer_vote", (2,)),
}
"""What can be made small, by name."""

MAKERS: Mapping[str, Callable[[float], object]] = {
    "next_index": lambda _: _begin_low,
    "light_answers": lambda _: frozenset(),
    "long_turns_s": _flush_after,
    "votes_twice": lambda _: _say_votes_twice,
}
"""Of those that are no number: what makes one for a value."""


def draw_limits(chance: random.Random) -> dict[str, float]:
    """Draw the limits of a world: each is small with the same probability, drawn as well."""
    likely = chance.choice((0.0, 0.25, 0.5))
    drawn = {
        name: chance.choice(limit.values)
        for name, limit in LIMITS.items()
        if chance.random() < likely
    }
    if "next_index" in drawn and chance.random() < 0.5:
        # Else the first request goes to the end of the log, wherever it begins.
        drawn.setdefault("request_bytes", LIMITS["request_bytes"].values[-1])
    if "answered_bytes" in drawn:
        # Else few answers count, as none of those that are drawn is large.
        drawn |= {name: LIMITS[name].values[0] for name in ("small_answers_bytes", "light_answers")}
    return drawn


def limits_with_slow_clients(drawn: Mapping[str, float]) -> dict[str, float]:
    """The limits of a world whose clients take in little: a link is full with whatever waits there.

    Else nearly all that such a client is sent would have room, as it is small.
    """
    limit = "event_backlog_bytes"
    return {limit: LIMITS[limit].values[0], **drawn}


@contextmanager
def small_limits(values: Mapping[str, float]) -> Iterator[None]:
    """Give limits these values while this lasts."""
    with ExitStack() as patches:
        for name, value in values.items():
            limit = LIMITS[name]
            new = MAKERS[name](value) if name in MAKERS else value
            if isinstance(limit.owner, dict):
                patches.enter_context(patch.dict(limit.owner, {limit.attribute: new}))
            else:
                patches.enter_context(patch.object(limit.owner, limit.attribute, new))
        yield
