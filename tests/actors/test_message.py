"""Messages keep their fields over the wire and take no others."""

from typing import Any

import pytest

from copycat.actors import NodeAddress, Plain, message
from copycat.actors.codec import decode, encode
from copycat.actors.message import (
    INTEGER_MAX,
    MESSAGES,
    MalformedMessageError,
    from_wire,
    is_message,
    number_of,
    to_wire,
)


@message(60011)
class Inner:
    """A message inside another."""

    name: str


@message(60012)
class Every:
    """One field of each type."""

    integer: int
    real: float
    text: str
    raw: bytes
    flag: bool
    address: NodeAddress
    many: tuple[int, ...]
    nested: tuple[Inner, ...]
    maybe: str | None
    inner: Inner
    perhaps: NodeAddress | None
    anything: Plain


EVERY = Every(
    integer=INTEGER_MAX,
    real=0.5,
    text="t",
    raw=b"r",
    flag=True,
    address=NodeAddress("n", 1, 2),
    many=(1, 2, 3),
    nested=(Inner("a"), Inner("b")),
    maybe=None,
    inner=Inner("c"),
    perhaps=NodeAddress("m", 3, 4),
    anything={"k": [1, None]},
)


def test_a_message_comes_back_equal() -> None:
    """Over the wire and the codec, each field with its own type."""
    wire = decode(encode(to_wire(EVERY)))
    assert from_wire(number_of(EVERY), wire) == EVERY


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, -1),
        (0, True),
        (0, 1.0),
        (0, INTEGER_MAX + 1),
        (0, None),
        (1, 1),
        (2, b"t"),
        (3, "r"),
        (4, 1),
        (5, ["n", 1]),
        (5, ["n", 1, -2]),
        (5, [b"n", 1, 2]),
        (6, [1, "2"]),
        (6, 5),
        (7, [["a"]]),
        (7, [[60012, ["a"]]]),
        (8, 5),
        (9, None),
        (9, [60011, []]),
        (10, "m"),
    ],
)
def test_a_wrong_field_is_refused(at: int, value: Any) -> None:
    """Types are exact: a bool is no number, a number no float."""
    wire = to_wire(EVERY)
    wire[at] = value
    with pytest.raises(MalformedMessageError):
        from_wire(number_of(EVERY), wire)


@pytest.mark.parametrize("wire", [[], [1], {}, None, "x", [0] * 13])
def test_a_wrong_number_of_fields_is_refused(wire: Any) -> None:
    """Also when they are no list at all."""
    with pytest.raises(MalformedMessageError):
        from_wire(number_of(EVERY), wire)


@pytest.mark.parametrize("number", [0, 59999, -1, True, "60011", None])
def test_an_unknown_number_is_refused(number: Any) -> None:
    """Numbers are exact, too."""
    with pytest.raises(MalformedMessageError):
        from_wire(number, ["x"])


def test_a_number_is_taken_once() -> None:
    """Two messages with one number would be mistaken for each other."""
    with pytest.raises(AssertionError, match="is taken"):

        @message(60011)
        class Other:
            name: str


def test_the_table_holds_what_was_declared() -> None:
    """And a class is a message only if it was declared itself."""

    class Heir(Inner):
        pass

    assert MESSAGES[60011] is Inner
    assert is_message(Inner)
    assert not is_message(Heir)
    assert not is_message(Inner("x"))
