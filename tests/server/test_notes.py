"""Notes: a warning that its cause repeats without an end is not repeated without an end."""

from typing import Any, cast

from copycat.server.notes import AGAIN_LAST_S, Notes


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 5.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_time_s(self) -> float:
        return self.now_s


def notes_of(clock: Clock) -> Notes:
    return Notes(cast("Any", clock), "n1")


def test_a_warning_comes_again_after_growing_pauses() -> None:
    """At last once a minute, and says how many were left out; others and a later one come at once."""
    clock = Clock()
    notes = notes_of(clock)
    for _ in range(4 * 600):
        notes.add("warning", "refused n2: it is another one")
        clock.now_s += 0.25
    said = notes.all()
    assert 14 <= len(said) <= 18  # 1, 2, 4, ... 60 s between them in ten minutes
    assert said[1].endswith("it is another one (and 3 more like it before)")
    notes.add("warning", "refused n3")
    for later_s in (2 * AGAIN_LAST_S + 1, 1):
        clock.now_s += later_s
        notes.add("warning", "refused n2: it is another one")
    assert len(notes.all()) == len(said) + 3


def test_what_happens_again_is_no_repetition() -> None:
    """News is noted each time."""
    notes = notes_of(Clock())
    for _ in range(3):
        notes.add("info", "n1 leads in term 2")
    assert len(notes.all()) == 3
