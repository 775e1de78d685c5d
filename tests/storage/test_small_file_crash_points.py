"""Ballot, identity, configuration and lives, cut at every operation: the old content or the new one."""

from collections.abc import Callable
from functools import partial

import pytest

from copycat.actors.environment import DiskDone
from copycat.storage.ballot import Ballot
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.lives import Lives
from copycat.storage.small_file import SmallFile
from every_crash import SERVER, CutDisk, after_every_crash

FOUNDERS = [("s1", 11), ("s2", 22), ("s3", 33)]


class Contents:
    """What a small file has held, and which of that it has called durable.

    Attributes:
        every: its contents after each change, over all lives; the first is that of no file.
        durable: the highest position in ``every`` that is promised to survive.
    """

    def __init__(self) -> None:
        self.every: list[tuple[object, ...]] = []
        self.durable = 0
        self._base = 0

    def begin(self, file: SmallFile) -> None:
        """Judge what is left of the former lives, which is the first content of this one."""
        found = content(file)
        if self.every:
            assert found in self.every[self.durable :], "nothing that was durable is taken back"
        self.every.append(found)
        self._base = len(self.every) - 1 - file.written

    def note(self, file: SmallFile) -> None:
        """Remember what the file holds and what it says about its durability."""
        while len(self.every) <= self._base + file.written:
            self.every.append(content(file))
        if file.durable:
            self.durable = max(self.durable, self._base + file.durable)


def content(file: SmallFile) -> tuple[object, ...]:
    """What programs see of a small file."""
    match file:
        case Ballot():
            return (file.term, file.voted_for)
        case ServerIdentity():
            return (file.name, file.server_id)
        case ClusterConfiguration():
            return (file.cluster_id, file.servers)
        case Lives():
            return (file.own, file.floor_sequence, sorted(file.met.items()))
    raise AssertionError("there are four small files")


# "term" and "vote" change a ballot, "establish" the two others, "live" and "meet" lives; the other
# steps are as for logs.
LIVES: list[tuple[type[SmallFile], str]] = [
    (Ballot, "term, sync, end, vote, sync, end, term, vote, sync, end"),
    (Ballot, "term, vote, sync, term, sync, vote, end, end, end"),
    (Ballot, "term, sync, end, vote, sync, power, vote, sync, end, term, sync, end"),
    (Ballot, "term, vote, sync, killed, sync, end, term, sync, power, vote, sync, end"),
    (ServerIdentity, "establish, sync, end, killed, sync, end"),
    (ServerIdentity, "establish, sync, power, establish, sync, end"),
    (ClusterConfiguration, "establish, sync, end, killed, sync, end"),
    (ClusterConfiguration, "establish, sync, power, establish, sync, end"),
    (Lives, "live, sync, end, meet, sync, meet, end, end, killed, live, sync, end"),
    (Lives, "live, sync, end, power, live, sync, power, live, meet, sync, end, meet, sync, end"),
]


def change(file: SmallFile, what: str) -> None:
    """Change it, if it may be changed in this way now."""
    match file:
        case Ballot() if what == "term":
            file.raise_term(file.term + 1)
        case Ballot() if file.term and not file.voted_for:
            file.vote(3)
        case ServerIdentity(server_id=0):
            file.establish("s1", 2**64 - 1)
        case ClusterConfiguration(cluster_id=0):
            file.establish(FOUNDERS)
        case Lives() if what == "live":
            file.begin(max(file.own, default=0) + 1, file.floor_sequence + 1)
        case Lives():
            file.meet(22, file.met.get(22, 0) + 1)


def live(make: Callable[[CutDisk], SmallFile], script: str, disk: CutDisk, seen: Contents) -> None:
    """Follow a script; it may be cut anywhere."""
    file = make(disk)
    seen.begin(file)
    for step in script.split(", "):
        if step == "sync":
            file.start_sync(SERVER)
        elif step == "end":
            if disk.pending:
                file.handle(disk.end())
        elif step in {"killed", "power"}:
            if step == "killed":
                disk.detach()
            else:
                disk.crash(kept=0.5)
            file = make(disk)
            seen.begin(file)
        else:
            change(file, step)
        seen.note(file)


def try_every_crash(make: type[SmallFile], script: str, *, power: bool) -> None:
    """Cut one life everywhere; raises AssertionError when a promise is broken."""

    def reopened(disk: CutDisk, seen: Contents) -> None:
        seen.begin(make(disk))

    after_every_crash(Contents, partial(live, make, script), reopened, power=power)


@pytest.mark.parametrize("power", [True, False], ids=["power lost", "process killed"])
@pytest.mark.parametrize(("make", "script"), LIVES)
def test_a_small_file_after_every_crash(make: type[SmallFile], script: str, power: bool) -> None:
    """It has a content that is at least as new as the last one it has called durable."""
    try_every_crash(make, script, power=power)


def test_a_ballot_that_speaks_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an acknowledgement before the replacement has ended, the checks above fail."""

    def start_sync(file: SmallFile, reply_to: object) -> None:
        original(file, SERVER)
        file.durable = file.written

    original = SmallFile.start_sync
    monkeypatch.setattr(SmallFile, "start_sync", start_sync)
    with pytest.raises(AssertionError, match="taken back"):
        try_every_crash(*LIVES[0], power=True)


def test_a_ballot_that_counts_later_changes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a replacement says nothing about what changed after its beginning."""

    def handle(file: SmallFile, done: DiskDone) -> None:
        original(file, done)
        file.durable = file.written

    original = SmallFile.handle
    monkeypatch.setattr(SmallFile, "handle", handle)
    with pytest.raises(AssertionError, match="taken back"):
        try_every_crash(*LIVES[1], power=True)
