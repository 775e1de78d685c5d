"""Files that go, and disks that come back as they were: noticed in every world."""

from collections import Counter

import pytest

from copycat.actors.simulation import Simulation
from copycat.storage import recovery
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.damage import is_refused
from copycat.testing.fault import AMNESIA_KINDS
from copycat.testing.losses import _choices
from copycat.testing.seeds import run_seed


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
