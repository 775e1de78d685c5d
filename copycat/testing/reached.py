"""What a world has reached: how often rare branches of the code were taken, and under which faults.

A test method that never comes to a branch says nothing about it. So the branches that matter are
named here, are counted in every world, and the run that is to prove something fails when one of
them, or a kind of fault, or a small limit, was not reached at all; see ``sums``.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from math import inf
from typing import Any
from unittest.mock import patch

from copycat.client.commands import Commands
from copycat.client.contact import Contact
from copycat.client.event_order import EventOrder
from copycat.client.session import ClientSession
from copycat.client.window import Room
from copycat.errors import IdentityRefused
from copycat.protocol.raft import ReadIndex
from copycat.resources.lock import AsyncLost, LockMachine
from copycat.server.applier import Applier
from copycat.server.delivery import Delivery
from copycat.server.reading import ReadQueue
from copycat.server.reads import Reads
from copycat.server.replicator import Replicator
from copycat.server.roles.follower import Follower
from copycat.server.roles.leader import Leader
from copycat.server.roles.role import Role
from copycat.server.server import Server
from copycat.server.session import Left, Session
from copycat.server.under_way import UnderWay
from copycat.server.window import Sequencer
from copycat.storage import log
from copycat.storage.errors import DiskFailedError, StorageError
from copycat.storage.log import Log
from copycat.testing.cluster import SimulatedCluster

Test = Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Branch:
    """A place in the code that is counted.

    Attributes:
        owner, attribute: the function: of a class, or of a module.
        before: counts the calls for which this is true of the arguments, before the call is made.
        after: the same for the result and the arguments, after it.
        once_for: counts once in a world what this gives the same value for; None: every call.
    """

    owner: Any
    attribute: str
    before: Test | None = None
    after: Test | None = None
    once_for: Callable[..., Hashable] | None = None


def _is_old(replicator: Replicator, _now_s: float, records: list[bytes], _last_index: int) -> bool:
    return bool(records) and replicator._next_index not in replicator.server.log._cached


def _waits(_result: object, sequencer: Sequencer, message: Any, _sender: object) -> bool:
    return message.first_sequence in sequencer._waiting.get(message.session, ())


def _is_copy(result: object, sequencer: Sequencer, message: Any, sender: object) -> bool:
    return result is None and not _waits(result, sequencer, message, sender)


def _is_ahead(applier: Applier, commands: Any) -> bool:
    applied = applier._progress.sequences.get(commands.session, commands.first_sequence)
    return bool(commands.first_sequence > applied + 1)


def _has_expired(_applier: Applier, _session: int, _index: int, _time_us: int, text: str) -> bool:
    return text == "the session has expired"


def _is_behind(delivery: Delivery, session: int) -> bool:
    at = delivery._attachments.sessions.get(session)
    return at is not None and at.is_behind


def _failed_with_disk(cluster: SimulatedCluster, name: str, error: BaseException) -> bool:
    return isinstance(error, DiskFailedError) and name not in cluster.lost


def _refused_damage(cluster: SimulatedCluster, name: str, error: BaseException) -> bool:
    return name in cluster.lost and isinstance(error, StorageError | IdentityRefused)


BRANCHES: Mapping[str, Branch] = {
    "elections asked for": Branch(Follower, "_ask"),
    "leaders elected": Branch(Server, "become_leader"),
    "split votes": Branch(
        Server, "become_follower", before=lambda _server, patience_s=None: patience_s == 0.0
    ),
    "leaders stepped down": Branch(
        Leader, "_paused_or_cut_off", after=lambda result, *_: bool(result)
    ),
    "requests kept for a new leader": Branch(Leader, "_keep_early"),
    "reads kept for a new leader": Branch(
        Leader, "_keep_early", before=lambda _leader, message, _: isinstance(message, ReadIndex)
    ),
    "requests given back by a leader": Branch(Leader, "_refuse_to_lead"),
    "reads refused without a leader": Branch(
        Reads, "_refuse", before=lambda _reads, refused, _: bool(refused)
    ),
    "requests of a leader rejected": Branch(Role, "_reject"),
    "log truncations": Branch(
        Log, "truncate", before=lambda log_, last_index: last_index < log_.last_index
    ),
    "segment rolls": Branch(Log, "_roll", before=lambda log_: log_._tail is not None),
    "torn tails recovered": Branch(
        log, "recover", after=lambda found, _: bool(found.segments) and not found.resumable
    ),
    "old batches sent": Branch(Replicator, "_send", before=_is_old),
    "commands ahead of their turn": Branch(Sequencer, "arrive", after=_waits),
    "bundles appended": Branch(
        Leader, "_append_gathered", before=lambda leader: len(leader._gathered) > 1
    ),
    "copies of commands dropped": Branch(Sequencer, "arrive", after=_is_copy),
    "sessions expired": Branch(
        Applier, "end_session", before=_has_expired, once_for=lambda _, session, *__: session
    ),
    "sessions moved": Branch(ReadQueue, "_attach"),
    "sessions lost by clients": Branch(
        ClientSession, "_lose", before=lambda client, _text, _now_s: not client._closing
    ),
    "clients in doubt": Branch(
        Contact, "change", before=lambda contact, state: state == "suspended" != contact.state
    ),
    "commands sent again": Branch(
        Commands, "resend", before=lambda commands, _: commands.are_unanswered
    ),
    "requests that found no room": Branch(Room, "take", after=lambda result, *_: not result),
    "batches answered in part": Branch(Commands, "_cut"),
    "commands passed by": Branch(Applier, "_apply_commands", before=_is_ahead),
    "commands encoded late": Branch(
        Commands,
        "_next_batch",
        before=lambda commands, _: not commands.unsent.batches[0].operations,
    ),
    "events asked for again": Branch(
        EventOrder, "_miss", before=lambda order, _: order.ask_at_s == inf
    ),
    "entries with events divided": Branch(Session, "_queue_parts"),
    "events that waited for the client": Branch(
        Delivery, "send", before=lambda _, __, ___, found: found.left is Left.HELD_BACK
    ),
    "events that waited for the link": Branch(Delivery, "drained"),
    "reads that waited for the link": Branch(ReadQueue, "_wait_for_link"),
    "events that waited for their turn": Branch(Delivery, "keeps_up", before=_is_behind),
    "commands refused for bytes under way": Branch(
        UnderWay, "take", after=lambda result, *_: bool(result)
    ),
    "lock handovers": Branch(
        LockMachine,
        "_pass_on",
        before=lambda lock, _: bool(lock._queue),
        once_for=lambda lock, commit: (commit.index, lock._last_token),
    ),
    "locks lost by clients": Branch(AsyncLost, "_set"),
    "servers failed with their disk": Branch(SimulatedCluster, "_failed", before=_failed_with_disk),
    "damage refused": Branch(SimulatedCluster, "_failed", before=_refused_damage),
}
"""Every branch that is counted, by name."""

UNKNOWN_OUTCOMES = "unknown outcomes"
REFUSALS = "refusals"
COUNTED = (*BRANCHES, UNKNOWN_OUTCOMES, REFUSALS)
"""All that ``Reached`` counts: the branches, and what clients are left with."""


class Reached:
    """The counters of one world.

    Attributes:
        counts: how often each was reached, by name; all of ``COUNTED`` are there.
        meanwhile: the same by kind of fault, while one of that kind was in force or had just been.
        in_force: the kinds of the faults that are in force now; assign it.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self.meanwhile: dict[str, Counter[str]] = {}
        self.in_force: Callable[[], Iterable[str]] = tuple

    def count(self, name: str) -> None:
        """Something was reached once more."""
        self.counts[name] += 1
        for kind in self.in_force():
            self.meanwhile.setdefault(kind, Counter())[name] += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count every branch while this lasts."""
        with ExitStack() as patches:
            for name, branch in BRANCHES.items():
                # Of two that are counted in one function the later one stands around the earlier.
                function = getattr(branch.owner, branch.attribute)
                watched = self._watched(name, branch, function)
                patches.enter_context(patch.object(branch.owner, branch.attribute, watched))
            yield

    def _watched(
        self, name: str, branch: Branch, function: Callable[..., Any]
    ) -> Callable[..., Any]:
        before, after, once_for = branch.before, branch.after, branch.once_for
        seen: set[Hashable] = set()

        def reached(*arguments: Any) -> None:
            if once_for is not None:
                place = once_for(*arguments)
                if place in seen:
                    return
                seen.add(place)
            self.count(name)

        @wraps(function)
        def before_call(*arguments: Any, **options: Any) -> Any:
            if before is None or before(*arguments, **options):
                reached(*arguments)
            return function(*arguments, **options)

        @wraps(function)
        def after_call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            if after is not None and after(result, *arguments, **options):
                reached(*arguments)
            return result

        return before_call if after is None else after_call
