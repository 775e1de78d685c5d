"""The museum of bugs, as far as every run of the tests has time for it; ``make museum`` runs all."""

import pytest

import piece as museum_piece
from museum import PIECES, drawn_by_commit, show
from piece import Piece, Spoiled, look

DRAWN = 5
FILE = "copycat/server/roles/leader.py"
MEMBERSHIP = "copycat/server/membership.py"


@pytest.mark.parametrize("piece", PIECES, ids=[piece.name for piece in PIECES])
def test_a_piece_fits_the_source(piece: Piece) -> None:
    """When the source changes, so must the pieces that replace something in it."""
    piece.check()


def test_pieces_have_names_of_their_own() -> None:
    """A name is how a failure of the museum is told."""
    names = [piece.name for piece in PIECES]
    assert len(set(names)) == len(names) >= 30
    assert all(piece.origin for piece in PIECES)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_pieces_drawn_by_the_commit_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """The worlds of our seeds notice these bugs."""
    with capsys.disabled():
        faults = show(drawn_by_commit(DRAWN), lambda line: print(f"\n{line}", end=""))
    assert not faults


@pytest.mark.parametrize("before", ["this stands nowhere", "self._reads"])
def test_a_piece_that_does_not_fit_is_told_by_its_name(before: str) -> None:
    """It stands there once, or nobody knows what was planted."""
    piece = Piece("it is forgotten", "nobody", FILE, before, "")
    with pytest.raises(Spoiled, match=r"'it is forgotten': .* times in"):
        piece.check()


def test_all_that_a_piece_changes_has_to_fit() -> None:
    """A defence that stands still would hide the bug."""
    fits = ("return self._following\n", "return (self._following)\n")
    piece = Piece("it is half done", "nobody", FILE, *fits, also=((MEMBERSHIP, "nowhere", ""),))
    with pytest.raises(Spoiled, match=rf"'it is half done': .* 0 times in {MEMBERSHIP}"):
        piece.check()


def test_a_piece_changes_all_it_names() -> None:
    """Several places may be in one file, and the later change finds what the earlier one left."""
    piece = Piece(
        "it is thorough",
        "nobody",
        FILE,
        "return self._following\n",
        "return dict(self._following)\n",
        also=(
            (FILE, "return dict(self._following)\n", "return {**self._following}\n"),
            (MEMBERSHIP, "MISSING_FIRST_S = 1.0", "MISSING_FIRST_S = 2.0"),
        ),
    )
    planted = piece.planted_in(museum_piece.ROOT)
    assert "return {**self._following}\n" in planted[FILE]
    assert "MISSING_FIRST_S = 2.0" in planted[MEMBERSHIP]


def test_what_is_no_python_is_told_by_its_name() -> None:
    """A world that cannot begin would count as one that has caught the bug."""
    piece = Piece("it is garbled", "nobody", FILE, "return self._following\n", "return )\n")
    with pytest.raises(Spoiled, match=r"'it is garbled': .* is no Python"):
        piece.check()


def test_a_mistake_in_a_piece_is_no_catch() -> None:
    """Names that are not there say nothing of the bug, only of who wrote the piece."""
    piece = Piece(
        "it is misspelt", "nobody", FILE, "return self._following\n", "return following\n"
    )
    with pytest.raises(Spoiled, match=r"(?s)'it is misspelt': .*NameError"):
        look(piece, 0, 1)


def test_a_world_that_never_ends_is_a_catch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm of messages may break no other rule; but without the bug the world has an end."""
    monkeypatch.setattr(museum_piece, "WORLD_S_MAX", 4)
    piece = Piece(
        "it is stuck",
        "nobody",
        FILE,
        "return self._following\n",
        "return sum(0 for _ in iter(int, 1))\n",
    )
    found = look(piece, 0, 1)
    assert found.rule == "Progress: a world comes to its end"
    assert "iter(int, 1)" in found.told


def test_a_piece_that_survives_is_told_by_its_name() -> None:
    """One that changes nothing outlives all seeds, in the copy as in the source."""
    piece = Piece(
        "it is polite", "nobody", FILE, "return self._following\n", "return (self._following)\n"
    )
    lines: list[str] = []
    faults = show([piece], lines.append, seeds_max=1)
    assert len(faults) == 1
    assert faults[0].startswith("'it is polite': no rule is broken under 1 seeds")
    assert "SURVIVES" in lines[0]
