"""What may be a key and what may be a value, checked alike by the handles and by the machines.

A handle checks before it sends, so that a mistake costs no round trip; a machine checks again,
because what reaches it may come from any program. Values travel and rest as encoded bytes: only
handles encode and decode them, and a machine never looks inside.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

from copycat.actors.codec import CodecError, decode, encode
from copycat.errors import InvalidArgument, InvalidType, TooLarge
from copycat.types import OPERATION_BYTES_MAX, VALUE_BYTES_MAX, Unencoded

Key = str | bytes | int
"""A key is exactly a str, bytes or int; a bool or a subclass is none."""

K = TypeVar("K", bound=Key)
V = TypeVar("V")

KEY_BYTES_MAX = OPERATION_BYTES_MAX - VALUE_BYTES_MAX - 1_024
"""The longest str (in UTF-8) or bytes as a key: a longest value under it is still one operation."""

LATE_BYTES_MIN = 64 * 1024
HEAD_BYTES = 5  # of an encoded str or bytes of this length

KEYS_MAX = 1_000
"""The most keys of one command or query: what is atomic is not carried out in slices."""

_PAIR_BYTES = 16  # what a pair takes at most besides its key and its value

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1


def check_key(key: object) -> None:
    """Refuse what cannot be a key.

    Raises:
        InvalidType: it is not a str, bytes or int.
        InvalidArgument: an int beyond 64 bits with sign, or a str that UTF-8 cannot express.
        TooLarge: longer than ``KEY_BYTES_MAX``.
    """
    if type(key) is str:
        size_bytes = len(key)
        if not key.isascii():
            try:
                size_bytes = len(key.encode())
            except UnicodeEncodeError:
                raise InvalidArgument(f"no key: {key!a:.60} is not valid Unicode") from None
    elif type(key) is bytes:
        size_bytes = len(key)
    elif type(key) is int:
        check_integer(key, "a key")
        return
    else:
        raise InvalidType(f"a key is a str, bytes or int, not {type(key).__qualname__}")
    if size_bytes > KEY_BYTES_MAX:
        raise TooLarge(f"a key of {size_bytes} bytes: {KEY_BYTES_MAX} at most")


def check_list(values: object) -> None:
    """Refuse what is no list.

    Raises:
        InvalidType: it is of another type.
    """
    if type(values) is not list:
        raise InvalidType(f"a list was expected, not {type(values).__qualname__}")


def check_count(keys: Sized, method: str) -> None:
    """Refuse more keys than one operation takes.

    Raises:
        TooLarge: they are more than ``KEYS_MAX``.
    """
    if len(keys) > KEYS_MAX:
        raise TooLarge(f"{method} of {len(keys):,} keys: {KEYS_MAX:,} at most at once; divide them")


def check_integer(number: object, what: str, *, minimum: int = INTEGER_MIN) -> None:
    """Refuse what is not an int from ``minimum`` to ``INTEGER_MAX``.

    Raises:
        InvalidType: it is no int, or a bool.
        InvalidArgument: it is out of range.
    """
    if type(number) is not int:
        raise InvalidType(f"{what} is an int, not {type(number).__qualname__}")
    if not minimum <= number <= INTEGER_MAX:
        raise InvalidArgument(f"{what} is from {minimum} to {INTEGER_MAX}")


def check_encoded(value: object) -> None:
    """Refuse what cannot be an encoded value; its content is not looked at.

    Raises:
        InvalidType: it is not bytes.
        TooLarge: longer than ``VALUE_BYTES_MAX``.
    """
    if type(value) is not bytes:
        raise InvalidType(f"an encoded value is bytes, not {type(value).__qualname__}")
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"a value of {len(value)} encoded bytes: {VALUE_BYTES_MAX} at most")


def encode_value(value: object) -> bytes:
    """The bytes of a value: None, bool, int, float, str, bytes, lists and dicts of them.

    A tuple comes back as a list.

    Raises:
        InvalidType: the codec does not carry it; the text says what and where.
        TooLarge: longer than ``VALUE_BYTES_MAX``.
    """
    try:
        encoded = encode(value)
    except CodecError as error:
        raise InvalidType(f"this cannot be stored: {error}") from None
    check_encoded(encoded)
    return encoded


def value_to_send(value: Any) -> bytes | Unencoded:
    """What stands for a value in an operation: its bytes, or what they are made of when it is sent.

    A long bytes or ASCII str is encoded late, so that those which wait take no memory of ours.

    Raises:
        InvalidType, TooLarge: as ``encode_value``.
    """
    kind = type(value)
    if kind is bytes or kind is str:
        size = len(value)
        if size < LATE_BYTES_MIN and kind is bytes:
            return encode(value)  # nothing to be refused, as nearly always
        if LATE_BYTES_MIN <= size <= VALUE_BYTES_MAX - HEAD_BYTES and (
            kind is bytes or value.isascii()
        ):
            return Unencoded(value, size + HEAD_BYTES)
    return encode_value(value)


def encoded_pairs(values: Mapping[Any, Any]) -> list[list[Any]]:
    """Keys and encoded values, all of them checked; raises as ``check_key`` and ``encode_value``."""
    for key in values:
        check_key(key)
    return [[key, encode_value(value)] for key, value in values.items()]


def divided(pairs: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    """Pairs of key and encoded value in as few parts, in order, as operations take."""
    part: list[list[Any]] = []
    left_bytes = OPERATION_BYTES_MAX // 2
    for pair in pairs:
        key, value = pair
        size_bytes = _PAIR_BYTES + len(value)
        if type(key) is not int:
            size_bytes += len(key) if type(key) is bytes else len(key.encode())
        if part and (len(part) == KEYS_MAX or size_bytes > left_bytes):
            yield part
            part, left_bytes = [], OPERATION_BYTES_MAX // 2
        part.append(pair)
        left_bytes -= size_bytes
    if part:
        yield part


def decode_value(encoded: bytes) -> Any:
    """The value of these bytes: a new object each time, so changing it changes nothing stored.

    Raises:
        InvalidArgument: no handle has written these bytes.
    """
    try:
        return decode(encoded)
    except CodecError as error:
        raise InvalidArgument(f"what is stored there cannot be read: {error}") from None
