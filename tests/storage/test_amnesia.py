"""The files of a server vouch for each other: one that is older than another says is refused."""

import pytest

from copycat.storage.amnesia import refuse_amnesia
from copycat.storage.ballot import Ballot
from copycat.storage.errors import AmnesiaError
from copycat.storage.floor import Floor, Promise
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.lives import Lives
from memory_disk import SERVER, MemoryDisk

PROMISED = (5, 7)  # term and vote


def judge(term: int, vote: int, last_term: int, *, floors_since: int = 0) -> None:
    """Load a server whose floor promises a ballot, with this one in its place."""
    disk = MemoryDisk()
    floor, ballot, lives = Floor(disk), Ballot(disk), Lives(disk)
    floor.make(SERVER)
    floor.handle(disk.deliver())
    floor.promise = Promise(1, 0, *PROMISED)
    ballot.raise_term(term)
    if vote:
        ballot.vote(vote)
    lives.begin(1, floor.sequence + floors_since)
    identity, configuration = ServerIdentity(disk), ClusterConfiguration(disk)
    identity.establish("s1", 11)
    configuration.establish([("s1", 11), ("s2", 22)])
    refuse_amnesia(identity, configuration, ballot, floor, lives, last_term)


@pytest.mark.parametrize(("term", "vote"), [(4, 0), (4, 7), (5, 0), (5, 9)])
def test_an_older_ballot_is_refused(term: int, vote: int) -> None:
    """A term or a vote that the floor knows of is not forgotten: it could be given twice."""
    with pytest.raises(AmnesiaError, match="file ballot is older than what file floor says"):
        judge(term, vote, 1)


@pytest.mark.parametrize(("term", "vote"), [(5, 7), (6, 0), (6, 9)])
def test_the_same_ballot_or_a_later_one_is_none(term: int, vote: int) -> None:
    """The floor may be behind."""
    judge(term, vote, term)


def test_a_floor_from_before_the_last_start_is_refused() -> None:
    """The life was begun when another one was durable."""
    with pytest.raises(AmnesiaError, match="file floor is that of an earlier start"):
        judge(6, 0, 1, floors_since=1)


def test_lives_without_a_floor_are_refused() -> None:
    """There is one before the first life."""
    disk = MemoryDisk()
    lives = Lives(disk)
    lives.begin(1, 1)
    files = ServerIdentity(disk), ClusterConfiguration(disk), Ballot(disk), Floor(disk), lives
    with pytest.raises(
        AmnesiaError, match="file floor is missing, but it was there before the lives"
    ):
        refuse_amnesia(*files, last_term=0)


def test_a_ballot_before_the_last_record_is_refused() -> None:
    """No record of a term is written before its ballot is durable."""
    with pytest.raises(AmnesiaError, match=r"file ballot says term 6, but the log has .* term 7"):
        judge(6, 0, 7)
