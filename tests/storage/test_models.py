"""Log and ballot against plain models, through lives that end in every way, found by hypothesis."""

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from copycat.actors.simulated_disk import SimulatedDisk
from copycat.storage.ballot import Ballot
from copycat.storage.batch import Batch
from copycat.storage.errors import DiskFailedError
from copycat.storage.log import Log
from every_crash import SERVER
from log_story import Witness, agree, batch

SEGMENT_BYTES = 1_024
CACHE_BYTES = 600
CHANCE = st.randoms(use_true_random=False)
RUN = settings(max_examples=400, stateful_step_count=50, deadline=None)


def end_life(disk: SimulatedDisk, chance: random.Random, *, power: bool) -> None:
    """The power is lost, or the process alone dies; ``chance`` says what is left."""
    disk.random = chance
    if power:
        disk.crash()
    else:
        disk.detach()
    disk.repair()


class LogModel(RuleBasedStateMachine):
    """A log beside a list of batches; every look-up agrees, and every life keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimulatedDisk(random.Random(0))
        self.witness = Witness()
        self.failed = False
        self.born()

    def born(self) -> None:
        """A life begins with what the former ones have left."""
        self.log = Log(self.disk, segment_bytes=SEGMENT_BYTES, cache_bytes=CACHE_BYTES)
        self.witness.begin(self.log)
        self.failed = False

    @precondition(lambda self: not self.failed)
    @rule(count=st.integers(1, 3), rise=st.integers(0, 1), size=st.sampled_from([0, 9, 300, 1_100]))
    def append(self, count: int, rise: int, size: int) -> None:
        operations = len(self.witness.states).to_bytes(4, "big") + bytes(size)
        log = self.log
        added = batch(
            log.last_index + 1, count=count, term=log.last_term + rise, operations=operations
        )
        self.witness.append(log, added)

    @precondition(lambda self: not self.failed)
    @rule(index=st.integers(0, 40))
    def truncate(self, index: int) -> None:
        self.witness.truncate(self.log, self.log.end_at_or_before(min(index, self.log.last_index)))

    @precondition(lambda self: not self.failed)
    @rule()
    def sync(self) -> None:
        self.log.start_sync(SERVER)

    @precondition(lambda self: not self.failed and self.disk.pending)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        token = data.draw(st.sampled_from(self.disk.pending))
        try:
            self.log.handle(self.disk.finish(token))
        except DiskFailedError:
            self.failed = True

    @precondition(lambda self: not self.failed)
    @rule(reopens=st.booleans())
    def settle(self, reopens: bool) -> None:
        """All becomes durable, whatever it takes; the next life may begin in an orderly way."""
        self.disk.repair()
        try:
            self.log.start_sync(SERVER)
            while self.disk.pending:
                self.log.handle(self.disk.finish())
        except DiskFailedError:  # of a sync that was under way before
            self.failed = True
            return
        assert self.log.durable == self.log.written
        assert self.log.synced_index == self.log.last_index
        if reopens:
            self.log.close()
            self.born()

    @rule()
    def fail(self) -> None:
        self.disk.fail_next_sync()

    @rule(power=st.booleans(), chance=CHANCE)
    def die(self, power: bool, chance: random.Random) -> None:
        end_life(self.disk, chance, power=power)
        self.born()

    @invariant()
    def every_look_up_agrees(self) -> None:
        if not self.failed:
            self.log.check()
            agree(self.log, [Batch.decode(record) for record in self.witness.states[-1]])
        self.witness.note(self.log)


class BallotModel(RuleBasedStateMachine):
    """A ballot beside a list of all (term, vote) it ever was."""

    @initialize()
    def begin(self) -> None:
        self.disk = SimulatedDisk(random.Random(0))
        self.history = [(0, 0)]
        self.durable = 0
        self.born()

    def born(self) -> None:
        """A life begins: with what was durable last, or something later, in whole."""
        self.ballot = Ballot(self.disk)
        found = (self.ballot.term, self.ballot.voted_for)
        assert found in self.history[self.durable :]
        self.history.append(found)
        self.base = len(self.history) - 1 - self.ballot.written

    @rule(rise=st.integers(1, 3))
    def raise_term(self, rise: int) -> None:
        self.history.append((self.ballot.term + rise, 0))
        self.ballot.raise_term(self.ballot.term + rise)

    @precondition(lambda self: self.ballot.term)
    @rule(server_id=st.integers(1, 3))
    def vote(self, server_id: int) -> None:
        if self.ballot.voted_for == 0:
            self.history.append((self.ballot.term, server_id))
            self.ballot.vote(server_id)
        else:
            self.ballot.vote(self.ballot.voted_for)

    @rule()
    def sync(self) -> None:
        self.ballot.start_sync(SERVER)

    @precondition(lambda self: self.disk.pending)
    @rule()
    def end(self) -> None:
        self.ballot.handle(self.disk.finish())
        self.durable = max(self.durable, self.base + self.ballot.durable)

    @rule(power=st.booleans(), chance=CHANCE)
    def die(self, power: bool, chance: random.Random) -> None:
        end_life(self.disk, chance, power=power)
        self.born()

    @invariant()
    def every_change_is_counted(self) -> None:
        assert (self.ballot.term, self.ballot.voted_for) == self.history[-1]
        assert self.ballot.written == len(self.history) - 1 - self.base
        assert self.ballot.durable <= self.ballot.written


def test_the_log_behaves_like_a_list() -> None:
    """Whatever is done and however lives end, look-ups and recovery are those of plain lists."""
    run_state_machine_as_test(LogModel, settings=RUN)


def test_the_ballot_behaves_like_a_list() -> None:
    """Its content is always the last one that was given, and after a crash one since the last sync."""
    run_state_machine_as_test(BallotModel, settings=RUN)
