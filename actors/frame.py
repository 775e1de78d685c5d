"""Frames and envelopes: how messages between two nodes lie in a stream of bytes.

A frame is its length (4 bytes, big-endian) and a payload, one CBOR value. Two kinds of payload:

- control, ``[number, fields]``: one message from node to node (``Hello``, ``HelloRefused``);
- envelopes, ``[[target incarnation, target serial, sender serial, number, fields], ...]``: what
  the actors of one node sent to those of the other in one turn, in order, in as many frames as
  that takes.

Number 0 in an envelope stands for a plain value instead of a message. Numbers below
``RUNTIME_NUMBERS`` belong to the runtime: notices such as ``DiskDone`` arise in the node itself,
so an envelope that brings one is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from thespian.actors import PoisonMessage

from copycat.actors.address import NodeAddress
from copycat.actors.codec import (
    DEPTH_MAX,
    CodecError,
    bytes_head,
    decode_unchecked,
    encode,
    encode_trusted,
    holds_more_values,
    is_plain,
    list_head,
)
from copycat.actors.message import (
    BYTES_FIELDS,
    MalformedMessageError,
    Plain,
    from_wire,
    message,
    number_of,
    to_wire,
    wire_form,
)

FRAME_BYTES_MAX = 8 * 1024 * 1024  # of a payload
FRAME_VALUES_MAX = 64 * 1024  # in a payload: lists, dicts, keys and items, not what is in bytes
FIRST_FRAME_BYTES_MAX = 64 * 1024  # of the first payload on a connection, which is the Hello
STRANGER_BYTES_MAX = 256 * 1024  # of a payload of a stranger whom nobody has admitted yet
STRANGER_VALUES_MAX = 4096
LARGE_BYTES = 64 * 1024  # from here on the bytes of a message are written without a copy of them
PIECE_BYTES_MIN, PIECE_BYTES_MAX = 16 * 1024, 256 * 1024
"""Room for more of a large frame is for as much as has come, within these bounds: what is announced
does not take memory before it comes."""
ENVELOPES_MAX = 128  # in a frame, so that one is soon decoded and the next link has its turn
RUNTIME_NUMBERS = 16  # message numbers below this are the runtime's own
PLAIN_NUMBER = 0
ENVELOPE_DEPTH_MAX = DEPTH_MAX + 16  # a plain field may be DEPTH_MAX deep inside its message

_LENGTH_BYTES = 4
_LONG_LIST, _LONGEST_LIST = (
    b"\x98",
    b"\x9b",
)  # heads of lists of more than 23; the shortest has one byte more
_ENVELOPES_MAX_BYTE = bytes((ENVELOPES_MAX,))


class FrameError(ValueError):
    """A stream of bytes that is no sequence of frames. The connection cannot be used further."""


RETURNED_NUMBER = 7


@message(RETURNED_NUMBER)
class Returned:
    """A message that the target refused twice, on its way back; arrives as a ``PoisonMessage``."""

    number: int  # of the refused message, or PLAIN_NUMBER
    fields: Plain
    details: str  # the traceback


def frame(payload: bytes) -> bytes:
    """Put the length in front of a payload of at most ``FRAME_BYTES_MAX``."""
    assert len(payload) <= FRAME_BYTES_MAX, "who frames a payload has bounded it"
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in an envelope where its message would be: that one has no meaning here."""

    reason: str  # one line


class FrameReader:
    """Cuts a stream of bytes into payloads; each byte is copied at most three times.

    It holds at most one incomplete frame, whose length was checked before any of it was kept. A frame
    that comes byte by byte takes no more memory than another, and one that is announced takes memory
    as it comes. Where the rest of a large one goes is said before it is read, so that it is copied
    only once more.

    Attributes:
        frame_bytes_max: of every payload after the first.
        held_bytes: how much memory an incomplete frame takes.
        missing_bytes: of a large frame that has begun; 0 if there is none.
        stopped: whether it waits before a frame that is longer than allowed, for those before it
            may raise the limit: feed it nothing to go on.
    """

    def __init__(
        self,
        first_frame_bytes_max: int = FIRST_FRAME_BYTES_MAX,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.stopped = False
        self._is_first = True
        self._first_max = first_frame_bytes_max
        self._held = bytearray()
        self._needed = _LENGTH_BYTES  # bytes until the next length or payload is complete
        self.held_bytes = 0
        self.missing_bytes = 0
        self._pieces: list[bytearray] = []  # of the large frame, its length first
        self._room = memoryview(b"")  # in the last of them

    def room(self) -> memoryview:
        """Where to put the next bytes of a large frame; ``filled`` has to be called with how many they
        were."""
        assert self.missing_bytes, "a large frame has begun"
        if not self._room:
            size_bytes = min(max(self.held_bytes, PIECE_BYTES_MIN), PIECE_BYTES_MAX)
            self._pieces.append(bytearray(min(self.missing_bytes, size_bytes)))
            self._room = memoryview(self._pieces[-1])
            self.held_bytes += len(self._room)
        return self._room

    def filled(self, size_bytes: int) -> list[bytes]:
        """So many bytes are in the room; returns the payload if they complete it."""
        self._room = self._room[size_bytes:]
        self.missing_bytes -= size_bytes
        if self.missing_bytes:
            return []
        first, *others = self._pieces
        self._pieces, self._room = [], memoryview(b"")
        self.held_bytes = 0
        return [b"".join((memoryview(first)[_LENGTH_BYTES:], *others))]

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take the next bytes of the stream and return the payloads they complete.

        Raises:
            FrameError: the next frame is longer than allowed; the reader must not be used again.
        """
        self.stopped = False
        if self.missing_bytes:
            return self._feed_large(memoryview(data))
        if self.held_bytes:
            self._held += data
            self.held_bytes = len(self._held)
            if self.held_bytes < self._needed:
                return []
            data, self._held, self.held_bytes = memoryview(self._held), bytearray(), 0
        start, end = 0, len(data)
        if end > _LENGTH_BYTES and not self._is_first:  # one whole frame, as nearly always
            length = int.from_bytes(data[:_LENGTH_BYTES], "big")
            if length + _LENGTH_BYTES == end and length <= self.frame_bytes_max:
                return [bytes(data[_LENGTH_BYTES:])]
        payloads: list[bytes] = []
        while True:
            self._needed = _LENGTH_BYTES
            if end - start < self._needed:
                break
            length = int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
            limit = self._first_max if self._is_first else self.frame_bytes_max
            if length > limit:
                if not payloads:
                    raise FrameError(f"a frame of {length} bytes, where {limit} are allowed")
                self.stopped = True
                break
            self._needed += length
            if end - start < self._needed:
                break
            payloads.append(bytes(data[start + _LENGTH_BYTES : start + self._needed]))
            start += self._needed
            self._is_first = False
        if start < end:
            self._held += memoryview(data)[start:]
            self.held_bytes = end - start
        if self._needed >= LARGE_BYTES:
            self.missing_bytes = self._needed - len(self._held)
            self._pieces, self._held = [self._held], bytearray()
            self._needed, self._is_first = _LENGTH_BYTES, False
        return payloads

    def _feed_large(self, data: memoryview) -> list[bytes]:
        payloads: list[bytes] = []
        while data and not payloads:
            size_bytes = min(len(data), len(self.room()))
            self.room()[:size_bytes] = data[:size_bytes]
            payloads = self.filled(size_bytes)
            data = data[size_bytes:]
        return payloads + self.feed(data) if data else payloads


def encode_control(value: Any) -> bytes:
    """The frame of a control message."""
    return frame(encode([number_of(value), to_wire(value)]))


def envelope(target: NodeAddress, value: Any, sender_serial: int) -> list[Any]:
    """A message on its way to an actor of another node, ready for ``encode_envelopes``.

    Raises:
        CodecError: it is neither a message nor a plain value.
    """
    form = wire_form(type(value))
    if form is not None:
        number, write, has_plain = form
        fields: Any = write(value)
        if has_plain:
            encode(fields, depth_max=ENVELOPE_DEPTH_MAX)  # refused where it is sent
    elif type(value) is PoisonMessage:
        _, _, _, refused, refused_fields = envelope(target, value.poisonMessage, sender_serial)
        returned = Returned(refused, refused_fields, str(value.details))
        number, fields = number_of(returned), to_wire(returned)
    else:
        number, fields = PLAIN_NUMBER, value
        encode(value)  # a plain value is bounded in depth, and refused where it is sent
    return [target.incarnation, target.serial, sender_serial, number, fields]


def encode_envelopes(envelopes: Sequence[list[Any]]) -> tuple[bytes, list[tuple[int, str]]]:
    """Encode envelopes, in order, in frames that are neither too large nor too many at once.

    Returns:
        The frames, joined; and which envelopes are not in them, by position, each with the reason:
        not a plain value somewhere, or too large for one frame.
    """
    if len(envelopes) <= ENVELOPES_MAX:
        try:
            payload = encode_trusted(envelopes)  # ``envelope`` has looked into what may be anything
        except CodecError as error:
            reason = str(error)
        else:
            size_bytes = len(payload)
            if size_bytes <= FRAME_VALUES_MAX:  # as nearly always, and no more values than bytes
                return size_bytes.to_bytes(_LENGTH_BYTES, "big") + payload, []
            if size_bytes > FRAME_BYTES_MAX:
                reason = f"it takes {size_bytes} bytes, where {FRAME_BYTES_MAX} are allowed"
            elif holds_more_values(payload, FRAME_VALUES_MAX):
                reason = f"it holds more than the {FRAME_VALUES_MAX} values that are allowed"
            else:
                return frame(payload), []
        if len(envelopes) == 1:
            return b"", [(0, reason)]
    half = len(envelopes) // 2
    first, first_refused = encode_envelopes(envelopes[:half])
    second, second_refused = encode_envelopes(envelopes[half:])
    return first + second, first_refused + [(half + at, why) for at, why in second_refused]


def encode_large(envelopes: Sequence[list[Any]]) -> list[bytes] | None:
    """Encode envelopes that have large byte strings in one frame, and copy none of these.

    Returns:
        The frame in pieces, to be written in this order; None if nothing in it is large, or if it
        may have to be divided or refused: ``encode_envelopes`` does what is right.
    """
    if len(envelopes) > ENVELOPES_MAX or not _are_large(envelopes):
        return None
    parts: list[bytes] = [list_head(len(envelopes))]
    strings_bytes = 0
    try:
        for made in envelopes:
            strings, fields = BYTES_FIELDS.get(made[3]), made[4]
            if not strings:
                parts.append(encode_trusted(made))
                continue
            parts += (list_head(len(made)), *map(encode_trusted, made[:4]), list_head(len(fields)))
            for place, field in enumerate(fields):
                if place not in strings:
                    parts.append(encode_trusted(field))
                    continue
                if type(field) is not bytes:
                    parts.append(list_head(len(field)))
                for content in (field,) if type(field) is bytes else field:
                    parts += (bytes_head(len(content)), content)
                    strings_bytes += len(content)
    except CodecError:
        return None
    size_bytes = sum(map(len, parts))
    values_max = size_bytes - strings_bytes  # for each value has one of the other bytes at least
    if size_bytes > FRAME_BYTES_MAX or values_max > FRAME_VALUES_MAX:
        return None
    parts.insert(0, size_bytes.to_bytes(_LENGTH_BYTES, "big"))
    pieces: list[bytes] = []
    for is_large, several in groupby(parts, lambda part: len(part) >= LARGE_BYTES):
        if is_large:
            pieces += several
        else:
            pieces.append(b"".join(several))
    return pieces


def _are_large(envelopes: Sequence[list[Any]]) -> bool:
    # Asked of whatever is sent, so in little time.
    for made in envelopes:
        for place in BYTES_FIELDS.get(made[3], ()):
            field = made[4][place]
            if not field:
                continue
            if type(field) is bytes:
                if len(field) >= LARGE_BYTES:
                    return True
            elif sum(map(len, field)) >= LARGE_BYTES and max(map(len, field)) >= LARGE_BYTES:
                return True
    return False


def decode_payload(payload: bytes, values_max: int = FRAME_VALUES_MAX) -> Any:
    """What a payload holds: a control message, or a list of envelopes as tuples.

    An envelope is (target incarnation, target serial, sender serial, message); its message is
    ``Unreadable`` if that is not known here or has wrong fields, and the others are as good as ever.

    Raises:
        CodecError: it is no plain value, or holds more than ``values_max`` values.
        MalformedMessageError: it is neither kind of payload, or a control message that is not
            known here or has wrong fields. Nothing of it is to be used.
    """
    if len(payload) > values_max and holds_more_values(payload, values_max):
        raise CodecError(f"more than {values_max} values in one frame")
    if _LONG_LIST <= payload[:1] <= _LONGEST_LIST and (
        payload[:1] > _LONG_LIST or payload[1:2] > _ENVELOPES_MAX_BYTE
    ):
        raise MalformedMessageError(f"more than {ENVELOPES_MAX} envelopes in one frame")
    items = decode_unchecked(payload, depth_max=ENVELOPE_DEPTH_MAX)
    if type(items) is not list or not items:
        raise MalformedMessageError("a payload is a list")
    if type(items[0]) is int:
        if len(items) != 2:
            raise MalformedMessageError("a control message is a number and its fields")
        return from_wire(items[0], items[1])
    return [_opened(item) for item in items]


def _opened(item: Any) -> tuple[int, int, int, Any]:
    if type(item) is not list or len(item) != 5:
        raise MalformedMessageError("an envelope has 5 parts")
    incarnation, serial, sender, number, fields = item
    if not type(incarnation) is type(serial) is type(sender) is type(number) is int:
        raise MalformedMessageError("the first 4 parts of an envelope are numbers")
    if incarnation < 0 or serial < 0 or sender < 0:
        raise MalformedMessageError("addresses have no negative parts")
    try:
        message = from_wire(number, fields) if number >= RUNTIME_NUMBERS else _small(number, fields)
        return incarnation, serial, sender, message
    except MalformedMessageError as error:
        return incarnation, serial, sender, Unreadable(str(error))


def _small(number: int, fields: Any) -> Any:
    """The message with a number of the runtime."""
    if number == PLAIN_NUMBER:
        if not is_plain(fields):
            raise MalformedMessageError("a plain value was expected")
        return fields
    if number != RETURNED_NUMBER:
        raise MalformedMessageError(f"message {number} does not travel in an envelope")
    returned = from_wire(number, fields)
    if returned.number == number:
        raise MalformedMessageError("a returned message is not returned again")
    read = from_wire if returned.number >= RUNTIME_NUMBERS else _small
    return PoisonMessage(read(returned.number, returned.fields), returned.details)
