"""Lives, rule by rule: who is met, who is refused, and what is durable before what is said."""

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from copycat.actors import NodeAddress
from copycat.actors.simulated_disk import SimulatedDisk
from copycat.errors import IdentityRefused
from copycat.protocol.client import SERVER
from copycat.protocol.introductions import AskAlive, Introduce, StillAlive, Unwelcome, Welcome
from copycat.server.introductions import Introduction, Introductions
from copycat.server.peers import Peer
from copycat.storage.lives import LIVES_KEPT, packed, unpacked

ADDRESS = NodeAddress("n1", 1, SERVER)


class Stage:
    """One server's introductions, on a disk whose operations end when the test says so; the test
    plays the peers n2 and n3, whose server ids are 2 and 3.

    Attributes:
        sent: to which node's incarnation went what, since it was looked at last.
        timers: what the server wants to be called for.
    """

    def __init__(self, disk: SimulatedDisk | None = None) -> None:
        self.disk = disk or SimulatedDisk(random.Random(1))
        self.sent: list[tuple[int, Any]] = []
        self.timers: list[Any] = []
        self.notes: list[str] = []
        self.peers = {name: Peer(name, f"{name}:7401") for name in ("n2", "n3")}
        for name, peer in self.peers.items():
            peer.server_id = int(name[1:])
        server = SimpleNamespace(
            address=ADDRESS,
            environment=SimpleNamespace(random=random.Random(len(self.disk.names()))),
            membership=SimpleNamespace(introduced=True),
            note=lambda _, text: self.notes.append(text),
            options=SimpleNamespace(name="n1", election_timeout_max_s=0.6),
            peers=self.peers,
            role=ADDRESS,
            send=lambda target, message: self.sent.append((target.incarnation, message)),
            step=lambda *_: None,
            wake_after=lambda _, payload: self.timers.append(payload),
        )
        self.introductions = Introductions(cast("Any", server), self.disk)
        self.introductions.begin(self.introductions.lives.floor_sequence + 1)
        self.save()

    @property
    def own(self) -> tuple[int, ...]:
        """The lives of the server."""
        return self.introductions.lives.own

    def met(self, name: str = "n2") -> int:
        """The life of a peer that was met last."""
        return self.introductions.lives.met.get(self.peers[name].server_id, 0)

    def save(self) -> None:
        """Let all operations of the disk end."""
        while self.disk.pending:
            self.introductions.lives.handle(self.disk.finish())
            self.introductions.disk_done()

    def seek(self, name: str = "n2") -> None:
        """A peer is looked for at its endpoint, and not found."""
        self.introductions.sought(self.peers[name])

    def link(self, incarnation: int, name: str = "n2") -> None:
        """A link comes up that an incarnation of a peer has dialled."""
        self.peers[name].links["", incarnation] = None
        self.introductions.linked(self.peers[name], incarnation)

    def unlink(self, incarnation: int, name: str = "n2") -> None:
        """It goes."""
        del self.peers[name].links["", incarnation]
        self.introductions.unlinked(self.peers[name], incarnation)

    def say(self, incarnation: int, message: Introduction, name: str = "n2") -> list[Any]:
        """A peer says something; returns what it is answered."""
        self.sent.clear()
        self.introductions.handle(message, NodeAddress(name, incarnation, SERVER))
        return [message for target, message in self.sent if target == incarnation]

    def meet(self, incarnation: int, *lives: int, name: str = "n2") -> None:
        """A peer introduces a life, and is welcome."""
        self.seek(name)
        self.link(incarnation, name)
        self.say(incarnation, Introduce(packed(lives), 0), name)
        self.save()
        assert self.peers[name].incarnation == incarnation


def test_a_life_is_durable_at_home_before_it_is_said() -> None:
    """Rule: else a crash leaves a life that the others know and this server does not."""
    stage = Stage()
    begun = Introductions(cast("Any", stage.introductions._server), stage.disk)
    begun.begin(2)
    assert not begun.has_begun
    begun.lives.handle(stage.disk.finish())
    assert begun.has_begun
    assert begun.lives.own[:-1] == stage.own, "it stands behind the earlier ones"


def test_a_life_is_durable_at_the_peer_before_anything_of_it_is_taken() -> None:
    """Rule: else acknowledgements count for a life that is forgotten in a crash."""
    stage = Stage()
    stage.seek()
    stage.link(10)
    assert stage.sent == [(10, Introduce(packed(stage.own), 0))]
    for _ in range(2):
        assert stage.say(10, Introduce(packed((5,)), 0)) == []
    assert stage.peers["n2"].incarnation == 0
    stage.save()
    assert stage.sent == [(10, Welcome(5))]
    assert stage.peers["n2"].incarnation == 10
    assert not stage.peers["n2"].connected, "it has yet to welcome this one"
    stage.say(10, Welcome(stage.own[-1] ^ 1))
    assert not stage.peers["n2"].connected
    stage.say(10, Welcome(stage.own[-1]))
    assert stage.peers["n2"].connected
    assert Stage(stage.disk).met() == 5, "it is known after a restart"


def test_starts_that_nobody_has_seen_are_no_false_alarm() -> None:
    """Rule: the chain has them, and only the last one that was met has to be among them."""
    stage = Stage()
    stage.meet(10, 5)
    stage.unlink(10)
    stage.meet(11, 5, 6, 7, 8)
    assert stage.met() == 8


def test_an_earlier_copy_is_not_met() -> None:
    """Rule: a chain without the life that was met is that of an earlier copy; it is told."""
    stage = Stage()
    stage.meet(10, 5, 6)
    stage.unlink(10)
    stage.link(11)
    assert stage.say(11, Introduce(packed((5, 7)), 0)) == [Introduce(packed(stage.own), 6)]
    stage.save()
    assert stage.peers["n2"].incarnation != 11
    assert stage.met() == 6
    assert len(stage.notes) == 1
    stage.say(11, Introduce(packed((5, 7)), 0))
    assert len(stage.notes) == 1, "it says so again and again, and is noted once"


def test_a_server_sees_itself_that_it_is_an_earlier_copy() -> None:
    """Rule: the answer names the last life known, and the server checks it itself."""
    stage = Stage()
    stage.link(10)
    stage.say(10, Introduce(packed((5,)), stage.own[-1]))
    with pytest.raises(
        IdentityRefused, match=r"n2 has met a life .* earlier copy.*cannot be replaced yet"
    ):
        stage.say(10, Introduce(packed((5,)), 77))


def test_an_earlier_copy_stops_nobody_else() -> None:
    """Rule: what it has met, or not, says nothing of others."""
    stage = Stage()
    stage.meet(10, 5, 6)
    stage.unlink(10)
    stage.link(11)
    stage.say(11, Introduce(packed((5, 7)), 77))


def test_the_second_of_two_is_refused_while_the_first_answers() -> None:
    """Rule: without it the twin of a running server, with its life in the chain, takes its place."""
    stage = Stage()
    stage.meet(10, 5)
    stage.link(20)
    assert stage.say(20, Introduce(packed((5, 6)), 0)) == []
    assert stage.sent == [(10, AskAlive(5))]
    stage.save()
    assert (stage.met(), stage.peers["n2"].incarnation) == (5, 10), "nothing of it is taken"
    stage.say(10, StillAlive(5))
    ((incarnation, refusal),) = stage.sent
    assert incarnation == 20
    assert type(refusal) is Unwelcome
    assert refusal.life == 6
    for timer in list(stage.timers):
        timer()
    stage.save()
    assert (stage.met(), stage.peers["n2"].incarnation) == (5, 10)


def test_who_is_refused_as_the_second_stops() -> None:
    """Rule: it is told, and ends with words that say what to do."""
    stage = Stage()
    stage.link(10)
    stage.say(10, Unwelcome(77, "an earlier life of this name"))
    with pytest.raises(IdentityRefused, match=r"one data directory .* keep the one that runs"):
        stage.say(10, Unwelcome(stage.own[-1], "n1 is running elsewhere"))


def test_a_life_is_met_when_the_earlier_one_is_gone() -> None:
    """Rule: its link has closed, and nobody is found at its endpoint; a restarted server waits for
    nothing else."""
    stage = Stage()
    stage.meet(10, 5)
    stage.link(20)
    stage.say(20, Introduce(packed((5, 6)), 0))
    stage.unlink(10)
    stage.save()
    assert (stage.met(), stage.peers["n2"].incarnation) == (5, 10)
    stage.seek()
    stage.save()
    assert (stage.met(), stage.peers["n2"].incarnation) == (6, 20)


def test_who_is_found_at_the_endpoint_is_the_first() -> None:
    """A server that has just started knows of no link of the first, and is dialled by the second: it
    waits until it has looked for the first where that listens."""
    stage = Stage()
    stage.meet(10, 5)
    stage = Stage(stage.disk)
    stage.link(20)
    stage.say(20, Introduce(packed((5, 6)), 0))
    stage.save()
    assert stage.met() == 5
    stage.peers["n2"].links["n2:7401", 10] = None
    stage.introductions.linked(stage.peers["n2"], 10)
    stage.seek()
    stage.save()
    assert stage.met() == 5
    assert stage.say(10, Introduce(packed((5,)), 0)) == [Welcome(5)]
    assert (20, Unwelcome(6, "n2 is running elsewhere, and still answers")) in stage.sent


def test_where_nobody_can_be_looked_for_a_life_is_met_all_the_same() -> None:
    """A dial that nobody answers ends after seconds; an election time-out is enough."""
    stage = Stage()
    stage.link(20)
    stage.say(20, Introduce(packed((5, 6)), 0))
    stage.save()
    assert stage.met() == 0
    stage.timers[-1]()
    stage.save()
    assert (stage.met(), stage.peers["n2"].incarnation) == (6, 20)


def test_the_welcome_of_a_second_is_no_word_of_the_first() -> None:
    """A copy knows what the first knows, and welcomes this server while it is not met itself: the
    first stays connected. It took its place, until something made both introduce themselves again."""
    stage = Stage()
    stage.meet(10, 5)
    stage.say(10, Welcome(stage.own[-1]))
    assert stage.peers["n2"].connected
    stage.link(20)
    for timer in list(stage.timers):
        timer()
    stage.say(20, Introduce(packed((5, 6)), stage.own[-1]))
    stage.say(20, Welcome(stage.own[-1]))
    assert stage.peers["n2"].connected
    stage.say(10, StillAlive(5))
    stage.unlink(20)
    assert stage.peers["n2"].connected


def test_a_life_that_was_met_is_connected_when_it_has_welcomed_this_one() -> None:
    """The one before was, and is silent: nothing is sent to the new one before it takes it. When its
    welcome is lost, this server introduces itself again."""
    stage = Stage()
    stage.meet(10, 5)
    stage.say(10, Welcome(stage.own[-1]))
    stage.link(20)
    stage.say(20, Introduce(packed((5, 6)), stage.own[-1]))
    for timer in list(stage.timers):
        timer()
    stage.timers.clear()
    stage.save()
    assert stage.peers["n2"].incarnation == 20
    assert not stage.peers["n2"].connected
    (again,) = stage.timers
    again()
    assert type(stage.sent[-1][1]) is Introduce
    stage.say(20, Welcome(stage.own[-1]))
    assert stage.peers["n2"].connected


def test_a_life_is_met_when_the_earlier_one_is_silent() -> None:
    """Rule: after an election time-out it counts as gone; when it wakes up it finds what was met."""
    stage = Stage()
    stage.meet(10, 5)
    stage.link(20)
    stage.say(20, Introduce(packed((5, 6)), 0))
    stage.timers[-1]()
    stage.save()
    assert (stage.met(), stage.peers["n2"].incarnation) == (6, 20)
    assert (10, Introduce(packed(stage.own), 6)) in stage.sent


def test_a_second_that_goes_is_forgotten() -> None:
    """Its link closes while the first is asked: nothing of it stays, and another may come."""
    stage = Stage()
    stage.meet(10, 5)
    stage.link(20)
    stage.say(20, Introduce(packed((5, 6)), 0))
    stage.unlink(20)
    for timer in list(stage.timers):
        timer()
    stage.save()
    assert stage.met() == 5
    stage.unlink(10)
    stage.meet(30, 5, 7)


def test_early_lives_are_dropped_when_every_member_has_met_a_later_one() -> None:
    """Rule: else a peer that was down for long refuses falsely."""
    stage = Stage()
    for _ in range(LIVES_KEPT + 5):
        stage = Stage(stage.disk)
    every = stage.own
    assert len(every) == LIVES_KEPT + 6
    stage.meet(10, 5)
    stage.say(10, Welcome(stage.own[-1]))
    assert stage.own == every
    stage.meet(11, 9, name="n3")
    stage.say(11, Welcome(stage.own[-1]), "n3")
    assert stage.own == every[-LIVES_KEPT:]
    stage.save()
    assert Stage(stage.disk).own[:-1] == stage.own


@pytest.mark.parametrize("lives", [b"", b"1234567", bytes(8)])
def test_who_has_no_life_is_not_met(lives: bytes) -> None:
    """What comes over the wire is looked at before it is believed."""
    stage = Stage()
    stage.link(10)
    assert stage.say(10, Introduce(lives, 0)) == []
    stage.save()
    assert stage.peers["n2"].incarnation == 0
    assert stage.notes


def test_what_was_not_answered_is_said_again() -> None:
    """A network may lose an introduction while the link stays up."""
    stage = Stage()
    stage.link(10)
    stage.sent.clear()
    (again,) = stage.timers
    again()
    assert [type(message) for _, message in stage.sent] == [Introduce]
    assert unpacked(stage.sent[0][1].lives) == stage.own
