"""Frames survive every way a stream can be cut, and envelopes every content."""

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thespian.actors import ActorExitRequest, PoisonMessage

from copycat.actors import NodeAddress, Plain, message
from copycat.actors.codec import CodecError, encode
from copycat.actors.environment import DiskDone
from copycat.actors.frame import (
    ENVELOPES_MAX,
    FIRST_FRAME_BYTES_MAX,
    FRAME_BYTES_MAX,
    FRAME_VALUES_MAX,
    LARGE_BYTES,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    FrameError,
    FrameReader,
    Unreadable,
    decode_payload,
    encode_control,
    encode_envelopes,
    encode_large,
    envelope,
    frame,
)
from copycat.actors.hello import Hello
from copycat.actors.message import MalformedMessageError

TARGET = NodeAddress("there", 9, 20)
HELLO = Hello(1, 2, "here", 3, 4, ("map",), False)


@message(60001)
class Parcel:
    """Something to send."""

    number: int
    content: Plain


@message(60002)
class Crate:
    """Something to send that has bytes."""

    label: str
    content: bytes
    parts: tuple[bytes, ...]


SIZES_BYTES = (0, 1, 23, 24, 255, 256, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1)
CRATES = st.builds(
    lambda content, parts: Crate("crate", bytes(content), tuple(map(bytes, parts))),
    st.sampled_from(SIZES_BYTES),
    st.lists(st.sampled_from(SIZES_BYTES), max_size=30),
)


def travel(*values: Any) -> list[Any]:
    """The messages that arrive when these are sent in one turn."""
    frames, refused = encode_envelopes([envelope(TARGET, value, 17) for value in values])
    assert refused == []
    reader = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX)
    return [opened for payload in reader.feed(frames) for opened in decode_payload(payload)]


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 40), max_size=30))
def test_a_stream_may_be_cut_anywhere(payloads: list[bytes], cuts: list[int]) -> None:
    """The reader returns the same payloads, each as soon as it is complete."""
    stream = b"".join(frame(payload) for payload in payloads)
    reader = FrameReader()
    got: list[bytes] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        got += reader.feed(stream[at : at + cut])
        at += cut
        complete, end = 0, 0
        for payload in payloads:
            end += 4 + len(payload)
            complete += end <= min(at, len(stream))
        assert len(got) == complete
    assert got == payloads


LARGE_SIZES_BYTES = (0, LARGE_BYTES - 5, LARGE_BYTES - 4, PIECE_BYTES_MAX + 1, 2 * PIECE_BYTES_MAX)


@given(
    st.lists(st.sampled_from(LARGE_SIZES_BYTES), max_size=4),
    st.lists(st.tuples(st.integers(1, 200_000), st.booleans()), max_size=30),
)
def test_large_frames_may_be_put_where_the_reader_says(
    sizes_bytes: list[int], cuts: list[tuple[int, bool]]
) -> None:
    """Whether the next bytes are fed or put into the room of a large frame, nothing else is read."""
    payloads = [bytes((at,)) * size for at, size in enumerate(sizes_bytes)]
    stream = memoryview(b"".join(frame(payload) for payload in payloads))
    reader = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX)
    got: list[bytes] = []
    for cut, fills in [*cuts, *[(len(stream), False)] * bool(stream)]:
        chunk, stream = stream[:cut], stream[cut:]
        while fills and reader.missing_bytes and chunk:
            room = reader.room()[: len(chunk)]
            room[:] = chunk[: len(room)]
            got += reader.filled(len(room))
            chunk = chunk[len(room) :]
        got += reader.feed(chunk)
    assert got == payloads
    assert reader.held_bytes == reader.missing_bytes == 0


def test_a_long_frame_may_come_in_small_chunks() -> None:
    """Nothing is returned until the frame is complete."""
    payload = b"x" * FRAME_BYTES_MAX
    stream = frame(payload)
    reader = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX)
    got: list[bytes] = []
    for at in range(0, len(stream), 1024):
        assert not got
        got += reader.feed(stream[at : at + 1024])
    assert got == [payload]


def test_the_first_frame_has_a_smaller_limit() -> None:
    """A stranger makes us keep little; after the Hello, frames may be large."""
    reader = FrameReader()
    large = b"y" * (FIRST_FRAME_BYTES_MAX + 1)
    assert reader.feed(frame(b"hello") + frame(large)) == [b"hello", large]
    with pytest.raises(FrameError):
        FrameReader().feed(frame(large)[:4])
    with pytest.raises(FrameError):
        reader.feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def peak_bytes(work: Callable[[], object]) -> int:
    """The most memory that is allocated at once while this works."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_frame_in_tiny_chunks_takes_no_more_memory() -> None:
    """What is held of a frame costs its bytes, however a stranger cuts it."""
    reader = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX)
    reader.feed((2**20).to_bytes(4, "big"))

    def feed() -> None:
        for _ in range(50_000):
            reader.feed(bytes(2))

    assert peak_bytes(feed) < 500_000
    assert 100_004 <= reader.held_bytes <= 2 * 100_004


def test_memory_is_taken_for_what_has_come_and_given_back() -> None:
    """To announce a large frame takes little; when it is complete the reader keeps nothing of it."""
    reader = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX)
    reader.feed(FRAME_BYTES_MAX.to_bytes(4, "big") + b"a")
    reader.room()
    assert reader.held_bytes <= 5 + PIECE_BYTES_MIN
    reader.feed(bytes(FRAME_BYTES_MAX - 1))
    assert reader.held_bytes == 0
    readers = []
    tracemalloc.start()
    for _ in range(10):
        readers.append(FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX))
        stream = frame(bytes(2 * PIECE_BYTES_MAX - LARGE_BYTES))
        assert readers[-1].feed(stream[:LARGE_BYTES]) == []
        assert readers[-1].feed(stream[LARGE_BYTES:-1]) == []
        assert readers[-1].feed(stream[-1:]) == [stream[4:]]
        del stream
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < PIECE_BYTES_MAX


@pytest.mark.parametrize(
    "bomb", [b"\x80", b"\xa1\x00" * 30 + b"\x00", b"\x62\xc4\x80"], ids=["lists", "dicts", "texts"]
)
def test_a_frame_of_millions_of_values_is_refused_unmade(bomb: bytes) -> None:
    """A stranger's bytes become few objects, though each may be the head of a list."""
    count = FRAME_BYTES_MAX // len(bomb) - 5
    payload = b"\x9a" + count.to_bytes(4, "big") + bomb * count

    def decode() -> None:
        with pytest.raises(CodecError, match=str(FRAME_VALUES_MAX)):
            decode_payload(payload)

    assert peak_bytes(decode) < 1_000_000


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_are_payloads_or_refused(chunks: list[bytes]) -> None:
    """A link ends by one of three errors, whatever a stranger sends."""
    reader = FrameReader()
    try:
        for chunk in chunks:
            for payload in reader.feed(chunk):
                decode_payload(payload)
    except (FrameError, CodecError, MalformedMessageError):
        pass


def test_changed_frames_are_messages_or_refused(seed: int) -> None:
    """The same near valid streams, with bytes changed at random."""
    generator = random.Random(seed)
    frames, _ = encode_envelopes(
        [envelope(TARGET, Parcel(1, [b"x", {"k": 2}]), 3), envelope(TARGET, "text", 3)]
    )
    stream = encode_control(HELLO) + frames
    for _ in range(300):
        changed = bytearray(stream)
        for _ in range(generator.randint(1, 3)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        try:
            for payload in FrameReader().feed(bytes(changed)):
                decode_payload(payload)
        except (FrameError, CodecError, MalformedMessageError):
            pass


def test_messages_and_plain_values_travel() -> None:
    """With the target's and the sender's place, in order."""
    parcel = Parcel(5, {"a": [1, None]})
    assert travel(parcel, "text", [1, 2]) == [
        (9, 20, 17, parcel),
        (9, 20, 17, "text"),
        (9, 20, 17, [1, 2]),
    ]


def test_a_refused_message_travels_back() -> None:
    """As the PoisonMessage that Thespian's actors know."""
    for refused in (Parcel(5, "x"), "text"):
        ((_, _, _, poison),) = travel(PoisonMessage(refused, "why"))
        assert type(poison) is PoisonMessage
        assert poison.poisonMessage == refused
        assert poison.details == "why"


def test_control_messages_are_told_from_envelopes() -> None:
    """A Hello arrives as itself."""
    (payload,) = FrameReader().feed(encode_control(HELLO))
    assert decode_payload(payload) == HELLO


@pytest.mark.parametrize("value", [object(), {1}, ActorExitRequest(), 2**64])
def test_what_cannot_travel_is_refused_when_it_is_sent(value: Any) -> None:
    """Neither a message nor a plain value."""
    with pytest.raises(CodecError):
        envelope(TARGET, value, 1)


def test_one_bad_message_does_not_hold_up_the_others() -> None:
    """What is no plain value makes no envelope; what is too large is named by its position."""
    with pytest.raises(CodecError, match="set"):
        envelope(TARGET, Parcel(1, {1}), 1)
    values = [Parcel(0, 0), Parcel(2, b"z" * FRAME_BYTES_MAX), Parcel(3, 3)]
    frames, refused = encode_envelopes([envelope(TARGET, value, 1) for value in values])
    assert [at for at, _ in refused] == [1]
    assert str(FRAME_BYTES_MAX) in refused[0][1]
    numbers = [
        opened[3].number
        for payload in FrameReader().feed(frames)
        for opened in decode_payload(payload)
    ]
    assert numbers == [0, 3]


def test_too_much_for_one_frame_takes_several() -> None:
    """In order, and each within the limit."""
    values = [Parcel(number, bytes(1024 * 1024)) for number in range(20)]
    frames, refused = encode_envelopes([envelope(TARGET, value, 1) for value in values])
    assert refused == []
    payloads = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX).feed(frames)
    assert len(payloads) > 2
    assert [opened[3].number for payload in payloads for opened in decode_payload(payload)] == list(
        range(20)
    )


def test_too_many_values_for_one_frame_take_several() -> None:
    """They are divided by the same limit as they are refused by; one that is too much is named."""
    values = [Parcel(number, [0] * (FRAME_VALUES_MAX // 3)) for number in range(7)]
    values.append(Parcel(7, [0] * FRAME_VALUES_MAX))
    frames, refused = encode_envelopes([envelope(TARGET, value, 1) for value in values])
    assert [at for at, _ in refused] == [7]
    assert str(FRAME_VALUES_MAX) in refused[0][1]
    payloads = FrameReader(first_frame_bytes_max=FRAME_BYTES_MAX).feed(frames)
    opened = [opened for payload in payloads for opened in decode_payload(payload)]
    assert [message for *_, message in opened] == values[:7]


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        5,
        [5],
        [5, []],
        [60001, [1, 2], 3],
        [True, []],
        [[1, 2, 3, 60001]],
        [[1, 2, -3, 0, 0]],
        [[1, -2, 3, 0, 0]],
        [[True, 2, 3, 0, 0]],
        [["1", 2, 3, 0, 0]],
        [[1, 2, 3, 0, 0]] * (ENVELOPES_MAX + 1),
        [[1, 2, 3, 0, 0]] * 256,
    ],
)
def test_a_malformed_payload_is_refused(value: Any) -> None:
    """Numbers are unsigned and exact, messages known, fields complete."""
    with pytest.raises(MalformedMessageError):
        decode_payload(encode(value))


@pytest.mark.parametrize(
    "envelope",
    [
        [1, 2, 3, 60001, [1]],
        [1, 2, 3, 60001, [-1, 0]],
        [1, 2, 3, 60001, [True, 0]],
        [1, 2, 3, 60001, [1.0, 0]],
        [1, 2, 3, 65000, [1, 0]],
        [1, 2, 3, 1, [1, None]],
        [1, 2, 3, -1, 0],
        [1, 2, 3, 7, [7, [0, 0, "x"], "y"]],
    ],
)
def test_an_unreadable_message_takes_no_other_with_it(envelope: Any) -> None:
    """An unknown number, wrong fields, a notice of the runtime: the envelopes around it are read."""
    before, unreadable, after = decode_payload(encode([[1, 2, 3, 0, 4], envelope, [1, 2, 3, 0, 5]]))
    assert before == (1, 2, 3, 4)
    assert unreadable[:3] == (1, 2, 3)
    assert type(unreadable[3]) is Unreadable
    assert after == (1, 2, 3, 5)


def test_many_envelopes_travel_in_several_frames() -> None:
    """Each is soon decoded; in order, and none is lost."""
    numbers = list(range(5 * ENVELOPES_MAX + 1))
    frames, refused = encode_envelopes([envelope(TARGET, number, 17) for number in numbers])
    assert refused == []
    payloads = FrameReader().feed(frames)
    assert all(len(decode_payload(payload)) <= ENVELOPES_MAX for payload in payloads)
    assert [each[3] for payload in payloads for each in decode_payload(payload)] == numbers


def test_a_limit_may_be_raised_by_what_came_before() -> None:
    """The reader waits before a frame that is too long until it is fed again."""
    reader = FrameReader(frame_bytes_max=100)
    large = b"y" * 1000
    assert reader.feed(frame(b"hello") + frame(large)) == [b"hello"]
    assert reader.stopped
    reader.frame_bytes_max = 1000
    assert reader.feed(b"") == [large]
    assert not reader.stopped
    with pytest.raises(FrameError):
        reader.feed(frame(bytes(1001)))


def test_notices_of_the_runtime_do_not_travel() -> None:
    """No other node can tell an actor that its disk is done."""
    notice = envelope(TARGET, DiskDone(1, None), 1)
    frames, _ = encode_envelopes([notice])
    (payload,) = FrameReader().feed(frames)
    ((*_, opened),) = decode_payload(payload)
    assert type(opened) is Unreadable


@given(st.lists(CRATES | st.sampled_from([Parcel(1, [2]), "text", {"a": 1}]), max_size=5))
def test_large_bytes_are_encoded_without_a_copy(values: list[Any]) -> None:
    """The pieces are the frame that ``encode_envelopes`` makes, and what is large is one of them."""
    envelopes = [envelope(TARGET, value, 17) for value in values]
    crates = [value for value in values if type(value) is Crate]
    strings = [string for crate in crates for string in (crate.content, *crate.parts)]
    pieces = encode_large(envelopes)
    if any(len(string) >= LARGE_BYTES for string in strings):
        assert pieces is not None
        assert b"".join(pieces) == encode_envelopes(envelopes)[0]
        large = [id(string) for string in strings if len(string) >= LARGE_BYTES]
        assert [id(piece) for piece in pieces if id(piece) in large] == large
    else:
        assert pieces is None


def test_what_may_be_too_much_for_a_frame_is_not_encoded_in_pieces() -> None:
    """Too many bytes, envelopes or values, or what cannot be encoded: each has to be looked at."""
    large = bytes(LARGE_BYTES)
    for values in (
        [Crate("", large, (large,) * (FRAME_BYTES_MAX // LARGE_BYTES))],
        [Crate("", large, ())] * (ENVELOPES_MAX + 1),
        [Crate("", large, ()), Parcel(1, [0] * FRAME_VALUES_MAX)],
        [Crate("\ud800", large, ())],
    ):
        assert encode_large([envelope(TARGET, value, 17) for value in values]) is None
