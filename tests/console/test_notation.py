"""What people write on a command line is read as meant, and figures are shown as they are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.console.notation import (
    age_text,
    bytes_text,
    key_text,
    parse_duration,
    parse_duration_range,
    parse_peers,
    parse_value,
    printable,
    rate_text,
    value_text,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1m30s", 90),
        ("2h", 7200),
        ("1d", 86400),
        ("0s", 0),
        ("1.5s", 1.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """Each unit means what it says, and several add up."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1s ", "1y", "1s2", "٣s", "inf"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Above all a number without a unit."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_ranges_are_read() -> None:
    """Two durations with dots between; one alone is no range."""
    assert parse_duration_range("300ms..1s") == (0.3, 1.0)
    with pytest.raises(ValueError, match="range"):
        parse_duration_range("300ms")


def test_peers_are_read() -> None:
    """Names with endpoints, of both kinds of addresses."""
    assert parse_peers("n1=a:1, n2=[::1]:2") == {"n1": "a:1", "n2": "[::1]:2"}


@pytest.mark.parametrize("text", ["", "n1", "n1=", "=a:1", "n1=a", "n1=a:1,n1=b:2", "n1=a:1,"])
def test_what_are_no_peers_is_refused(text: str) -> None:
    """Half a server, or one twice, would start a cluster that nobody meant."""
    with pytest.raises(ValueError, match=r"."):
        parse_peers(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ('"7"', "7"),
        ("seven", "seven"),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("true", True),
        ("{oops", "{oops"),
    ],
)
def test_a_value_is_json_or_itself(text: str, value: object) -> None:
    """What is not strict JSON is a text."""
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize("text", ["1e999", "[-1e999]", "9" * 5000, "[" * 100_000])
def test_json_that_cannot_be_kept_is_refused(text: str) -> None:
    """It is not taken for a text in silence, nor for another number."""
    with pytest.raises(ValueError, match=r"too (large|deep)"):
        parse_value(text)


@given(PLAIN)
def test_what_is_printed_can_be_read_again(value: object) -> None:
    """Values are printed as JSON, on one line, and mean the same."""
    text = value_text(value)
    assert "\n" not in text
    if value != float("inf") and "Infinity" not in text and "inf" not in text:
        assert parse_value(text) == json.loads(text) == value


def test_what_json_lacks_is_printed_too() -> None:
    """Bytes, infinities and keys that are no texts, as other programs may have stored them."""
    assert value_text(b"\x00\xff") == '{"base64": "AP8="}'
    assert value_text([float("inf")]) == '["inf"]'
    assert value_text({1: "a", b"k": 2}) == '{"1": "a", "{\\"base64\\": \\"aw==\\"}": 2}'


def test_keys_do_not_break_lines() -> None:
    """A key with a line break or an escape is shown as JSON."""
    assert key_text("ann") == "ann"
    assert key_text("a\nb") == '"a\\nb"'
    assert key_text(7) == "7"
    assert printable("a\x1b[31mb\n") == "a?[31mb?"


@pytest.mark.parametrize(
    ("age_s", "text"),
    [
        (None, "-"),
        (0.25, "250ms"),
        (18.9, "18s"),
        (252, "4m12s"),
        (7800, "2h10m"),
        (273_600, "3d04h"),
    ],
)
def test_ages_are_short(age_s: float | None, text: str) -> None:
    """Two units at most."""
    assert age_text(age_s) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (512, "512 B"),
        (4096, "4.0 KiB"),
        (41 << 20, "41 MiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_sizes_are_short(number: int | None, text: str) -> None:
    """A decimal where it says something."""
    assert bytes_text(number) == text


def test_rates_are_honest() -> None:
    """Unknown is not zero, and less than one is not zero either."""
    assert [rate_text(rate) for rate in (None, 0, 0.1, 9.94, 1240)] == [
        "-/s", "0/s", "0.1/s", "9.9/s", "1,240/s",
    ]  # fmt: skip
