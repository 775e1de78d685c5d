"""The power cut, or the process killed, at every operation on the disk while a server starts, once
and again: what is left is never refused, and what was acknowledged is there."""

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from copycat.server.introductions import Introductions
from copycat.server.membership import Membership
from copycat.storage.ballot import Ballot
from copycat.storage.errors import AmnesiaError, LogCorruptError
from copycat.storage.log import Log
from copycat.storage.syncs import Syncs
from copycat.types import Term
from every_crash import SERVER, CutDisk, Tally, after_every_crash
from log_story import batch

SEGMENT_BYTES = 1_024

# "start" begins a life with what the former one has left when its process is killed; "end" ends the
# oldest operation of the disk that is under way, and "settle" all. Then "vote" begins term 1, "append"
# acknowledges a batch to whoever asks, "raise" promises it, and "truncate" takes back what was not.
STORIES = {
    "going on": (
        "start, settle, vote, settle, append, settle, raise, settle, append, settle, start, settle,"
        " append, settle, start, end, end, end"
    ),
    "truncating": (
        "start, settle, vote, settle, append, settle, append, settle, start, settle, truncate, settle,"
        " append, settle, start, settle"
    ),
    "what was not synced": (
        "start, settle, vote, settle, append, settle, append, start, settle, truncate, append, settle,"
        " raise, settle"
    ),
    "a start again and again": "start, end, end, start, settle, start, end, start, end, end, settle",
}


class Acknowledged:
    """How far the log must reach, whatever happens to the server."""

    def __init__(self) -> None:
        self.index = 0
        self.lives: set[int] = set()  # that were introduced


class Life:
    """What of a server writes to its disk at a start: of a cluster of one."""

    def __init__(self, disk: CutDisk, acknowledged: Acknowledged) -> None:
        self.disk, self.acknowledged = disk, acknowledged
        links = SimpleNamespace(introduce=lambda _: None)
        server: Any = SimpleNamespace(
            address=SERVER,
            ballot=Ballot(disk),
            become_follower=lambda _: None,
            environment=SimpleNamespace(links=links, random=random.Random(len(acknowledged.lives))),
            log=Log(disk, segment_bytes=SEGMENT_BYTES),
            note=lambda *_: None,
            now_s=lambda: 0.0,
            offers=(),
            options=SimpleNamespace(name="n1", peers={"n1": "n1:7401"}, election_timeout_min_s=0.3),
            peers={},
        )
        server.introductions = Introductions(server, disk)
        self.server = server
        assert self.log.last_index >= acknowledged.index, "what was acknowledged is there"
        assert acknowledged.lives <= {*server.introductions.lives.own}, "and so is every life"
        server.membership = Membership(server, disk)

    @property
    def log(self) -> Log:
        return cast("Log", self.server.log)

    def end(self) -> None:
        """End the oldest operation of the disk."""
        done = self.disk.end()
        server = self.server
        files = (server.log, server.ballot, server.introductions.lives, *server.membership.files)
        next(file for file in files if file.owns(done.token)).handle(done)
        server.membership.disk_done()
        if server.membership.introduced:
            self.acknowledged.lives.add(server.introductions.lives.own[-1])
        if server.membership.established:
            self.acknowledged.index = max(self.acknowledged.index, self.log.synced_index)

    def do(self, step: str) -> None:
        """Do one thing; see ``STORIES``."""
        if step == "settle":
            while self.disk.pending:
                self.end()
        elif step == "end":
            self.end()
        elif step == "vote":
            self.server.ballot.raise_term(1)
            self.server.ballot.start_sync(SERVER)
        elif step == "append":
            number = len(self.acknowledged.lives) + 1  # no two lives write the same
            self.log.append(batch(self.log.last_index + 1, operations=bytes([number])))
            self.log.start_sync(SERVER)
        elif step == "raise":
            ballot = self.server.ballot
            self.log.raise_floor(self.log.synced_index, (ballot.term, ballot.voted_for))
        else:
            assert step == "truncate", "there is no such step"
            self.acknowledged.index = min(self.acknowledged.index, self.log.last_index - 1)
            self.log.truncate(self.log.last_index - 1)
            self.log.start_sync(SERVER)


def try_every_crash(name: str, *, power: bool) -> Tally:
    """Cut one story everywhere, and start again with all that may be left of it."""

    def live(disk: CutDisk, acknowledged: Acknowledged) -> None:
        life = Life(disk, acknowledged)
        for step in STORIES[name].removeprefix("start, ").split(", "):
            if step == "start":
                disk.detach()
                life = Life(disk, acknowledged)
            else:
                life.do(step)

    def start_again(disk: CutDisk, acknowledged: Acknowledged) -> None:
        for _ in range(2):
            Life(disk, acknowledged).do("settle")

    return after_every_crash(Acknowledged, live, start_again, power=power)


@pytest.mark.parametrize("power", [True, False], ids=["power lost", "process killed"])
@pytest.mark.parametrize("name", STORIES)
def test_a_start_after_every_crash(name: str, power: bool) -> None:
    """Wherever a start is cut, and whatever the disk kept, the next one takes what is there."""
    tally = try_every_crash(name, power=power)
    assert tally.points > 20
    assert tally.images > 5


def begins_before_its_floor_is_durable(syncs: Syncs, ballot: tuple[Term, int]) -> bool:
    """A planted ``Syncs.begin_life``: the life is begun while its floor is being written."""
    begin_life(syncs, ballot)
    syncs.floor.sequence = syncs._found_sequence + 1
    return syncs.floor.exists


begin_life = Syncs.begin_life
PLANTED: list[tuple[str, Callable[..., bool], str, type[Exception]]] = [
    ("syncs.Syncs.begin_life", begins_before_its_floor_is_durable, "going on", AmnesiaError),
    ("recovery._is_truncated", lambda _: False, "truncating", LogCorruptError),
]


@pytest.mark.parametrize(("place", "mistake", "name", "error"), PLANTED)
def test_a_planted_false_alarm_is_found(
    place: str,
    mistake: Callable[..., bool],
    name: str,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a crash may leave would be refused, if it were done in another order or judged alone."""
    monkeypatch.setattr(f"copycat.storage.{place}", mistake)
    with pytest.raises(error):
        try_every_crash(name, power=True)
