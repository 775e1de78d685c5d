"""A log that lives, crashes and lives again on a memory disk, and what must be true of it then."""

import random

from copycat.storage.batch import Batch, BatchKind
from copycat.storage.log import Log
from memory_disk import SERVER, MemoryDisk, PowerCutError

SEGMENT_BYTES = 2_048


def batch(base_index: int, *, count: int = 1, term: int = 1, operations: bytes = b"") -> Batch:
    """A batch with as little in it as the test needs."""
    return Batch.encode(
        kind=BatchKind.COMMANDS,
        base_index=base_index,
        count=count,
        term=term,
        log_time_us=base_index * 10,
        wall_time_us=-base_index,
        session=7,
        first_sequence=base_index,
        operations=operations,
    )


def records(log: Log) -> list[bytes]:
    """All records of a log, read through its public door."""
    return [batch.record for batch in log.read_ahead(1, log.last_index)]


def settle(log: Log, disk: MemoryDisk) -> None:
    """Sync until nothing is under way."""
    log.start_sync(SERVER)
    while disk.pending:
        log.handle(disk.deliver())


def common(left: list[bytes], right: list[bytes]) -> int:
    """How many records two logs share from their beginning."""
    for count, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return count
    return min(len(left), len(right))


def agree(log: Log, model: list[Batch]) -> None:
    """Assert that all look-ups of the log are what the list says."""
    last = model[-1] if model else None
    assert log.last_index == (last.last_index if last else 0)
    assert log.last_term == (last.term if last else 0)
    assert log.last_log_time_us == (last.log_time_us if last else 0)
    assert log.term_at(0) == 0
    assert log.end_at_or_before(0) == 0
    for expected in model:
        for index in range(expected.base_index, expected.last_index + 1):
            assert log.batch_at(index) == expected
            assert log.term_at(index) == expected.term
            assert log.base_of(index) == expected.base_index
            assert log.end_of(index) == expected.last_index
            whole = index == expected.last_index
            assert log.end_at_or_before(index) == (index if whole else expected.base_index - 1)
    assert records(log) == [each.record for each in model]


class Witness:
    """Every state that a log was ever in, and what it has promised to keep.

    Attributes:
        states: the records after each change, over all lives; the first is the empty log.
        durable: the highest position in ``states`` that the log has called durable.
        synced_index: the index up to which it has called the present state durable.
    """

    def __init__(self) -> None:
        self.states: list[list[bytes]] = [[]]
        self.durable = 0
        self.synced_index = 0
        self._base = 0  # the position of what ``written`` 0 of this life means

    def begin(self, log: Log) -> None:
        """Judge what is left of the former lives, which is the first state of this one."""
        log.check()
        found = records(log)
        self.judge(found)
        self.states.append(found)
        self._base = len(self.states) - 1 - log.written
        self.synced_index = log.synced_index

    def judge(self, found: list[bytes]) -> None:
        """Assert that a crash has left what it may leave.

        That is: a state the log was in since the last durable one, perhaps without its last
        batches, but with all that was durable and is in every state since.
        """
        durable = self.states[self.durable]
        kept = len(durable)
        allowed = False
        for state in self.states[self.durable :]:
            kept = min(kept, common(durable, state))
            whole_prefix = common(found, state) == len(found)
            allowed = allowed or (whole_prefix and len(found) >= kept)
        assert allowed, "a crash leaves a state since the last durable one, cut at its end"
        shared = common(found, self.states[-1])
        shared_end = sum(Batch.decode(record).count for record in found[:shared])
        assert shared_end >= self.synced_index, "what is called synced survives"

    def append(self, log: Log, added: Batch) -> None:
        """Append, after taking note of it: the power may be cut on the way."""
        self._change(log, [*self.states[-1], added.record])
        log.append(added)

    def truncate(self, log: Log, end: int) -> None:
        """Truncate, after taking note of it."""
        state = [record for record in self.states[-1] if Batch.decode(record).base_index <= end]
        self.synced_index = min(self.synced_index, end)
        if end < log.last_index:
            self._change(log, state)
        log.truncate(end)

    def _change(self, log: Log, state: list[bytes]) -> None:
        assert log.written == len(self.states) - 1 - self._base, "every change is counted"
        self.states.append(state)

    def note(self, log: Log) -> None:
        """Remember what the log says about its durability."""
        if log.durable:
            self.durable = max(self.durable, self._base + log.durable)
        self.synced_index = log.synced_index


class Story:
    """One log through several lives on a memory disk, doing things at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = MemoryDisk()
        self.witness = Witness()
        self.log = self.open()

    def open(self) -> Log:
        """Begin a life, and judge what is left of the former ones."""
        log = Log(self.disk, segment_bytes=SEGMENT_BYTES, cache_bytes=1_500)
        self.witness.begin(log)
        return log

    def live(self, steps: int) -> None:
        """Do some random things; the power may be cut in any of them."""
        try:
            for _ in range(steps):
                self.step()
        except PowerCutError:
            self.witness.note(self.log)

    def step(self) -> None:
        """One random thing; what is durable is noted before the power may be cut."""
        act = self.random.choice(["append"] * 5 + ["sync"] * 3 + ["deliver"] * 4 + ["truncate"])
        log = self.log
        if act == "append":
            size = self.random.choice([0, 3, 100, 450, 700, 1_300])
            added = batch(
                log.last_index + 1,
                count=self.random.randint(1, 3),
                term=log.last_term + self.random.randint(0, 1),
                operations=self.random.randbytes(size),
            )
            self.witness.append(log, added)
        elif act == "truncate" and log.last_index and self.random.random() < 0.5:
            end = log.end_at_or_before(self.random.randrange(log.last_index))
            self.witness.truncate(log, end)
        elif act == "sync":
            log.start_sync(SERVER)
        elif act == "deliver" and self.disk.pending:
            log.handle(self.disk.deliver(self.random.randrange(len(self.disk.pending))))
        self.witness.note(log)
        log.check()

    def crash(self, *, power: bool) -> None:
        """End this life: by a loss of power, or by the death of the process alone."""
        if power:
            self.disk = MemoryDisk(self.disk.after_crash(self.random))
        else:
            self.disk.operations_max = None
            for _, finish in self.disk.pending:
                if self.random.random() < 0.5:
                    finish()
            self.disk.pending.clear()
            self.disk.syncing.clear()
        self.log = self.open()
