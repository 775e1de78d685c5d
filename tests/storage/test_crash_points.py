"""The power cut, or the process killed, at every operation on the disk, with all that may be left."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from copycat.actors.environment import Disk, DiskDone
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.storage.batch import Batch
from copycat.storage.errors import AmnesiaError, DiskFailedError, LogCorruptError
from copycat.storage.floor import Floor
from copycat.storage.log import Log
from copycat.storage.recovery import RecoveredLog, recover
from copycat.storage.segment import Segment
from copycat.storage.syncs import Syncs
from every_crash import SERVER, CutDisk, Tally, after_every_crash
from log_story import Witness, batch

SEGMENT_BYTES = 1_024  # two pages

# What a log does. "sync" asks for one, "end" ends the oldest operation of the disk that is under
# way and "end last" the latest, and then what of the floor is; "end one" does not. A truncation says
# how many batches it drops; "commit" promises all that is durable, but for so many batches; "fail"
# lets the next sync fail, which ends the process as "killed" does. After "killed" and "power" a new
# life begins, with each combination of what may be left of the former.
LIVES = {
    "appending": "append, append 300, sync, end, end, append, append 300, sync, append, end, end",
    "appending while a sync is under way": (
        "append, sync, append 300, end last, append, end, append, end"
    ),
    "rolling into an allocated segment": (
        "append 500, sync, end, end, append 500, sync, end last, end, append 300"
    ),
    "rolling without one": "append 500, append 300, sync, end last, end, end",
    "rolling too early for an allocation": (
        "append 500, sync, append 500, end, sync, end last, append 500, sync, end, end, end, end"
    ),
    "a record larger than a segment": "append, sync, end, end, append 1200, sync, end, end",
    "truncating": "append 100, append 200, append, sync, end, end, truncate 2, sync, end, append",
    "truncating and appending": (
        "append 100, append 400, sync, end, end, truncate 1, append 400, append, sync, end, end"
    ),
    "truncating over two segments": (
        "append 500, sync, end, end, append 500, sync, end, end, append 500, sync, end, end,"
        " truncate 2, append, sync, end, end, append"
    ),
    "truncating all": "append, append, sync, end, end, truncate 2, sync, end, end, append",
    "truncating twice": (
        "append, append, append, sync, end, end, truncate 1, truncate 1, append, sync, end, end, end"
    ),
    "truncating and appending again and again": (
        "append, append, sync, end, end, truncate 1, append 9, truncate 1, append 99, sync,"
        " end last, end, end"
    ),
    "truncating, going on, and truncating less": (
        "append, append, append, sync, end, end, truncate 2, append 9, append 99, truncate 1,"
        " append 5, sync, end last, end, end"
    ),
    "truncating while a sync is under way": (
        "append, append, sync, truncate 1, append 300, end, end, sync, end, end, end"
    ),
    "a second life after a loss of power": (
        "sync, end, append, sync, end, append 400, append, sync, power, append 200, sync, end"
    ),
    "a second life that fills a gap": (
        "sync, end, append, sync, end, append 300, append, sync, power, append 300, sync, end, end"
    ),
    "a second life after a truncation": (
        "append, append, sync, end, end, truncate 1, append 99, sync, power, append 9, sync, end, end"
    ),
    "a second life that truncates": (
        "append, append 400, sync, end, end, append, sync, power, truncate 1, append 9, sync, end, end"
    ),
    "a third life": "sync, end, append, sync, power, append, sync, power, append 9, sync, end",
    "a life after a kill": (
        "append, sync, end, end, append 400, append, sync, killed, append 200, sync, end, end, append"
    ),
    "a life after a failed sync": (
        "append, sync, end, end, append 400, fail, sync, end, killed, append, sync, end, end, append"
    ),
    "a life after a failed sync of two segments": (
        "sync, end, append 500, append 500, fail, sync, end, end, killed, sync, end, end, end"
    ),
    "promising what is committed": (
        "append, append, sync, end, end, commit, end, append, commit, end, sync, end, commit, end"
    ),
    "truncating what is not committed": (
        "append, append, sync, end, end, commit 1, end, truncate 1, append 9, sync, end, commit, end"
    ),
    "promising, and a second life": (
        "append, sync, end, end, commit, killed, sync, end, commit, end, append, sync, end, power, sync, end, commit, end,"
        " append, sync, end, commit, end"
    ),
    "going on while the floor is written": (
        "append 500, append 300, sync, end one, end one, append, sync, end one, append, end last"
    ),
    "removing after the floor is written": (
        "append 500, sync, end, end, append 500, sync, end, end, truncate 2, append, sync, end one,"
        " end one, append, end one, end one"
    ),
    "a life after a failed sync of a truncation": (
        "append, append, append, sync, end, end, truncate 2, append 9, fail, sync, end, killed,"
        " append, sync, end, end"
    ),
}


def made_floor() -> dict[str, bytes]:
    """A disk with a floor and nothing else, as a server has it before it writes to its log."""
    disk = SimulatedDisk(random.Random(0))
    floor = Floor(disk)
    floor.make(SERVER)
    floor.handle(disk.finish())
    return disk.image()


FLOOR = made_floor()


class Life:
    """A log on a disk that may be cut, and what it has promised."""

    def __init__(self, disk: CutDisk, witness: Witness) -> None:
        self.disk = disk
        self.witness = witness
        self.log = self.opened()

    def opened(self) -> Log:
        """What is on the disk keeps the promises, and a life begins with it."""
        log = Log(self.disk, segment_bytes=SEGMENT_BYTES)
        self.witness.begin(log)
        return log

    def do(self, step: str) -> None:
        """Do one thing; see ``LIVES``. What was promised counts, also when it is cut."""
        try:
            self._do(step)
        finally:
            self.witness.note(self.log)

    def _do(self, step: str) -> None:
        what, _, number = step.partition(" ")
        log, disk, witness = self.log, self.disk, self.witness
        if what == "append":
            # No two batches are the same, and no term tells which is the older one.
            operations = bytes([len(witness.states)]) * int(number or 1)
            witness.append(log, batch(log.last_index + 1, count=2, operations=operations))
        elif what == "truncate":
            end = log.last_index
            for _ in range(int(number)):
                end = log.end_at_or_before(max(0, end - 1))
            witness.truncate(log, end)
        elif what == "sync":
            log.start_sync(SERVER)
        elif what == "commit":
            end = log.synced_index
            for _ in range(int(number or 0)):
                end = log.end_at_or_before(max(0, end - 1))
            log.raise_floor(end, (1, 1))
        elif what == "fail":
            disk.fail_next_sync()
        elif what == "end":
            if disk.pending:
                log.handle(disk.end(-1 if number == "last" else 0))
            while Floor.TOKEN in disk.pending and number != "one":
                log.handle(disk.end(disk.pending.index(Floor.TOKEN)))
        elif what == "killed":
            disk.detach()
            self.log = self.opened()
        else:
            assert what == "power", "there is no such step"
            disk.crash(kept=0.5)
            self.log = self.opened()


def live(script: str, disk: CutDisk, witness: Witness) -> None:
    """Follow a script; it may be cut anywhere."""
    disk.restore(FLOOR)
    life = Life(disk, witness)
    failed = False
    for step in script.split(", "):
        # A log whose disk has failed is not used any more.
        if failed and step not in {"killed", "power"}:
            continue
        try:
            life.do(step)
            failed = False
        except DiskFailedError:
            failed = True


def reopened(disk: CutDisk, witness: Witness) -> None:
    """The next life finds what it may find."""
    Life(disk, witness)


def try_every_crash(name: str, *, power: bool) -> Tally:
    """Cut one life everywhere; raises AssertionError when recovery breaks a promise."""
    return after_every_crash(Witness, partial(live, LIVES[name]), reopened, power=power)


@pytest.mark.parametrize("power", [True, False], ids=["power lost", "process killed"])
@pytest.mark.parametrize("name", LIVES)
def test_the_log_after_every_crash(name: str, power: bool) -> None:
    """Wherever a life is cut, and whatever the disk kept, recovery gives what was acknowledged."""
    tally = try_every_crash(name, power=power)
    assert tally.points > 8, "a life is more than a few operations"
    assert tally.images > (7 if power else 3), "crashes leave different things"


def acknowledge_with_the_first_file(syncs: Syncs, done: DiskDone) -> None:
    """A planted ``Syncs.handle``: it does not wait for the other files of a sync."""
    sync = syncs._under_way
    if sync is not None and done.token in sync.tokens:
        sync.tokens = [done.token]
    if sync is not None or syncs.floor.owns(done.token):
        handle(syncs, done)


def remove_before_the_sync(log: Log) -> Segment:
    """A planted ``Log._roll``: what is overruled goes before what overrules it is durable."""
    tail = roll(log)
    for segment in log._syncs.dead:
        segment.close()
        log._syncs.remove(segment.name)
    log._syncs.dead.clear()
    return tail


def without_the_segments_they_continue(headed: list[Segment]) -> list[Segment]:
    """A planted ``recovery._current``: the last header with an index wins, whatever it continues."""
    current: list[Segment] = []
    for segment in headed:
        while current and current[-1].first_index >= segment.first_index:
            current.pop()
        current.append(segment)
    return current


def always_resumable(disk: Disk) -> RecoveredLog:
    """A planted ``recover``: the tail is continued though something stands behind its end."""
    found = recover(disk)
    found.resumable = bool(found.segments)
    return found


def claims_too_much(segment: Segment, record: bytes, durable_index: int) -> int:
    """A planted ``Segment.append``: an envelope calls durable what is only written."""
    return append(segment, record, Batch.decode(record).base_index - 1)


def writes_no_header_again(log: Log, synced_index: int) -> list[Segment]:
    """A planted ``Log._recovered_unsynced``: a segment that is not durable at all is left as it is."""
    write_again = Segment.write_again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Segment,
            "write_again",
            lambda segment, offset: write_again(segment, offset) if offset else None,
        )
        return recovered_unsynced(log, synced_index)


recovered_unsynced = Log._recovered_unsynced
roll, append, handle = Log._roll, Segment.append, Syncs.handle
# What is planted where, and the life that shows it.
PLANTED = [
    ("syncs.Syncs.handle", acknowledge_with_the_first_file, "rolling without one"),
    ("log.Log._roll", remove_before_the_sync, "truncating over two segments"),
    (
        "recovery._current",
        without_the_segments_they_continue,
        "truncating, going on, and truncating less",
    ),
    ("log.recover", always_resumable, "a second life that fills a gap"),
    ("segment.Segment.append", claims_too_much, "appending"),
    ("segment.Segment.write_again", lambda *_: None, "a life after a failed sync"),
    (
        "log.Log._recovered_unsynced",
        writes_no_header_again,
        "a life after a failed sync of two segments",
    ),
]


@pytest.mark.parametrize(("place", "mistake", "name"), PLANTED, ids=[name for *_, name in PLANTED])
def test_a_planted_bug_is_found(
    place: str, mistake: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these mistakes breaks a promise in the life that is there for it."""
    monkeypatch.setattr(f"copycat.storage.{place}", mistake)
    with pytest.raises(
        (AssertionError, LogCorruptError, AmnesiaError), match=r"since the last|damaged|lost what"
    ):
        try_every_crash(name, power=True)


def test_a_disk_that_lies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """When syncs save nothing, what was acknowledged is lost, and the checks above see it."""
    monkeypatch.setattr(SimulatedDisk, "__init__", lying_init)
    with pytest.raises((AssertionError, AmnesiaError), match=r"since the last durable|lost what"):
        try_every_crash("appending", power=True)


def lying_init(disk: SimulatedDisk, chance: random.Random) -> None:
    """A planted ``SimulatedDisk.__init__``."""
    init(disk, chance)
    disk.lose_syncs = True


init = SimulatedDisk.__init__
