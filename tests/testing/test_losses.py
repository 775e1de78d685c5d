"""Files that go, and files and disks that come back as they were: noticed in every world."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

import bugs_of_rules as bugs
from copycat.actors.simulation import Simulation
from copycat.server import membership
from copycat.storage import recovery
from copycat.storage.amnesia import refuse_amnesia
from copycat.storage.ballot import Ballot
from copycat.storage.floor import Floor
from copycat.storage.lives import Lives
from copycat.testing import damage, rules
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.damage import is_refused
from copycat.testing.fault import AMNESIA_KINDS, Fault
from copycat.testing.faults import FaultDriver
from copycat.testing.losses import AGING, LOG, _choices
from copycat.testing.seeds import run_seed
from copycat.testing.violation import InvariantViolated


def idle_image() -> dict[str, bytes]:
    """The disk of a server that has been idle for a second."""
    with Simulation(1) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        cluster.wait_for_leader()
        cluster.settle()
        simulation.run_for(1.5)
        return cluster.disks["n1"].image()


def test_both_happen_and_are_refused() -> None:
    """In worlds with crashes between, files are removed and copies brought back: every such server
    is refused, and what was acknowledged is there."""
    done: Counter[str] = Counter()
    for seed in (3, 12):
        done.update(run_seed(seed, harm_s=4.0, faults=(*AMNESIA_KINDS, "crash", "kill")).faults)
    assert all(done[kind] for kind in AMNESIA_KINDS)


@contextmanager
def refuses_no_amnesia() -> Iterator[None]:
    """A server does not compare its files."""
    with (
        patch.object(membership, "refuse_amnesia", lambda *_: None),
        patch.object(damage, "refuse_amnesia", lambda *_: None),
    ):
        yield


@contextmanager
def takes_floors_of_earlier_lives() -> Iterator[None]:
    """A server does not compare the floor with the one that its last life began with."""

    def judge(*files: Any) -> None:
        with patch.object(Lives, "floor_sequence", 0):
            refuse_amnesia(*files)

    with (
        patch.object(membership, "refuse_amnesia", judge),
        patch.object(damage, "refuse_amnesia", judge),
    ):
        yield


@pytest.mark.parametrize("files", AGING, ids=" ".join)
def test_files_as_they_were_in_an_earlier_life(files: tuple[str, ...]) -> None:
    """Whichever of them come back together, others contradict them: a ballot the log, a log the floor,
    a floor the lives, and lives those who have met a later one."""
    bring_back_files(files, restarted=True)


def test_a_floor_as_it_was_in_the_same_life() -> None:
    """It promises less, and that does no harm."""
    bring_back_files((Floor.NAME,), restarted=False)


def bring_back_files(files: tuple[str, ...], *, restarted: bool) -> None:
    """Copy files of a follower, and bring them back over its later ones."""
    place = (AGING.index(files) + 0.5) / len(AGING)
    with Simulation(1) as simulation:
        cluster = SimulatedCluster(simulation)
        driver = FaultDriver(cluster, ())
        cluster.start()
        leader = cluster.wait_for_leader()
        name = next(name for name in cluster.names if name != leader)
        simulation.run_for(1.5)
        bring_back = driver.begin(Fault("old file", 0.0, 1.0, (name,), numbers={"file": place}))
        assert bring_back is not None
        for each in (leader, name) if restarted else (leader,):
            cluster.restart(each)
            simulation.run_for(3.0)
        told = bring_back()
        assert told is not None
        assert told.startswith("brings ")
        assert f" of {name} back as it was, and " in told
        simulation.run_for(1.0)
        assert cluster.is_running(name) == (not restarted)
        assert cluster.lost == ({name} if restarted else set())
        cluster.settle()
        assert cluster.monitors is not None
        cluster.monitors.check_all()


@pytest.mark.parametrize(
    ("files", "plant", "rule"),
    [
        ((Ballot.NAME,), refuses_no_amnesia, rules.DAMAGE_NOTICED),
        ((Floor.NAME, LOG), takes_floors_of_earlier_lives, rules.DAMAGE_NOTICED),
        ((Lives.NAME,), bugs.welcomes_an_earlier_copy, rules.COPIES_REFUSED),
    ],
)
def test_who_takes_earlier_files_is_noticed(
    files: tuple[str, ...], plant: Callable[[], AbstractContextManager[Any]], rule: str
) -> None:
    """Neither the start nor the others mind, and so a rule is broken."""
    with plant(), pytest.raises(InvariantViolated) as caught:
        bring_back_files(files, restarted=True)
    assert caught.value.rule == rule


def test_every_subset_of_the_files_of_a_server() -> None:
    """Whichever files are removed together, a server does not start with what is left."""
    image = idle_image()
    assert not is_refused(image)
    choices = _choices(image)
    assert len(choices) > 30
    for removed in choices:
        left = {name: content for name, content in image.items() if name not in removed}
        assert is_refused(left), f"a server starts without {', '.join(removed)}"


def test_a_log_that_nobody_misses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the floor's judgement a server would start though its log is gone."""
    image = idle_image()
    left = {name: content for name, content in image.items() if not name.startswith("log-")}
    assert is_refused(left)
    monkeypatch.setattr(recovery, "_refuse_amnesia", lambda *_: None)
    assert not is_refused(left)
