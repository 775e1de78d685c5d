"""Ballot, identity and configuration: old or new after a crash, and never defaults for damage."""

import random
from collections.abc import Callable

import pytest

from copycat.actors.environment import DiskDone
from copycat.storage.ballot import Ballot
from copycat.storage.errors import (
    BallotCorruptError,
    DiskFailedError,
    IdentityCorruptError,
    SmallFileCorruptError,
)
from copycat.storage.floor import Floor
from copycat.storage.identity import ClusterConfiguration, ServerIdentity, cluster_id_of
from copycat.storage.lives import Lives
from copycat.storage.small_file import SmallFile
from memory_disk import SERVER, MemoryDisk

FOUNDERS = [("s2", 22), ("s1", 11), ("s3", 33)]


def settle(file: SmallFile, disk: MemoryDisk) -> None:
    """Sync until nothing is under way."""
    file.start_sync(SERVER)
    while disk.pending:
        file.handle(disk.deliver())


def voted(disk: MemoryDisk) -> Ballot:
    """A ballot with a vote in it."""
    ballot = Ballot(disk)
    ballot.raise_term(5)
    ballot.vote(7)
    return ballot


def identified(disk: MemoryDisk) -> ServerIdentity:
    """An identity with an id in it."""
    identity = ServerIdentity(disk)
    identity.establish("s1", 2**64 - 1)
    return identity


def configured(disk: MemoryDisk) -> ClusterConfiguration:
    """A configuration of three servers."""
    configuration = ClusterConfiguration(disk)
    configuration.establish(FOUNDERS)
    return configuration


def lived(disk: MemoryDisk) -> Lives:
    """Two lives, and those of two other servers."""
    lives = Lives(disk)
    lives.begin(7, 1)
    lives.meet(22, 8)
    lives.begin(9, 2**64 - 1)
    lives.meet(11, 2**64 - 1)
    return lives


MADE: list[tuple[Callable[[MemoryDisk], SmallFile], type[SmallFileCorruptError]]] = [
    (voted, BallotCorruptError),
    (identified, IdentityCorruptError),
    (configured, IdentityCorruptError),
    (lived, IdentityCorruptError),
]


def test_what_is_durable_is_found_again() -> None:
    """Each of the files gives back all that was put into it."""
    disk = MemoryDisk()
    for make, _ in MADE:
        settle(make(disk), disk)
    disk = MemoryDisk(disk.after_crash(random.Random(1)))
    ballot = Ballot(disk)
    assert (ballot.term, ballot.voted_for) == (5, 7)
    identity = ServerIdentity(disk)
    assert (identity.name, identity.server_id) == ("s1", 2**64 - 1)
    configuration = ClusterConfiguration(disk)
    assert configuration.servers == (("s1", 11), ("s2", 22), ("s3", 33))
    assert configuration.cluster_id == cluster_id_of(FOUNDERS)
    lives = Lives(disk)
    assert (lives.own, lives.floor_sequence) == ((7, 9), 2**64 - 1)
    assert lives.met == {22: 8, 11: 2**64 - 1}


def test_a_life_is_begun_once() -> None:
    """Every start has its own number, and 0 is nobody's."""
    lives = lived(MemoryDisk())
    for life in (0, 7, 9):
        with pytest.raises(AssertionError):
            lives.begin(life, 2**64)


def test_without_files_a_server_is_new() -> None:
    """A missing file is no error: term 0, no vote, no id, no cluster, and nothing to sync."""
    disk = MemoryDisk()
    ballot, identity, configuration = Ballot(disk), ServerIdentity(disk), ClusterConfiguration(disk)
    assert (ballot.term, ballot.voted_for, identity.server_id) == (0, 0, 0)
    assert (configuration.cluster_id, configuration.servers) == (0, ())
    for file in (ballot, identity, configuration):
        file.start_sync(SERVER)
        assert file.written == file.durable == 0
    assert not disk.pending


@pytest.mark.parametrize(("make", "error"), MADE)
def test_every_flip_and_every_cut_is_refused(
    make: Callable[[MemoryDisk], SmallFile], error: type[SmallFileCorruptError]
) -> None:
    """Damage anywhere in the file is named with the file; it is never read as a new server's."""
    disk = MemoryDisk()
    file = make(disk)
    settle(file, disk)
    content = disk.files()[file.NAME]
    damaged = [content[:length] for length in range(len(content))] + [content + b"\0"]
    for position in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        damaged.append(bytes(flipped))
    for bad in damaged:
        with pytest.raises(error) as caught:
            type(file)(MemoryDisk({file.NAME: bad}))
        assert caught.value.file == file.NAME
        assert "\n" not in str(caught.value)


def test_changes_during_a_replacement_share_the_next_one() -> None:
    """There is one replacement at a time, and the next follows by itself."""
    disk = MemoryDisk()
    ballot = Ballot(disk)
    ballot.raise_term(1)
    ballot.start_sync(SERVER)
    ballot.vote(3)
    ballot.raise_term(2)
    ballot.start_sync(SERVER)
    assert len(disk.pending) == 1
    ballot.handle(disk.deliver())
    assert (ballot.durable, ballot.written) == (1, 3)
    assert len(disk.pending) == 1
    ballot.handle(disk.deliver())
    assert (ballot.durable, ballot.written) == (3, 3)
    assert not disk.pending


def test_what_was_found_is_made_durable_before_it_is_spoken_of() -> None:
    """After the death of the process alone a replacement is visible, and may be undone yet."""
    disk = MemoryDisk()
    voted(disk).start_sync(SERVER)
    disk.pending.clear()  # the process dies before the replacement ends
    ballot = Ballot(disk)
    assert (ballot.term, ballot.written, ballot.durable) == (5, 1, 0)
    settle(ballot, disk)
    assert ballot.durable == 1
    assert Ballot(MemoryDisk({"ballot": disk.durable["ballot"].durable})).term == 5


def test_one_vote_a_term() -> None:
    """The vote is cleared when the term rises and only then; the term never falls."""
    ballot = Ballot(MemoryDisk())
    with pytest.raises(AssertionError):
        ballot.vote(1)
    ballot.raise_term(3)
    ballot.vote(1)
    written = ballot.written
    ballot.vote(1)
    assert ballot.written == written, "the same vote again changes nothing"
    with pytest.raises(AssertionError):
        ballot.vote(2)
    for term in (2, 3):
        with pytest.raises(AssertionError):
            ballot.raise_term(term)
    ballot.raise_term(4)
    assert ballot.voted_for == 0
    ballot.vote(2)


def test_an_identity_and_a_cluster_are_established_once() -> None:
    """Who a server is and which servers founded its cluster never change by themselves."""
    disk = MemoryDisk()
    with pytest.raises(AssertionError):
        identified(disk).establish("s1", 5)
    with pytest.raises(AssertionError):
        configured(disk).establish(FOUNDERS)
    for bad in ([], [("s1", 1), ("s1", 2)], [("s1", 1), ("s2", 1)], [("s1", 0)]):
        with pytest.raises(AssertionError):
            ClusterConfiguration(disk).establish(bad)


def test_the_cluster_id_depends_on_names_and_ids_and_not_on_their_order() -> None:
    """Servers that were told of each other in any order agree, and others do not."""
    expected = cluster_id_of(FOUNDERS)
    assert cluster_id_of(reversed(FOUNDERS)) == expected
    assert expected == 0xD00D or expected > 0
    others = [
        [("s1", 11), ("s2", 22)],
        [("s1", 11), ("s2", 22), ("s3", 34)],
        [("s1", 11), ("s2", 22), ("s4", 33)],
        [("s1s", 11), ("2", 22), ("s3", 33)],
    ]
    ids = [expected, *map(cluster_id_of, others)]
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize("make", [make for make, _ in MADE])
def test_a_failed_replacement_stops(make: Callable[[MemoryDisk], SmallFile]) -> None:
    """After a failed replacement nobody knows what the disk has, so nothing becomes durable."""
    disk = MemoryDisk()
    file = make(disk)
    disk.fail_next = ("replace", "Input/output error")
    with pytest.raises(DiskFailedError, match="Input/output error"):
        settle(file, disk)
    assert file.durable == 0
    assert file.owns(file.TOKEN)
    assert not file.owns(1_000)


def test_the_files_have_their_own_tokens() -> None:
    """A completion belongs to one of them."""
    files = (Ballot, ServerIdentity, ClusterConfiguration, Floor, Lives)
    assert [file.TOKEN for file in files] == [1, 2, 3, 4, 5]
    with pytest.raises(AssertionError):
        Ballot(MemoryDisk()).handle(DiskDone(2, None))
