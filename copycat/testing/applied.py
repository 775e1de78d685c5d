"""Monitors of what is applied: the same on every server, each command once, and what locks promise.

They stand between each Applier and its batches: after every batch they look at what it changed.
"""

from typing import TYPE_CHECKING

from copycat.protocol.client import Events
from copycat.resources.lock import LockMachine
from copycat.server.applier import Applier
from copycat.storage.batch import Batch, BatchKind
from copycat.testing.ledger import Ledger
from copycat.testing.replicated_state import difference, digest_of, resources_of, text_of
from copycat.testing.violation import Story
from copycat.types import Index, ResourceId, SessionId

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode
    from copycat.server.server import Server

DIGEST_EVERY = 8
"""The state of servers is compared after one batch of so many."""

Event = tuple[Index, tuple[bytes, ...]]


class _Following:
    """One life of a server, as far as it has applied the log."""

    def __init__(self, name: str, applier: Applier) -> None:
        self.name = name
        self.applier = applier
        self.batches = 0
        self.tokens: dict[ResourceId, int] = {}  # the last one granted, by lock


class Applied:
    """What was applied where in one world.

    Attributes:
        commands: how many different commands have been applied.
        events: by session, what was published to it: in log order, with the index of each batch.
    """

    def __init__(self, story: Story, ledger: Ledger) -> None:
        self.commands = 0
        self.events: dict[SessionId, list[Event]] = {}
        self._story = story
        self._ledger = ledger
        self._places: dict[tuple[SessionId, int], Index] = {}  # of commands, by first sequence
        self._published: dict[Index, dict[SessionId, tuple[bytes, ...]]] = {}
        self._digests: dict[int, tuple[str, bytes, str]] = {}  # by batches: who, digest, text
        self._following: dict[str, _Following] = {}

    def started(self, name: str, node: "SimulatedNode", server: "Server") -> None:
        """Watch the Applier of a server that has just started."""
        applier: Applier = node.actor_at(server.applier.serial)
        following = self._following[name] = _Following(name, applier)
        apply_batch, queue_events = applier._apply_batch, applier._queue_events

        def watched_apply(batch: Batch) -> None:
            before = applier._progress.commands_applied
            apply_batch(batch)
            self._batch_applied(following, batch, applier._progress.commands_applied - before)

        def watched_queue(index: Index, log_time_us: int) -> dict[SessionId, Events]:
            queued = queue_events(index, log_time_us)
            self._events_published(following.name, index, queued)
            return queued

        applier._apply_batch = watched_apply  # type: ignore[method-assign]
        applier._queue_events = watched_queue  # type: ignore[method-assign]

    def stopped(self, name: str) -> None:
        """A server has stopped, and its state is gone."""
        del self._following[name]

    def _batch_applied(self, following: _Following, batch: Batch, commands: int) -> None:
        name, ordinal = following.name, following.batches
        following.batches += 1
        committed = self._ledger.committed
        if ordinal < len(committed):
            place = committed[ordinal].place
            if (batch.base_index, batch.term) != (place.base_index, place.term):
                raise self._story.violated(
                    "State Machine Safety: servers apply the same batches in the same order"
                    " (§3.6.3)",
                    f"{name} applies {batch!r}, and {committed[ordinal].by} committed index"
                    f" {place.base_index} of term {place.term} there",
                )
        if commands:
            self._commands_applied(name, batch, commands)
        for resource, actor in resources_of(following.applier).items():
            if type(actor.machine) is LockMachine:
                self._check_lock(following, resource, actor.machine)
        if following.batches % DIGEST_EVERY == 0:
            self._compare(following)

    def _commands_applied(self, name: str, batch: Batch, commands: int) -> None:
        assert batch.kind == BatchKind.COMMANDS, "commands come in batches of commands"
        key = (batch.session, batch.first_sequence)
        if key not in self._places:
            self.commands += commands
        known = self._places.setdefault(key, batch.base_index)
        if known != batch.base_index:
            raise self._story.violated(
                "Exactly once: a command of a session is applied at one index, however often it"
                " is in the log (§6.3)",
                f"{name} applies command {batch.first_sequence} of session {batch.session} at"
                f" {batch.base_index}, and it was applied at {known}",
            )

    def _events_published(self, name: str, index: Index, queued: dict[SessionId, Events]) -> None:
        published = {session: message.events for session, message in queued.items()}
        known = self._published.get(index)
        if known is None:
            self._published[index] = published
            for session, events in published.items():
                self.events.setdefault(session, []).append((index, events))
        elif known != published:
            raise self._story.violated(
                "State Machine Safety: servers publish the same events (§6.3)",
                f"{name} publishes {published!r} at {index}, and another server {known!r}",
            )

    def _check_lock(self, following: _Following, resource: ResourceId, lock: LockMachine) -> None:
        if lock._holder is None:
            return
        session, _, token = lock._holder
        if session not in following.applier._sessions:
            raise self._story.violated(
                "Locks: nobody holds a lock whose session has ended",
                f"on {following.name} session {session} holds lock {resource} under token {token}"
                " and is no more",
            )
        last = following.tokens.get(resource, 0)
        if token < last:
            raise self._story.violated(
                "Locks: every grant has a larger token than all before",
                f"on {following.name} lock {resource} is granted under token {token}, after {last}",
            )
        following.tokens[resource] = token

    def _compare(self, following: _Following) -> None:
        text = text_of(following.applier)
        digest = digest_of(text)
        known = self._digests.setdefault(following.batches, (following.name, digest, text))
        if known[1] != digest:
            raise self._story.violated(
                "State Machine Safety: servers that have applied the same log have the same state"
                " (§3.6.3)",
                f"after {following.batches} batches, index"
                f" {following.applier._progress.applied_index}, {following.name} (+) differs from"
                f" {known[0]} (-):\n{difference(text, known[2])}",
            )

    def check_all(self) -> None:
        """Compare the state of all running servers that have applied equally much."""
        states: dict[int, tuple[str, str]] = {}
        for following in self._following.values():
            text = text_of(following.applier)
            who, known = states.setdefault(following.batches, (following.name, text))
            if known != text:
                raise self._story.violated(
                    "State Machine Safety: servers that have applied the same log have the same"
                    " state (§3.6.3)",
                    f"after {following.batches} batches {following.name} (+) differs from {who}"
                    f" (-):\n{difference(text, known)}",
                )
