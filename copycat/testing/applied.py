"""Monitors of what is applied: the same on every server, each command once, and what locks promise.

They stand between each Applier and its batches, and between it and the sessions and resources that
it steps. After every batch they compare what it has touched with what it did on other servers, and
every ``WHOLE_STATE_BATCHES`` batches the whole state.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from copycat.actors import NodeAddress
from copycat.resources.lock import LockMachine
from copycat.server.applier import Applier
from copycat.server.resource import Resource
from copycat.server.steps import (
    AnswerQueries,
    ApplyOperations,
    AskAnswer,
    CommandsAnswered,
    EndSession,
    EventsAfter,
    EventsPublished,
)
from copycat.storage.batch import Batch, BatchKind, Commands
from copycat.testing import rules
from copycat.testing.ledger import Ledger
from copycat.testing.replicated_state import (
    Part,
    children_of,
    counts_of,
    difference,
    part_of,
    parts_of,
    state_of_results,
)
from copycat.testing.violation import InvariantViolated, Story
from copycat.types import Index, ResourceId, SessionId, Term

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode
    from copycat.server.server import Server

WHOLE_STATE_BATCHES = 32
EXPIRED = "the session has expired"
LOOKS = frozenset((AskAnswer, AnswerQueries, EventsAfter))
"""What changes nothing."""

Answered = tuple[int, Index, bytes]
"""Of a batch of commands: the sequence of the last one, its index, and the results."""


class _Following:
    """One life of a server, as far as it has applied the log."""

    def __init__(self, name: str, applier: Applier) -> None:
        self.name = name
        self.applier = applier
        self.batches = 0
        self.index: Index = 0  # of the batch that is being applied
        self.sequences: dict[SessionId, int] = {}  # of the last command that was applied
        self.cut: set[SessionId] = set()  # of whose last batch only a part was applied
        self.touched: dict[NodeAddress, Any] = {}  # the actors stepped by the last batch
        self.events: dict[SessionId, int] = {}  # how many were queued
        self.applied = 0  # operations of the batch that is being applied
        self.answered = 0  # and the commands of it that were answered
        self.locks: dict[ResourceId, LockMachine] = {}
        self.grants: dict[ResourceId, list[int]] = {}  # the last one seen: session, request, token
        self.holders: dict[ResourceId, list[int] | None] = {}  # likewise, of whoever held it last
        self.queues: dict[ResourceId, list[list[int]]] = {}  # session and request, as last seen


class Applied:
    """What was applied where in one world.

    Attributes:
        commands: how many different commands have been applied.
        answers: by session and first sequence, the answer to each batch of commands.
        events: by session, what was published to it: each event with the index of its batch.
        on_expiry: is called when a session expires on the first server: who, the session, the index.
    """

    def __init__(self, story: Story, ledger: Ledger) -> None:
        self.commands = 0
        self.answers: dict[tuple[SessionId, int], Answered] = {}
        self.events: dict[SessionId, list[tuple[Index, bytes]]] = {}
        self.on_expiry: Callable[[str, SessionId, Index], None] = lambda *_: None
        self._story = story
        self._ledger = ledger
        self._expired: set[SessionId] = set()
        self._order: list[tuple[str, tuple[Index, Term]]] = []  # who was first to apply what
        self._compared = 0  # so much of it was compared with what is committed
        self._changes: dict[Index, tuple[str, list[Part]]] = {}  # by index: whose are known
        self._states: dict[Index, tuple[str, list[Part]]] = {}
        self._following: dict[str, _Following] = {}

    def started(self, name: str, node: "SimulatedNode", server: "Server") -> None:
        """Watch the Applier of a server that has just started."""
        applier: Applier = node.actor_at(server.applier.serial)
        following = self._following[name] = _Following(name, applier)
        apply_batch, step = applier._apply_batch, applier.step
        end_session, children, touched = (
            applier.end_session, children_of(applier), following.touched
        )  # fmt: skip

        def watched_apply(batch: Batch) -> Iterator[None]:
            following.index = batch.base_index
            following.applied = following.answered = 0
            touched.clear()
            yield from apply_batch(batch)
            self._batch_applied(following, batch)

        def watched_step(
            child: NodeAddress, message: Any, sender: NodeAddress | None = None
        ) -> Any:
            actor, kind = children[child.serial].actor, type(message)
            if kind not in LOOKS:  # those may come while a batch is applied in several turns
                touched[child] = actor
            found = step(child, message, sender)
            if kind is ApplyOperations:
                following.applied += len(found[0])
            elif kind is CommandsAnswered:
                self._commands_answered(following, actor.session, message)
            elif kind is EventsPublished and found is not None:
                self.events_queued(name, following.events, actor.session, message)
            if type(actor) is Resource and type(actor.machine) is LockMachine:
                by = message.session if kind in (ApplyOperations, EndSession) else 0
                self._look_at_lock(following, actor.resource, actor.machine, by)
            return found

        def watched_end(
            session: SessionId, index: Index, log_time_us: int, text: str
        ) -> Iterator[None]:
            yield from end_session(session, index, log_time_us, text)
            if text == EXPIRED and session not in self._expired:
                self._expired.add(session)
                self.on_expiry(name, session, index)

        applier._apply_batch = watched_apply  # type: ignore[method-assign]
        applier.step = watched_step  # type: ignore[method-assign]
        applier.end_session = watched_end  # type: ignore[method-assign]

    def stopped(self, name: str) -> None:
        """A server has stopped, and its state is gone."""
        del self._following[name]

    def index_of(self, name: str) -> Index:
        """How far a server has applied the log in its present life."""
        following = self._following.get(name)
        return following.applier._progress.applied_index if following else 0

    def _batch_applied(self, following: _Following, batch: Batch) -> None:
        name, place = following.name, (batch.base_index, batch.term)
        order, ordinal = self._order, following.batches
        following.batches += 1
        if ordinal == len(order):
            order.append((name, place))
        if order[ordinal][1] != place:
            raise self._not_the_same(name, place, *order[ordinal])
        self._check_order()
        self._ledger.check_record(name, batch)
        if following.applied > following.answered:
            raise self._story.violated(
                rules.EXACTLY_ONCE,
                f"{name} applies {following.applied} operations of {batch!r}, and answers"
                f" {following.answered}",
                who=(name,),
                index=batch.base_index,
            )
        if batch.kind is BatchKind.COMMANDS:
            self._check_turn(following, batch)
        for commands in batch.commands() if batch.kind is BatchKind.BUNDLE else ():
            self._check_turn(following, commands)
        self._check_locks(following)
        self._compare_changes(following)
        if following.batches % WHOLE_STATE_BATCHES == 0:
            self._compare(self._states, following, parts_of(following.applier))

    def _check_turn(self, following: _Following, commands: Batch | Commands) -> None:
        """Commands are left out only when they were applied before, or behind others that were."""
        session, first = commands.session, commands.first_sequence
        last, applied = first + commands.count - 1, following.sequences.get(session, 0)
        if first <= applied < last:
            following.cut.add(session)
        elif applied == last:
            following.cut.discard(session)
        elif (
            first > applied
            and session not in following.cut
            and session in following.applier._sessions
        ):
            raise self._story.violated(
                rules.EXACTLY_ONCE,
                f"{following.name} passes by commands {first} to {last} of session {session}, of which"
                f" it has applied all up to {applied}",
                who=(following.name,),
                index=commands.base_index,
            )

    def _check_order(self) -> None:
        """Compare what was applied with what was seen to be committed, perhaps a moment later."""
        order, committed = self._order, self._ledger.committed
        while self._compared < len(order) and self._compared < len(committed):
            known, (name, place) = committed[self._compared], order[self._compared]
            if (known.place.base_index, known.place.term) != place:
                committed_place = (known.place.base_index, known.place.term)
                raise self._not_the_same(name, place, known.by, committed_place)
            self._compared += 1

    def _not_the_same(
        self, name: str, place: tuple[Index, Term], other: str, known: tuple[Index, Term]
    ) -> InvariantViolated:
        return self._story.violated(
            rules.SAME_APPLIED,
            f"{name} applies index {place[0]} of term {place[1]} where {other} has {known[0]} of term"
            f" {known[1]}",
            who=(name, other),
            index=place[0],
        )

    def _commands_answered(
        self, following: _Following, session: SessionId, message: CommandsAnswered
    ) -> None:
        name, first, last = following.name, message.first_sequence, message.last_sequence
        index = message.base_index
        following.answered += last - first + 1
        before = following.sequences.get(session, 0)
        answer = (last, index, state_of_results(message.results))
        known = self.answers.get((session, first))
        if known is None:
            known = self.answers[session, first] = answer
            self.commands += last - first + 1
        if first != before + 1 or known[:2] != (last, index):
            raise self._story.violated(
                rules.EXACTLY_ONCE,
                f"{name} applies commands {first} to {last} of session {session} at {index}, after"
                f" command {before}; the batch from {first} to {known[0]} was applied at {known[1]}",
                who=(name,),
                index=index,
            )
        following.sequences[session] = last
        if known != answer:
            raise self._story.violated(
                rules.SAME_ANSWERS,
                f"{name} answers commands {first} to {last} of session {session} at {index} with"
                f" {message.results!r}, and another server with {known[2]!r}",
                who=(name,),
                index=index,
            )

    def note_events(self, name: str, applier: Applier) -> None:
        """Note what a server publishes, where nothing else of it is watched."""
        step, children = applier.step, children_of(applier)
        counts: dict[SessionId, int] = {}

        def noted(child: NodeAddress, message: Any, sender: NodeAddress | None = None) -> Any:
            found = step(child, message, sender)
            if type(message) is EventsPublished and found is not None:
                self.events_queued(name, counts, children[child.serial].actor.session, message)
            return found

        applier.step = noted  # type: ignore[method-assign]

    def events_queued(
        self,
        name: str,
        counts: dict[SessionId, int],
        session: SessionId,
        published: EventsPublished,
    ) -> None:
        """A server has queued events in a session.

        Args:
            name: the server.
            counts: how many events it has queued before in its present life, by session.
            session: the session.
            published: the index and the events, however they will be divided.
        """
        known = self.events.setdefault(session, [])
        for event in published.events:  # type: ignore[attr-defined]
            count, queued = counts.get(session, 0), (published.index, event.content)
            counts[session] = count + 1
            if count == len(known):
                known.append(queued)
            elif known[count] != queued:
                raise self._story.violated(
                    rules.SAME_EVENTS,
                    f"event number {count + 1} of session {session} is {queued!r} on {name}, and on"
                    f" another server {known[count]!r}",
                    who=(name,),
                    index=published.index,
                )

    # Locks.

    def _look_at_lock(
        self, following: _Following, resource: ResourceId, lock: LockMachine, by: SessionId
    ) -> None:
        """After every step of a lock: several grants may come from one batch.

        Args:
            by: the session whose commands or whose end it was; 0 for none.
        """
        following.locks[resource] = lock
        held, following.holders[resource] = following.holders.get(resource), lock._holder
        if held is not None and held != lock._holder and held[0] != by:
            raise self._story.violated(
                rules.HOLDERS_KEEP,
                f"on {following.name} session {held[0]} loses lock {resource}, which it holds under"
                f" token {held[2]}, by session {by}",
                who=(following.name,),
                index=following.index,
            )
        queue = [entry[:2] for entry in lock._queue.values()]
        waited, following.queues[resource] = following.queues.get(resource, []), queue
        holder, last = lock._holder, following.grants.get(resource)
        if holder is None or holder == last:
            return
        if last is not None and holder[2] <= last[2]:
            raise self._story.violated(
                rules.TOKENS_GROW,
                f"on {following.name} lock {resource} is granted to session {holder[0]} under token"
                f" {holder[2]}, and was granted to session {last[0]} under {last[2]}",
                who=(following.name,),
                index=following.index,
            )
        following.grants[resource] = list(holder)
        before = waited[: waited.index(holder[:2])] if holder[:2] in waited else waited
        if any(request in queue for request in before):
            raise self._story.violated(
                rules.LONGEST_FIRST,
                f"on {following.name} lock {resource} is granted to session {holder[0]}, and of"
                f" those who wait one came before it: {queue}",
                who=(following.name,),
            )

    def _check_locks(self, following: _Following) -> None:
        sessions = following.applier._sessions
        for resource, lock in following.locks.items():
            holder = lock._holder
            dead = [session for session in lock._tickets if session not in sessions]
            if holder is not None and holder[0] not in sessions:
                dead.insert(0, holder[0])
            if dead:
                what = f"holds it under token {holder[2]}" if holder and holder[0] in dead else ""
                raise self._story.violated(
                    rules.LOCKS_OF_THE_LIVING,
                    f"on {following.name} session {dead[0]} {what or 'awaits it'} and is no more:"
                    f" lock {resource}",
                    who=(following.name,),
                    index=following.index,
                )

    # State.

    def _compare_changes(self, following: _Following) -> None:
        """Compare what this batch has touched, and how many sessions and resources there are."""
        applier = following.applier
        children = children_of(applier)
        parts = [counts_of(applier)]
        parts += [
            part_of(actor) for at, actor in following.touched.items() if at.serial in children
        ]
        self._compare(self._changes, following, parts)

    def _compare(
        self,
        all_known: dict[Index, tuple[str, list[Part]]],
        following: _Following,
        mine: list[Part],
    ) -> None:
        index = following.applier._progress.applied_index
        name, known = all_known.setdefault(index, (following.name, mine))
        if known != mine:
            raise self._story.violated(
                rules.SAME_STATE,
                f"after index {index} {following.name} (+) differs from {name} (-):\n"
                f"{difference(mine, known)}",
                who=(following.name, name),
                index=index,
            )

    def check_all(self) -> None:
        """Compare the whole state of all running servers with that of any server at that index."""
        self._check_order()
        for following in self._following.values():
            if following.applier._begun is None:
                self._compare(self._states, following, parts_of(following.applier))
