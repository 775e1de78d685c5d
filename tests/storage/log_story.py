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
    return [batch.record for batch in log.batches_from(1, 1 << 30)]


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


class Story:
    """One log through several lives, with every state it was ever in.

    Attributes:
        states: the records after each change, over all lives; the first is the empty log.
        durable: the highest position in ``states`` that the log has called durable.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = MemoryDisk()
        self.states: list[list[bytes]] = [[]]
        self.durable = 0
        self.base = 0  # the position of what ``written`` 0 of this life means
        self.synced_index = 0
        self.log = self.open()

    def open(self) -> Log:
        """Begin a life, and judge what is left of the former ones."""
        log = Log(self.disk, segment_bytes=SEGMENT_BYTES, cache_bytes=1_500)
        log.check()
        found = records(log)
        self.judge(found)
        self.states.append(found)
        self.base = len(self.states) - 1 - log.written
        return log

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

    def live(self, steps: int) -> None:
        """Do some random things; the power may be cut in any of them."""
        try:
            for _ in range(steps):
                self.step()
        except PowerCutError:
            self.note()

    def note(self) -> None:
        """Remember what the log says about its durability."""
        if self.log.durable:
            self.durable = max(self.durable, self.base + self.log.durable)
        self.synced_index = self.log.synced_index

    def step(self) -> None:
        """One random thing; what is durable is noted before the power may be cut."""
        act = self.random.choice(["append"] * 5 + ["sync"] * 3 + ["deliver"] * 4 + ["truncate"])
        log = self.log
        if act == "append":
            size = self.random.choice([0, 3, 100, 450, 700, 1_300])
            made = batch(
                log.last_index + 1,
                count=self.random.randint(1, 3),
                term=log.last_term + self.random.randint(0, 1),
                operations=self.random.randbytes(size),
            )
            self.change([*self.states[-1], made.record])
            log.append(made)
        elif act == "truncate" and log.last_index and self.random.random() < 0.5:
            end = log.end_at_or_before(self.random.randrange(log.last_index))
            state = [record for record in self.states[-1] if Batch.decode(record).base_index <= end]
            self.synced_index = min(self.synced_index, end)
            self.change(state)
            log.truncate(end)
        elif act == "sync":
            log.start_sync(SERVER)
        elif act == "deliver" and self.disk.pending:
            log.handle(self.disk.deliver(self.random.randrange(len(self.disk.pending))))
        self.note()
        log.check()

    def change(self, state: list[bytes]) -> None:
        """The log is about to be in this state."""
        assert self.log.written == len(self.states) - 1 - self.base
        self.states.append(state)

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
        self.synced_index = self.log.synced_index
