"""The codec gives back what it was given, refuses the rest, and survives every input."""

import datetime as dt
import decimal
import enum
import math
import random
from collections import OrderedDict
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.actors.codec import (
    DEPTH_MAX,
    CodecError,
    bytes_at_most,
    decode,
    decode_unchecked,
    encode,
    encode_trusted,
    holds_more_values,
    join_lists,
    list_head,
)

INTEGERS = st.integers(-(2**64), 2**64 - 1)
KEYS = st.one_of(st.text(max_size=5), st.binary(max_size=5), INTEGERS)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


class Colour(enum.IntEnum):
    """An int that is not exactly one."""

    RED = 1


def nested(depth: int) -> Any:
    """Lists inside each other, this many, around a number."""
    value: Any = [0]
    for _ in range(depth - 1):
        value = [value]
    return value


@given(PLAIN)
def test_a_value_comes_back_exactly(value: Any) -> None:
    """Equal, of the same types, NaN included: repr shows all of that."""
    assert repr(decode(encode(value))) == repr(value)


@given(PLAIN, st.integers(-10, 100))
def test_a_value_takes_no_more_bytes_than_is_said(value: Any, enough: int) -> None:
    """As many as it takes, or more; or it takes more than are enough."""
    size_bytes = len(encode(value))
    assert bytes_at_most(value, 10**9) >= size_bytes
    assert bytes_at_most(value, enough) >= min(size_bytes, enough + 1)


def test_what_takes_very_many_bytes_is_not_looked_at_to_its_end() -> None:
    """A short value that holds the same again and again is written out in a billion bytes."""
    value: Any = [b"x" * 100]
    for _ in range(30):
        value = [value, value]
    assert 10_000 < bytes_at_most(value, 10_000) < 100_000
    assert bytes_at_most(b"x" * 10_000, 10**6) < 10_100, "close for what is of bytes"


def test_bytes_of_every_length_are_written_as_the_encoder_writes_them() -> None:
    """Short ones, which do not pass through it, have the one form that CBOR's rules prefer."""
    for length in range(600):
        assert encode(bytes(length)) == cbor2.dumps(bytes(length))


def test_a_tuple_comes_back_as_a_list() -> None:
    """The one difference that is allowed."""
    assert decode(encode((1, (2, "x"), {"k": (3,)}))) == [1, [2, "x"], {"k": [3]}]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({1, 2}, "value"),
        (2**64, "value"),
        (-(2**64) - 1, "value"),
        ([1, {"a": [frozenset()]}], "value[1]['a'][0]"),
        ({"when": dt.datetime.now(tz=dt.UTC)}, "value['when']"),
        ([decimal.Decimal(1)], "value[0]"),
        ({True: 1}, "a key of value"),
        ({1.5: 1}, "a key of value"),
        ({None: 1}, "a key of value"),
        ({(1, 2): 1}, "a key of value"),
        ({2**64: 1}, "a key of value"),
        (Colour.RED, "value"),
        (OrderedDict(a=1), "value"),
        (bytearray(b"x"), "value"),
        (object(), "value"),
        (cbor2.undefined, "value"),
        (cbor2.CBORSimpleValue(3), "value"),
        (cbor2.CBORTag(1, 2), "value"),
        (nested(DEPTH_MAX + 1), "value" + "[0]" * DEPTH_MAX),
    ],
)
def test_what_would_not_come_back_is_refused(value: Any, place: str) -> None:
    """The error says where the offender is."""
    with pytest.raises(CodecError) as refused:
        encode(value)
    assert str(refused.value).endswith(f": {place}")


def test_a_lone_surrogate_is_refused() -> None:
    """It has no UTF-8."""
    with pytest.raises(CodecError):
        encode(["\ud800"])


def test_a_list_that_holds_itself_is_refused() -> None:
    """It is nested too deep, and the check ends."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CodecError, match="too deep"):
        encode(endless)


@pytest.mark.parametrize("counts", [(3, 23, 24), (1, 255, 256), (65_536, 2)])
def test_lists_are_joined_whatever_their_length(counts: tuple[int, ...]) -> None:
    """The head of a list is as long as its count takes."""
    lists = [list(range(count)) for count in counts]
    joined = join_lists([encode(items) for items in lists], sum(counts))
    assert joined == encode([item for items in lists for item in items])


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_the_head_of_a_list_stands_before_its_items(count: int) -> None:
    """At every length at which the head changes its form."""
    items = [None] * count
    assert list_head(count) + b"".join(map(encode, items)) == encode(items)


def test_the_depth_is_limited_exactly_and_on_both_sides() -> None:
    """What may be written may be read, and one more may be neither."""
    deepest = encode(nested(DEPTH_MAX))
    assert decode(deepest) == nested(DEPTH_MAX)
    with pytest.raises(CodecError):
        decode(b"\x81" + deepest)
    with pytest.raises(CodecError):
        encode([nested(DEPTH_MAX)])


@pytest.mark.parametrize("leaf", [0, "x", [], {}, (), None, [1], {"a": []}])
@pytest.mark.parametrize("key", [None, "a", 1])
def test_what_may_be_written_may_be_read_at_every_depth(leaf: Any, key: Any) -> None:
    """Whatever is innermost: both sides stop at the same depth."""
    value = leaf
    for _ in range(DEPTH_MAX + 2):
        try:
            data = encode(value)
        except CodecError:
            with pytest.raises(CodecError):
                decode(encode_trusted(value))
        else:
            assert encode(decode(data)) == data
        value = [value] if key is None else {key: value}


BOMBS = {
    "no bytes": "",
    "bytes after the value": "0000",
    "a trailing value of many bytes": "83010203" + "00" * 5000,
    "text as a date": "c074323031332d30332d32315432303a30343a30305a",
    "a bignum": "c249010000000000000000",
    "a decimal with a huge exponent": "c4821a3b9aca0001",
    "a pattern": "d8236161",
    "a shared value": "d81c80",
    "a cycle": "d81c81d81d00",
    "a string reference": "d9010082 6161 d81900",
    "a set": "d9010280",
    "the mark of CBOR": "d9d9f700",
    "an unknown tag": "da7fffffff00",
    "an endless list": "9fff",
    "endless bytes": "5f4101ff",
    "endless text": "7f6161ff",
    "an endless map": "bf0000ff",
    "a lone break": "ff",
    "a reserved length": "1c",
    "a list longer than memory": "9bffffffffffffffff",
    "a map longer than memory": "bbffffffffffffffff",
    "bytes longer than memory": "5bffffffffffffffff00",
    "text longer than memory": "7bffffffffffffffff00",
    "a large list cut short": "9a00ffffff00",
    "text that is not UTF-8": "62c328",
    "undefined": "f7",
    "undefined in a list": "8201f7",
    "a simple value": "f0",
    "a simple value of two bytes": "f8ff",
    "undefined beside many bytes": "82591000" + "00" * 4096 + "f7",
    "a simple value behind much text": "82791000" + "61" * 4096 + "f0",
    "a key that is a list": "a18000",
    "a key that is a map": "a1a000",
    "a key that is true": "a1f500",
    "a key that is null": "a1f600",
    "a key that is a float": "a1f93c0000",
    "a key that is not a number": "a1f97e0000",
    "a key twice": "a200010002",
    "a key twice in two lengths": "a20001180002",
    "true and one": "a20100f500",
    "deep lists": "81" * 100_000 + "00",
    "deep maps": "a100" * 100_000 + "00",
    "a deep key": "a1" * 1000 + "00",
}


@pytest.mark.parametrize("bomb", BOMBS, ids=str)
def test_hostile_bytes_are_refused(bomb: str) -> None:
    """Each of these is accepted, or does harm, in some decoder with its usual settings."""
    with pytest.raises(CodecError):
        decode(bytes.fromhex(BOMBS[bomb]))


@pytest.mark.parametrize("key", ["80", "820102", "a0", "f5", "f6", "f93c00", "f7", "c101"])
@pytest.mark.parametrize("others", ["", "0000", "616100"], ids=["alone", "an int", "a str"])
def test_keys_by_which_a_stranger_could_slow_a_dict_down_reach_none(others: str, key: str) -> None:
    """Lists above all, whose hashes anybody can choose: they are refused before a dict is made."""
    count = 1 + bool(others)
    for before in ("", "8201", "a101", "a16162"):
        with pytest.raises(CodecError):
            decode_unchecked(bytes.fromhex(f"{before}a{count}{others}{key}00"))


def test_keys_that_are_numbers_pass_at_every_depth() -> None:
    """A dict with such keys may be as deep as any other, and no deeper."""
    value: Any = {7: {"a": b"\x81"}, b"b": [[], {}, {-1: ["\xa1", 1e300, None]}]}
    for _ in range(DEPTH_MAX - 4):
        value = {1: "x", 2**40: value}
    assert decode(encode(value)) == value
    with pytest.raises(CodecError):
        decode(b"\xa1\x01" + encode(value))


@given(PLAIN)
def test_the_values_in_encoded_data_are_counted_exactly(value: Any) -> None:
    """Each list, dict, key and item, and nothing that is inside of bytes and texts."""
    data = encode(value)
    count = _count(value)
    assert not holds_more_values(data, count)
    assert holds_more_values(data, count - 1)


def _count(value: Any) -> int:
    if type(value) is list:
        return 1 + sum(map(_count, value))
    if type(value) is dict:
        return 1 + len(value) + sum(map(_count, value.values()))
    return 1


def test_no_tag_is_decoded_whatever_its_number() -> None:
    """Neither those that the decoder knows nor the others; each head length is tried."""
    for number in [*range(300), 1004, 43000, 55799, 65535, 2**32 - 1, 2**64 - 1]:
        data = b"\xdb" + number.to_bytes(8, "big") + b"\x80"
        with pytest.raises(CodecError):
            decode(data)
        with pytest.raises(CodecError):
            decode(b"\x82\x01" + data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_plain_value_or_refused(data: bytes) -> None:
    """Nothing else is raised, and what decodes can be encoded again."""
    try:
        value = decode(data)
    except CodecError:
        return
    assert repr(decode(encode(value))) == repr(value)


@given(PLAIN, st.integers(0, 2**32))
def test_a_flipped_value_is_a_plain_value_or_refused(value: Any, seed: int) -> None:
    """Near the valid encodings the same holds: bytes are changed, dropped and repeated."""
    data = bytearray(encode(value))
    generator = random.Random(seed)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(data))
        data[at : at + generator.randint(0, 2)] = generator.randbytes(generator.randint(0, 2))
        if not data:
            break
    try:
        changed = decode(bytes(data))
    except CodecError:
        return
    assert repr(decode(encode(changed))) == repr(changed)


@given(PLAIN, st.binary(min_size=1, max_size=10))
def test_nothing_may_follow_the_value(value: Any, more: bytes) -> None:
    """However long the value and whatever follows."""
    with pytest.raises(CodecError):
        decode(encode(value) + more)


def test_a_value_of_many_chunks_is_read_whole() -> None:
    """Decoders read ahead in blocks; the end of the value is found all the same."""
    value = [b"x" * 4096, "y" * 70_000, [math.inf] * 5000]
    data = encode(value)
    assert decode(data) == value
    with pytest.raises(CodecError, match="1 bytes follow"):
        decode(data + b"\x00")
