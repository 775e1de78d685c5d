"""The codec: plain values as CBOR (RFC 8949), and nothing that bytes from a stranger could abuse.

A plain value is None, a bool, an int from -2**64 to 2**64 - 1, a float (NaN too), a str, bytes, a
list, or a dict whose keys are str, bytes or int; lists and dicts nest at most ``DEPTH_MAX`` deep.
What ``encode`` takes, ``decode`` gives back equal, with one exception: a tuple comes back as a
list. No tags, no indefinite lengths, no duplicate keys, nothing after the value. Every other input
of either function ends as a ``CodecError``.

The limits are ours, not the decoder's: they must mean the same in every version of it, because
servers that apply one log have to agree on what cannot be decoded.
"""

from io import BytesIO
from typing import Any

from cbor2 import CBORDecodeError, CBORDecoder, CBOREncodeError, dumps

DEPTH_MAX = 32  # lists and dicts inside each other; a list of numbers has depth 1
INTEGER_BOUND = 2**64  # ints are from -INTEGER_BOUND up to but not including it

_SHORT_BYTES = 0x58  # the head of a byte string whose length is in the next byte
_SHORT_BYTES_MIN = 25  # bytes of such a string with its head; shorter ones have another head
_FLAT = frozenset((str, bytes, float, bool, type(None)))
_KEYS = frozenset((str, bytes, int))

# A decoded value needs a second look only if some byte may be the head of a map that is not
# empty (its keys), or of a simple value other than false, true and null. All other bytes:
_HARMLESS = bytes(
    byte for byte in range(256) if not 0xA1 <= byte <= 0xBB and not 0xE0 <= byte <= 0xF3
).translate(None, b"\xf7\xf8")


# What the decoder may raise, whatever the bytes; a CodecError of our own hooks is among them.
_DECODER_ERRORS = (
    CBORDecodeError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class CodecError(ValueError):
    """A value that cannot be encoded, or bytes that are no plain value. Nothing was done."""


def encode(value: Any, *, depth_max: int = DEPTH_MAX) -> bytes:
    """Write a plain value as CBOR.

    Args:
        value: types are taken exactly: an ``IntEnum``, a ``set`` or a ``datetime`` is refused.
        depth_max: how deep lists and dicts may nest.

    Raises:
        CodecError: it is not a plain value; the text names the type and where it is.
    """
    if type(value) not in _FLAT and not _is_plain((value,), depth_max):
        raise CodecError(_refusal(value, depth_max))
    return encode_trusted(value)


def encode_trusted(value: Any) -> bytes:
    """Write a value of which the caller knows that it is plain; see ``encode``.

    Raises:
        CodecError: it is not. Not every such value is noticed.
    """
    try:
        return dumps(value)
    except UnicodeEncodeError as error:
        raise CodecError(f"cannot encode str: {error.reason}") from None
    except (CBOREncodeError, MemoryError) as error:
        raise CodecError(f"cannot encode: {error}") from None


def decode(data: bytes, *, depth_max: int = DEPTH_MAX) -> Any:
    """Read the one plain value that ``data`` holds.

    The value takes at most about 80 times the memory of ``data`` (one byte makes an empty list),
    so callers bound the length of what they decode.

    Raises:
        CodecError: ``data`` is anything else.
    """
    size = len(data)
    if size > 1 and data[0] == _SHORT_BYTES and data[1] == size - 2 and size > _SHORT_BYTES_MIN:
        return data[2:]  # a byte string of 24 to 255 bytes, by far the most frequent value
    value = decode_unchecked(data, depth_max=depth_max)
    if data.translate(None, _HARMLESS) and not is_plain(value, depth_max):
        raise CodecError(_refusal(value, depth_max))
    return value


def decode_unchecked(data: bytes, *, depth_max: int = DEPTH_MAX) -> Any:
    """Read one value without looking at the types in it; for callers that check them themselves.

    Besides plain values it may hold CBOR's undefined and simple values, and maps whose keys are
    None, bools, floats or lists. Everything else is as in ``decode``.

    Raises:
        CodecError: ``data`` is anything else.
    """
    stream = BytesIO(data)
    try:
        value = CBORDecoder(
            stream,
            tag_hook=_refuse_tag,
            semantic_decoders=_NO_TAGS,
            max_depth=depth_max - 1,  # the decoder does not count the outermost
            allow_indefinite=False,
            allow_duplicate_keys=False,
        ).decode()
    except _DECODER_ERRORS as error:
        raise CodecError(f"cannot decode: {error}") from None
    if stream.tell() != len(data):
        raise CodecError(f"{len(data) - stream.tell()} bytes follow the value")
    return value


def is_plain(value: Any, depth_max: int = DEPTH_MAX) -> bool:
    """Whether this is a plain value."""
    return _is_plain((value,), depth_max)


def _is_plain(values: Any, depth_left: int) -> bool:
    """Whether these values, the items of one list or dict, are plain all the way down."""
    for item in values:
        kind = type(item)
        if kind in _FLAT:
            continue
        if kind is int:
            if -INTEGER_BOUND <= item < INTEGER_BOUND:
                continue
            return False
        if depth_left == 0:
            return False
        if kind is list or kind is tuple:
            if not _is_plain(item, depth_left - 1):
                return False
        elif kind is dict:
            for key in item:
                if type(key) is not str and not _is_key(key):
                    return False
            if not _is_plain(item.values(), depth_left - 1):
                return False
        else:
            return False
    return True


def _is_key(key: Any) -> bool:
    kind = type(key)
    return kind in _KEYS and (kind is not int or -INTEGER_BOUND <= key < INTEGER_BOUND)


def _refusal(value: Any, depth_left: int, where: str = "value") -> str:
    """Why ``_is_plain`` said no: what is in the way, and where it is."""
    kind = type(value)
    if kind is int and not -INTEGER_BOUND <= value < INTEGER_BOUND:
        return f"an int of {value.bit_length()} bits is too large: {where}"
    if kind in _FLAT or kind is int:
        return ""
    if kind not in (list, tuple, dict):
        return f"{kind.__module__}.{kind.__qualname__} is no plain value: {where}"
    if depth_left == 0:
        return f"lists and dicts are nested too deep: {where}"
    places: Any = enumerate(value)
    if kind is dict:
        places = value.items()
        for key in value:
            if not _is_key(key):
                return f"{type(key).__qualname__} is no key, or too large for one: a key of {where}"
    for place, item in places:
        reason = _refusal(item, depth_left - 1, f"{where}[{place!r:.40}]")
        if reason:
            return reason
    return ""


def _refuse_tag(*_: Any) -> Any:
    raise CodecError("CBOR tags are not allowed")


# A tag that the decoder knows does not reach the hook, so each number of its table is taken over;
# the table's size is not documented, hence all small numbers and the large ones it has had so far.
_NO_TAGS = dict.fromkeys(
    (*range(1024), 1004, 43000, 43001, 55799, 55800, 65535, 4294967295), _refuse_tag
)
