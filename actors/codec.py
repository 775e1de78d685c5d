"""The codec: plain values as CBOR (RFC 8949), and nothing that bytes from a stranger could abuse.

A plain value is None, a bool, an int from -2**64 to 2**64 - 1, a float (NaN too), a str, bytes, a
list, or a dict whose keys are str, bytes or int; lists and dicts nest at most ``DEPTH_MAX`` deep.
What ``encode`` takes, ``decode`` gives back equal, with one exception: a tuple comes back as a
list. No tags, no indefinite lengths, no duplicate keys, nothing after the value. Every other input
of either function ends as a ``CodecError``.

The limits are ours, not the decoder's: they must mean the same in every version of it, because
servers that apply one log have to agree on what cannot be decoded.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from cbor2 import CBORDecodeError, CBORDecoder, CBOREncodeError, dumps

DEPTH_MAX = 32  # lists and dicts inside each other; a list of numbers has depth 1, an empty one 0
HEAD_BYTES = 9  # what a number takes at most, or a value besides its bytes or items
INTEGER_BOUND = 2**64  # ints are from -INTEGER_BOUND up to but not including it

_SHORT_BYTES = 0x58  # the head of a byte string whose length is in the next byte
_SHORT_BYTES_MIN = 25  # bytes of such a string with its head; shorter ones have another head
_BYTES_HEADS = tuple(
    bytes([0x40 + length]) if length < _SHORT_BYTES_MIN - 1 else bytes([_SHORT_BYTES, length])
    for length in range(256)
)
_SHORT_LIST_MAX = 23
_SHORT_LIST_HEADS = tuple(bytes([0x80 + count]) for count in range(_SHORT_LIST_MAX + 1))
_LIST_HEAD_BYTES = dict.fromkeys(range(0x80, 0x80 + _SHORT_LIST_MAX + 1), 1)
_BYTE_MAX, _TWO_BYTES_MAX = 0xFF, 0xFFFF
_LIST_BYTE, _LIST_TWO_BYTES, _LIST_FOUR_BYTES = 0x98, 0x99, 0x9A
_BYTES_TWO_BYTES, _BYTES_FOUR_BYTES = 0x59, 0x5A
_LIST_HEAD_BYTES |= {_LIST_BYTE: 2, _LIST_TWO_BYTES: 3, _LIST_FOUR_BYTES: 5}  # by the first byte
_KIND_BYTES, _KIND_STR, _KIND_LIST, _KIND_DICT, _KIND_TAG = range(2, 7)  # 0 and 1 are ints
_ARGUMENT_MAX = 23  # in the head itself; the next 4 say that it takes 1, 2, 4 or 8 bytes more
_BYTES_FIRST, _LISTS_FIRST = _KIND_BYTES << 5, _KIND_LIST << 5  # heads of bytes and str are between
_STEPS = tuple(  # from a head to the next one; 0 where the argument is in the bytes that follow
    0
    if head & 31 > _ARGUMENT_MAX
    else 1 + (head & 31 if _BYTES_FIRST <= head < _LISTS_FIRST else 0)
    for head in range(256)
)
_FLAT = frozenset((str, bytes, float, bool, type(None)))
_CONTAINERS = frozenset((list, tuple, dict))
_KEYS = frozenset((str, bytes, int))
_LENT_AGAIN_BYTES_MAX = 16 * 1024
_idle_decoders: tuple[dict[int, list[tuple[BytesIO, CBORDecoder]]], ...] = ({}, {})

# Of much data in few values these are looked at, rather than each byte.
_SPARSE_BYTES_MIN = 4096
_SPARSE_VALUES_MAX = 64

# A decoded value needs a second look only if some byte may be the head of a simple value other
# than false, true and null. All other bytes:
_HARMLESS = bytes(byte for byte in range(256) if not 0xE0 <= byte <= 0xF3).translate(
    None, b"\xf7\xf8"
)


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
    if type(value) is bytes and len(value) < len(_BYTES_HEADS):
        return _BYTES_HEADS[len(value)] + value  # by far the most frequent value
    kind = type(value)
    if kind is int and -INTEGER_BOUND <= value < INTEGER_BOUND:
        return dumps(value)
    is_flat = _FLAT.issuperset(map(type, value)) if kind is list else kind in _FLAT
    if not is_flat and not _is_plain((value,), depth_max):
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


def encode_list(*items: bytes) -> bytes:
    """Write the list of up to 23 values that are encoded already."""
    assert len(items) <= _SHORT_LIST_MAX, "the head of a short list is one byte"
    return b"".join((_SHORT_LIST_HEADS[len(items)], *items))


def bytes_head(length: int) -> bytes:
    """What makes up to 4 GiB of bytes an encoded byte string when it stands before them."""
    if length < len(_BYTES_HEADS):
        return _BYTES_HEADS[length]
    if length <= _TWO_BYTES_MAX:
        return bytes((_BYTES_TWO_BYTES, length >> 8, length & _BYTE_MAX))
    return bytes((_BYTES_FOUR_BYTES,)) + length.to_bytes(4, "big")


def list_head(count: int) -> bytes:
    """What makes so many encoded values a list when it stands before them."""
    if count <= _SHORT_LIST_MAX:
        return _SHORT_LIST_HEADS[count]
    if count <= _BYTE_MAX:
        return bytes((_LIST_BYTE, count))
    if count <= _TWO_BYTES_MAX:
        return bytes((_LIST_TWO_BYTES, count >> 8, count & _BYTE_MAX))
    return bytes((_LIST_FOUR_BYTES,)) + count.to_bytes(4, "big")


def join_lists(lists: Sequence[bytes], count: int) -> bytes:
    """Write the list of all items of lists that are encoded already.

    Args:
        lists: encoded by ``encode``.
        count: how many items they have together.
    """
    return b"".join((list_head(count), *[each[_LIST_HEAD_BYTES[each[0]] :] for each in lists]))


def decode(data: bytes, *, depth_max: int = DEPTH_MAX) -> Any:
    """Read the one plain value that ``data`` holds.

    The value takes at most about 120 times the memory of ``data`` (two bytes make a dict), so
    callers bound the length of what they decode, or ask ``holds_more_values`` first.

    Raises:
        CodecError: ``data`` is anything else.
    """
    size = len(data)
    if size > 1 and data[0] == _SHORT_BYTES and data[1] == size - 2 and size > _SHORT_BYTES_MIN:
        return data[2:]  # a byte string of 24 to 255 bytes, by far the most frequent value
    value = decode_unchecked(data, depth_max=depth_max)
    if size > _SPARSE_BYTES_MIN and not holds_more_values(data, _SPARSE_VALUES_MAX):
        may_be_harmful = True
    else:
        may_be_harmful = bool(data.translate(None, _HARMLESS))
    if may_be_harmful and not is_plain(value, depth_max):
        raise CodecError(_refusal(value, depth_max))
    return value


def decode_unchecked(data: bytes, *, depth_max: int = DEPTH_MAX) -> Any:
    """Read one value without looking at the types in it; for callers that check them themselves.

    Besides plain values it may hold CBOR's undefined and simple values, though not as keys.
    Everything else is as in ``decode``.

    Raises:
        CodecError: ``data`` is anything else.
    """
    try:
        return _decoded(data, depth_max, text_keys=True)
    except CodecError:
        if not _has_number_keys(data, depth_max):
            raise
        return _decoded(data, depth_max, text_keys=False)


def _decoded(data: bytes, depth_max: int, *, text_keys: bool) -> Any:
    # A decoder is lent to one caller at a time, whatever its thread: to make one takes longer than
    # to read most values. One that failed is not used again, nor is one that has read much.
    idle = _idle_decoders[text_keys].get(depth_max)
    if idle is None:
        idle = _idle_decoders[text_keys].setdefault(depth_max, [])
    size_bytes = len(data)
    if size_bytes > _LENT_AGAIN_BYTES_MAX:
        stream, decoder = _new_decoder(data, depth_max, text_keys=text_keys)  # which copies nothing
    else:
        try:
            stream, decoder = idle.pop()
        except IndexError:
            stream, decoder = _new_decoder(b"", depth_max, text_keys=text_keys)
        stream.write(data)
        stream.truncate()
        stream.seek(0)
    try:
        value = decoder.decode()
    except _DECODER_ERRORS as error:
        raise CodecError(f"cannot decode: {error}") from None
    if stream.tell() != size_bytes:
        raise CodecError(f"{size_bytes - stream.tell()} bytes follow the value")
    if size_bytes <= _LENT_AGAIN_BYTES_MAX:
        stream.seek(0)
        idle.append((stream, decoder))
    return value


def _new_decoder(data: bytes, depth_max: int, *, text_keys: bool) -> tuple[BytesIO, CBORDecoder]:
    stream = BytesIO(data)
    decoder = CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_NO_TAGS,
        max_depth=depth_max,  # the decoder counts what is around an item, as we do
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=text_keys,  # str and bytes, and so no int
    )
    return stream, decoder


def _has_number_keys(data: bytes, depth_max: int) -> bool:
    """Whether some keys are ints and all others str or bytes.

    Lists as keys must not reach the decoder: Python hashes tuples of numbers in a way that anybody
    can reckon with, and a dict of 50,000 such keys with one hash takes a minute to make.
    """
    found = False
    left = [1]  # items to come in each list or dict around the next head, keys and values apart
    in_dict = [False]
    for kind, argument in _heads(data):
        while left[-1] == 0:
            left.pop()
            in_dict.pop()
            if not left:
                return False
        is_key = in_dict[-1] and left[-1] % 2 == 0
        left[-1] -= 1
        if is_key:
            if kind > _KIND_STR:
                return False
            found = found or kind < _KIND_BYTES
        elif argument and kind in (_KIND_LIST, _KIND_DICT):
            if len(left) > depth_max:
                return False
            left.append(argument if kind == _KIND_LIST else 2 * argument)
            in_dict.append(kind == _KIND_DICT)
        elif kind == _KIND_TAG:
            return False
    return found


def holds_more_values(data: bytes, values_max: int) -> bool:
    """Whether encoded data holds more than so many values, each list, dict, key and item counted.

    To be asked before decoding: a value costs up to about 120 bytes of memory, however short it
    is encoded. No more data than ``values_max`` bytes cannot, and costs nothing to ask about.
    """
    end = len(data)
    if end <= values_max:
        return False
    at = 0
    # As in _heads, in less time: many a batch of commands is asked about.
    for _ in range(values_max):
        if at >= end:
            return False
        head = data[at]
        step = _STEPS[head]
        if step:
            at += step
        elif head == _SHORT_BYTES and at + 1 < end:
            at += 2 + data[at + 1]
        else:
            argument = head & 31
            if argument > _ARGUMENT_MAX + 4:
                return False
            start, at = at + 1, at + 1 + (1 << (argument - _ARGUMENT_MAX - 1))
            if _BYTES_FIRST <= head < _LISTS_FIRST:
                at += int.from_bytes(data[start:at], "big")
    return at < end


def _heads(data: bytes) -> Iterator[tuple[int, int]]:
    """The kind and the argument of each value in encoded data, as far as it is well-formed."""
    at, end = 0, len(data)
    while at < end:
        head = data[at]
        kind, argument = head >> 5, head & 31
        at += 1
        if argument > _ARGUMENT_MAX:
            if argument > _ARGUMENT_MAX + 4:
                return
            start, at = at, at + (1 << (argument - _ARGUMENT_MAX - 1))
            argument = int.from_bytes(data[start:at], "big")
        if _KIND_BYTES <= kind <= _KIND_STR:
            at += argument
        yield kind, argument


def takes_more_bytes(value: Any, bytes_max: int) -> bool:
    """Whether a value would certainly be encoded in more than so many bytes.

    To be asked of a value from anywhere before ``encode``: a short one can hold the same lists again
    and again, so that nobody has the time or the memory for all of it. It is looked at no further
    than ``bytes_max`` goes, and False of what is no plain value.
    """
    left, level = bytes_max, [value]
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str or kind is bytes:
                left -= len(item)
            elif kind is list or kind is tuple:
                left -= len(item)
                below += item if left >= 0 else ()
            elif kind is dict:
                left -= 2 * len(item)
                below += (*item, *item.values()) if left >= 0 else ()
            if left < 0:
                return True
        level = below
    return False


def bytes_at_most(value: Any, enough: int) -> int:
    """A number of bytes that a value certainly takes no more of when it is encoded, if it can be.

    It is the same in every process, whatever its Python. A value is looked at no further than to find
    more than ``enough`` of them: that is only a number above ``enough`` then.
    """
    size_bytes, level = 0, [value]
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is bytes:
                size_bytes += len(item)
            elif kind is str:
                size_bytes += len(item) if item.isascii() else 4 * len(item)
            elif kind is list or kind is tuple:
                size_bytes += len(item)
                below += item if size_bytes <= enough else ()
            elif kind is dict:
                size_bytes += 2 * len(item)
                below += (*item, *item.values()) if size_bytes <= enough else ()
            size_bytes += HEAD_BYTES
            if size_bytes > enough:
                return size_bytes
        level = below
    return size_bytes


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
        if kind not in _CONTAINERS or (depth_left == 0 and item):
            return False
        if kind is not dict:
            if not _is_plain(item, depth_left - 1):
                return False
        else:
            for key in item:
                if type(key) is not str and not _is_key(key):
                    return False
            if not _is_plain(item.values(), depth_left - 1):
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
    if kind not in _CONTAINERS:
        return f"{kind.__module__}.{kind.__qualname__} is no plain value: {where}"
    if depth_left == 0 and value:
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
