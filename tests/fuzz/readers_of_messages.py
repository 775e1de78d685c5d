"""What reads bytes from the network: the codec, frames, and the messages in them."""

import typing
from dataclasses import fields
from typing import Any

from thespian.actors import PoisonMessage

from copycat.actors import NodeAddress
from copycat.actors import frame as frames
from copycat.actors.codec import (
    CodecError,
    decode,
    decode_unchecked,
    encode,
    holds_more_values,
    is_plain,
)
from copycat.actors.frame import (
    ENVELOPE_DEPTH_MAX,
    FIRST_FRAME_BYTES_MAX,
    FRAME_BYTES_MAX,
    RUNTIME_NUMBERS,
    FrameError,
    FrameReader,
    Unreadable,
    decode_payload,
    encode_control,
    encode_envelopes,
    envelope,
    frame,
)
from copycat.actors.hello import Hello, HelloRefused
from copycat.actors.message import (
    INTEGER_MAX,
    MESSAGES,
    MalformedMessageError,
    Plain,
    is_message,
)
from reader import Reader

LENGTH_BYTES = 4
PIECE_BYTES = 3  # less than a length takes
TEST_NUMBERS = 60_000
TARGET = NodeAddress("there", 9, 20)
DEEP: Any = {"deep": [[[{1: [{b"deeper": [[None, True]]}]}]]]}
VALUES: list[Any] = [
    None,
    [True, False, None],
    [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1],
    [-1, -24, -25, -256, -257, -(2**32), -(2**32) - 1, -(2**64)],
    [0.0, -0.0, 1.5, 1e300, float("inf"), float("nan")],
    ["", "a", "grün", "x" * 30, b"", b"\x00\xff", b"y" * 30, b"z" * 300],
    {"a": 1, b"a": 2, 1: {2: 3}, -1: {}},
    [[], {}, [[]], [{}], {"": []}],
    DEEP,
]


def values_in(value: Any) -> int:
    """How many values this is, each list, dict, key and item counted."""
    if type(value) is list:
        return 1 + sum(map(values_in, value))
    if type(value) is dict:
        return 1 + len(value) + sum(map(values_in, value.values()))
    return 1


def read_value(data: bytes) -> str:
    """Bytes are a plain value, which may be written and read again, or a ``CodecError``."""
    try:
        decode_unchecked(data, depth_max=ENVELOPE_DEPTH_MAX)
    except CodecError:
        pass
    try:
        value = decode(data)
    except CodecError as error:
        return f"refused: {error}"
    assert repr(decode(encode(value))) == repr(value), "what is read may be written, and read again"
    count = values_in(value)
    assert not holds_more_values(data, count), "values are counted"
    assert holds_more_values(data, count - 1), "no value is forgotten"
    return type(value).__name__


def read_stream(data: bytes) -> str:
    """A stream is messages or one of three errors, however it arrives."""
    whole = payloads_of([data])
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    assert whole == payloads_of(pieces), "how it is cut changes nothing"
    payloads, outcome = whole
    for payload in payloads:
        outcome = read_payload(payload)
    return outcome


def payloads_of(chunks: list[bytes]) -> tuple[list[bytes], str]:
    """The payloads of a stream, none if it is refused, and what is left of it."""
    reader = FrameReader()
    payloads = []
    for chunk in chunks:
        try:
            payloads += reader.feed(chunk)
            while reader.stopped:  # before a long frame; nobody raises the limit here
                payloads += reader.feed(b"")
        except FrameError:
            return [], "no frames"
    stream = b"".join(chunks)
    rest = stream[sum(LENGTH_BYTES + len(payload) for payload in payloads) :]
    if reader.missing_bytes:
        announced_bytes = LENGTH_BYTES + int.from_bytes(rest[:LENGTH_BYTES], "big")
        assert announced_bytes - reader.missing_bytes == len(rest), "nothing is lost"
        assert 0 <= reader.held_bytes - len(rest) <= frames.PIECE_BYTES_MAX, (
            "no more memory than is filled"
        )
    else:
        assert reader.held_bytes == len(rest), "nothing is lost"
    assert stream == join_stream(payloads) + rest, "nothing is changed"
    if len(rest) >= LENGTH_BYTES:
        limit = FRAME_BYTES_MAX if payloads else FIRST_FRAME_BYTES_MAX
        assert int.from_bytes(rest[:LENGTH_BYTES], "big") <= limit, "no long frame is waited for"
    return payloads, "with a rest" if rest else "whole"


def read_payload(payload: bytes) -> str:
    """A payload is messages that may be sent on as they are, or it is refused."""
    try:
        opened = decode_payload(payload)
    except (CodecError, MalformedMessageError) as error:
        return f"{type(error).__name__} {error}"
    if type(opened) is not list:
        assert fits(opened, type(opened)), "fields have their types"
        again = decode_payload(encode_control(opened)[LENGTH_BYTES:])
        assert shown(again) == shown(opened), "a control message is what was sent"
        return type(opened).__name__
    unreadable = [message.reason for *_, message in opened if type(message) is Unreadable]
    opened = [each for each in opened if type(each[3]) is not Unreadable]
    envelopes = []
    for incarnation, serial, sender, message in opened:
        target = NodeAddress("there", incarnation, serial)
        assert fits(target, NodeAddress), "an address has no negative parts"
        assert fits(message, type(message) if is_message(type(message)) else Plain)
        envelopes.append(envelope(target, message, sender))
    if unreadable and not opened:
        return f"Unreadable {unreadable[0]}"
    frames, refused = encode_envelopes(envelopes)
    assert not refused, "what has arrived may be sent on"
    again = decode_payload(frames[LENGTH_BYTES:])
    assert shown(again) == shown(opened), "messages are what was sent"
    return " ".join(type(message).__name__ for *_, message in opened[:3])


def fits(value: Any, hint: Any) -> bool:
    """Whether a field of this type may hold this value."""
    kind = type(value)
    if hint is Plain:
        return kind is PoisonMessage or is_plain(value)
    if hint is int:
        return kind is int and 0 <= value <= INTEGER_MAX
    if typing.get_origin(hint) is tuple:
        (item,) = {*typing.get_args(hint)} - {...}
        return kind is tuple and all(fits(part, item) for part in value)
    if typing.get_args(hint):  # or None
        return any(fits(value, part) for part in typing.get_args(hint))
    if is_message(hint):
        hints = typing.get_type_hints(hint)
        parts = [(getattr(value, name), hints[name]) for name in hints]
        return kind is hint and all(fits(part, of) for part, of in parts)
    if hint is NodeAddress:
        return kind is hint and fits(value.incarnation, int) and fits(value.serial, int)
    return kind is hint


def shown(value: Any) -> str:
    """All of a value as text, whatever is in it."""
    if type(value) is list:
        return f"[{', '.join(map(shown, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(shown, value))})"
    if type(value) is PoisonMessage:
        return f"PoisonMessage({shown(value.poisonMessage)}, {value.details!r})"
    return repr(value)


def streams() -> list[bytes]:
    """Streams as nodes send them."""
    hello = encode_control(Hello(1, 2, "here", 3, 4, ("map", "lock"), False))
    refused = encode_control(HelloRefused("another version"))
    plain, _ = encode_envelopes([envelope(TARGET, value, 17) for value in VALUES])
    returned, _ = encode_envelopes([envelope(TARGET, PoisonMessage(DEEP, "a traceback"), 0)])
    known = [example_of(cls) for number, cls in sorted(MESSAGES.items()) if is_sent(number)]
    each = [encode_envelopes([envelope(TARGET, value, 17)])[0] for value in known]
    return [hello, refused, hello + plain, returned, hello + plain + returned, *each]


def is_sent(number: int) -> bool:
    """Whether actors send messages of this number; those of tests come and go."""
    return RUNTIME_NUMBERS <= number < TEST_NUMBERS


def example_of(hint: Any) -> Any:
    """A value for a field of this type, or a message of it."""
    if is_message(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{field.name: example_of(hints[field.name]) for field in fields(hint)})
    if typing.get_origin(hint) is tuple:
        return (example_of(typing.get_args(hint)[0]),) * 2
    if typing.get_args(hint):  # or None
        return example_of(typing.get_args(hint)[0])
    return {int: 2**32, str: "text", bytes: b"bytes", bool: True, NodeAddress: TARGET}.get(
        hint, 1.5
    )


def split_stream(data: bytes) -> list[bytes]:
    """The payloads of a stream; what is no whole frame is the last."""
    parts = []
    while len(data) > LENGTH_BYTES:
        length = min(int.from_bytes(data[:LENGTH_BYTES], "big"), FIRST_FRAME_BYTES_MAX)
        parts.append(data[LENGTH_BYTES : LENGTH_BYTES + length])
        data = data[LENGTH_BYTES + length :]
    return parts


def join_stream(parts: list[bytes]) -> bytes:
    """The stream of these payloads."""
    return b"".join(map(frame, parts))


READERS = [
    Reader("codec", read_value, lambda: [encode(value) for value in VALUES], ("actors/codec.py",)),
    Reader(
        "frames",
        read_stream,
        streams,
        ("actors/codec.py", "actors/frame.py", "actors/message.py"),
        split=split_stream,
        join=join_stream,
    ),
]
