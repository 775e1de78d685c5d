"""The counters of rare branches: what is counted, how often, and under which faults."""

import pytest

from copycat.testing import reached
from copycat.testing.proof import MATRIX
from copycat.testing.reached import BRANCHES, COUNTED, Branch, Reached


class Door:
    """Something with branches."""

    def open(self, who: str, *, wide: bool = False) -> str:
        """Let somebody in."""
        return f"{who} {wide}"


def watched(monkeypatch: pytest.MonkeyPatch, **branches: Branch) -> Reached:
    """Counters of just these branches."""
    monkeypatch.setattr(reached, "BRANCHES", branches)
    return Reached()


def test_calls_are_counted_while_they_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, by all who count that function; what it returns is what it returned before."""
    counters = watched(
        monkeypatch,
        all=Branch(Door, "open"),
        wide=Branch(Door, "open", before=lambda _door, _who, wide=False: wide),
        ann=Branch(Door, "open", after=lambda result, *_, **__: result.startswith("ann")),
        guests=Branch(Door, "open", once_for=lambda _door, who: who),
    )
    door, plain = Door(), Door.open
    door.open("too early")
    with counters.watching():
        assert door.open("ann") == "ann False"
        assert door.open("bob", wide=True) == "bob True"
        assert door.open("bob") == "bob False"
    door.open("too late")
    assert Door.open is plain
    counted = {name: counters.counts[name] for name in ("all", "wide", "ann", "guests")}
    assert counted == {"all": 3, "wide": 1, "ann": 1, "guests": 2}


def test_what_is_reached_counts_for_the_faults_in_force() -> None:
    """For each kind that is, and for none when there is none."""
    counters = Reached()
    counters.count("refusals")
    assert counters.meanwhile == {}
    counters.in_force = lambda: ["crash", "ring"]
    counters.count("refusals")
    assert counters.counts["refusals"] == 2
    assert counters.meanwhile == {"crash": {"refusals": 1}, "ring": {"refusals": 1}}


def test_all_that_is_counted_is_there_and_shown() -> None:
    """Zero is a number, too, and the matrix shows nothing that nobody counts."""
    assert Reached().counts.keys() == set(COUNTED) > set(BRANCHES)
    assert set(MATRIX) <= set(COUNTED)
