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
from copycat.storage.ballot import Ballot
from copycat.storage.floor import Floor
from copycat.storage.lives import Lives
from copycat.testing import damage, rules
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.damage import is_refused
from copycat.testing.fault import AMNESIA_KINDS, Fault
from copycat.testing.faults import FaultDriver
from copycat.testing.losses import _AGING, _choices
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


@pytest.mark.parametrize("file", _AGING)
def test_an_earlier_state_of_one_file(file: str) -> None:
    """A ballot is contradicted by the log, lives by those who have met a later one; a floor that is
    too low does no harm."""
    place = (_AGING.index(file) + 0.5) / len(_AGING)
    with Simulation(1) as simulation:
        cluster = SimulatedCluster(simulation)
        driver = FaultDriver(cluster, ())
        cluster.start()
        leader = cluster.wait_for_leader()
        name = next(name for name in cluster.names if name != leader)
        simulation.run_for(1.5)
        bring_back = driver.begin(Fault("old file", 0.0, 1.0, (name,), numbers={"file": place}))
        assert bring_back is not None
        for each in (leader, name):
            cluster.restart(each)
            simulation.run_for(3.0)
        told = bring_back()
        assert told is not None
        assert told.startswith(f"brings {file} of {name} back as it was")
        simulation.run_for(1.0)
        assert cluster.is_running(name) == (file == Floor.NAME)
        assert cluster.lost == (set() if file == Floor.NAME else {name})
        cluster.settle()
        assert cluster.monitors is not None
        cluster.monitors.check_all()


@pytest.mark.parametrize(
    ("file", "plant", "rule"),
    [
        (Ballot.NAME, refuses_no_amnesia, rules.DAMAGE_NOTICED),
        (Lives.NAME, bugs.welcomes_an_earlier_copy, rules.COPIES_REFUSED),
    ],
)
def test_who_takes_an_earlier_file_is_noticed(
    file: str, plant: Callable[[], AbstractContextManager[Any]], rule: str
) -> None:
    """Neither the start nor the others mind, and so a rule is broken."""
    with plant(), pytest.raises(InvariantViolated) as caught:
        test_an_earlier_state_of_one_file(file)
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
