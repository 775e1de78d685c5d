"""The screens: golden texts by state and size, and what holds for all of them.

``UPDATE=1 make test ONLY=test_overview`` writes the golden texts anew.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text

from copycat.client.status import Answer
from copycat.console.dashboard.model import Picture
from copycat.console.dashboard.overview import HELP, render, render_help, render_plain
from copycat.protocol.status import LongHandlers, Status
from statuses import healthy, later, seen, silence, status

SCREENS = Path(__file__).parent / "screens"
SIZES = ((80, 24), (140, 40), (60, 15), (40, 10))


def _empty() -> list[Answer]:
    return [
        replace(each, resources=(), resource_count=0, sessions=0, connections=0, notes=())
        for each in healthy()
        if isinstance(each, Status)
    ]


def _candidates(term: int) -> list[Answer]:
    return [status("n1", "candidate", term, ""), status("n3", "candidate", term, "")]


PICTURES = {
    "healthy": seen(healthy(), later(healthy(), 10)),
    "empty": seen(_empty()),
    "degraded": seen(healthy(), [status("n2", "leader"), status("n1"), silence("n3")]),
    "no_leader": seen(healthy(), _candidates(43), [*_candidates(48), silence("n2")]),
    "no_majority": seen(
        healthy(), [status("n1", "candidate", 42, ""), silence("n2"), silence("n3", "no answer")]
    ),
    "first_start": seen(
        [status("n1", "inactive", 0, ""), silence("n2"), silence("n3")],
    ),
    "unreachable": seen(healthy(), [silence("n1"), silence("n2", "timed out"), silence("n3")]),
    "never_reached": seen([replace(silence("n1"), name="")]),
}


def plain(lines: list[Text]) -> str:
    """A screen as text."""
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)


@pytest.mark.parametrize("size", SIZES, ids=[f"{width}x{height}" for width, height in SIZES])
@pytest.mark.parametrize("state", PICTURES)
def test_screens_are_as_they_were_approved(state: str, size: tuple[int, int]) -> None:
    """Each state on each size of terminal, to the letter."""
    golden = SCREENS / f"{state}_{size[0]}x{size[1]}.txt"
    drawn = plain(render(PICTURES[state], *size))
    if os.environ.get("UPDATE"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(drawn, encoding="utf-8")
    assert drawn == golden.read_text(encoding="utf-8")


@given(
    state=st.sampled_from(sorted(PICTURES)),
    width=st.integers(40, 240),
    height=st.integers(5, 60),
    paused=st.booleans(),
)
@settings(max_examples=200)
def test_no_screen_is_larger_than_the_terminal(
    state: str, width: int, height: int, *, paused: bool
) -> None:
    """Every line is exactly as wide as the terminal, and there are no more than fit."""
    for drawn in (
        render(PICTURES[state], width, height, paused=paused),
        render_help(width, height),
    ):
        assert len(drawn) <= height
        assert {line.cell_len for line in drawn} == {width}


def _grown(name: str, count: int) -> Picture:
    named = [
        replace(status("n1", "leader" if number == 0 else "follower"), name=f"{name}{number}")
        for number in range(count)
    ]
    return seen([replace(each, leader=named[0].name) for each in named])


@given(
    name=st.text(min_size=1, max_size=80),
    count=st.integers(1, 9),
    width=st.integers(40, 240),
)
@settings(max_examples=100)
def test_names_of_any_kind_fit(name: str, count: int, width: int) -> None:
    """Long names, wide characters and control characters do not break a line."""
    drawn = render(_grown(name, count), width, 24)
    assert {line.cell_len for line in drawn} == {width}
    assert all(line.plain.isprintable() for line in drawn)


@pytest.mark.parametrize("state", PICTURES)
def test_a_condition_is_never_a_colour_alone(state: str) -> None:
    """Every server that is not well has a mark in plain text."""
    picture = PICTURES[state]
    drawn = plain(render(picture, 140, 40))
    for row in picture.rows:
        assert picture.health.verdict == "unreachable" or row.condition in drawn


def test_members_outlive_events_on_small_screens() -> None:
    """What does not fit is left out from the least important end."""
    drawn = plain(render(PICTURES["healthy"], 80, 15))
    assert "Members" in drawn
    assert "Cluster" in drawn
    assert "q quit" in drawn


def test_a_small_terminal_gets_one_line() -> None:
    """Under 60x15 there is the verdict and nothing else."""
    for size in ((59, 15), (60, 14), (20, 3)):
        (line,) = render(PICTURES["healthy"], *size)
        assert line.plain.startswith(" copycat   OK HEALT")


def test_a_plain_picture_shows_all_events() -> None:
    """Into a pipe there is no last line of the screen."""
    drawn = plain(render_plain(PICTURES["healthy"], 80))
    assert drawn.count(" info ") == 6
    assert "q quit" not in drawn


def test_help_fits_on_the_usual_terminal() -> None:
    """On 80x24 every word of it is there."""
    page = " ".join(plain(render_help(80, 24)).replace("|", " ").split())
    for word, text in HELP:
        assert word.strip() in page
        assert text in page


@pytest.mark.parametrize("state", PICTURES)
def test_a_stopped_picture_says_so_in_every_state(state: str) -> None:
    """Whatever else the first line has to say."""
    for width, height in SIZES:
        assert "PAUSED" in render(PICTURES[state], width, height, paused=True)[0].plain


def test_reasons_are_not_cut() -> None:
    """However long: they go on in the next line."""
    reason = "a server of another cluster: 6f1c09aa6f1c09aa, not 0000000000000007; told in full"
    drawn = plain(
        render(seen([status("n2", "leader"), status("n1"), silence("n3", reason)]), 80, 24)
    )
    assert reason in " ".join(drawn.replace("|", " ").split())


def test_figures_are_shown_whole_or_not_at_all() -> None:
    """A figure that is cut is another figure."""
    large = replace(
        status("n2", "leader"), last_index=918_204_000_000, commit_index=918_203_000_000
    )
    for width in range(60, 100):
        drawn = plain(render(seen([large, status("n1"), status("n3")]), width, 24))
        log = next(line for line in drawn.splitlines() if "Log  " in line)
        assert log.strip("| ").split("   ")[-1] in (
            "last 918,204,000,000", "commit 918,203,000,000", "applied 918,200", "41 MiB",
        )  # fmt: skip


def test_help_explains_each_column() -> None:
    """Whatever stands over a column of the members is on the help page."""
    head = plain(render(PICTURES["healthy"], 240, 40)).splitlines()[2]
    page = plain(render_help(100, 40))
    for title in head.strip("| ").split():
        assert title in page


def test_long_handlers_are_shown() -> None:
    """How many there were, and where most often; nothing when there were none."""
    slow = LongHandlers("Leader.propose", 9, 3, 0)
    slowest = replace(status("n2", "leader"), handlers=(slow,))
    answers: list[Answer] = [slowest, status("n1"), status("n3")]
    drawn = plain(render(seen(answers), 140, 40))
    assert "Slow    3 handlers over 50 ms" in drawn
    assert "most often Leader.propose on n2" in drawn
    assert "Slow" not in plain(render(PICTURES["healthy"], 140, 40))


def test_a_server_that_the_leader_has_heard_of_was_seen() -> None:
    """Who begins to look when it is down already has not seen it; the leader has, and says when."""
    picture = seen([status("n2", "leader"), silence("n1"), status("n3")])
    shown = plain(render(picture, 140, 40))
    assert "n1 at 127.0.0.1:7401: connection refused" in shown
    assert "never seen" not in shown
