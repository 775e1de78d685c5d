"""Batches: what is encoded is decoded, and no other bytes are."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.storage.batch import (
    RECORD_BYTES_MAX,
    RECORD_BYTES_MIN,
    Batch,
    BatchKind,
    Commands,
    Part,
    bundled,
)
from copycat.storage.errors import BatchCorruptError, BatchFormatError

NUMBERS = st.integers(0, 2**64 - 1)


@given(
    kind=st.sampled_from([kind for kind in BatchKind if kind != BatchKind.BUNDLE]),
    base_index=st.integers(1, 2**63 - 1),
    count=st.integers(1, 512),
    wall_time_us=st.integers(-(2**63), 2**63 - 1),
    numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    operations=st.binary(max_size=300),
)
def test_decoding_gives_back_what_was_encoded(
    kind: BatchKind,
    base_index: int,
    count: int,
    wall_time_us: int,
    numbers: tuple[int, int, int, int, int, int],
    operations: bytes,
) -> None:
    """Every field survives, and the record is the very same bytes."""
    term, log_time_us, session, first_sequence, response_sequence, event_sequence = numbers
    made = Batch.encode(
        kind=kind,
        base_index=base_index,
        count=count,
        term=term,
        log_time_us=log_time_us,
        wall_time_us=wall_time_us,
        session=session,
        first_sequence=first_sequence,
        response_sequence=response_sequence,
        event_sequence=event_sequence,
        operations=operations,
    )
    read = Batch.decode(made.record)
    for name in Batch.__slots__:
        assert getattr(read, name) == getattr(made, name)
    assert read == made
    assert type(read.kind) is BatchKind
    assert read.operations == operations
    assert read.last_index == base_index + count - 1


PARTS = st.tuples(NUMBERS, NUMBERS, st.integers(1, 9), NUMBERS, NUMBERS, st.binary(max_size=40))


@given(parts=st.lists(PARTS, min_size=1, max_size=20))
def test_a_bundle_gives_back_its_parts(parts: list[Part]) -> None:
    """Each part comes back with its fields, at the indexes behind those of the part before."""
    read = Batch.decode(bundle(bundled(parts), sum(part[2] for part in parts)))
    index = read.base_index
    for found, part in zip(read.commands(), parts, strict=True):
        assert found == Commands(index, *part)
        index += found.count
    assert index == read.last_index + 1


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"", 1),
        (b"\x01", 1),
        (b"\x00\x00", 1),  # no parts
        (b"\x02\x00" + bundled([(7, 1, 1, 0, 0, b"x")])[2:], 1),  # a part that is not there
        (bundled([(7, 1, 1, 0, 0, b"x")]), 2),
        (bundled([(7, 1, 2, 0, 0, b"x"), (8, 1, 0, 0, 0, b"y")]), 2),
        (bundled([(7, 1, 1, 0, 0, b"x")]) + b"y", 1),
        (bundled([(7, 1, 1, 0, 0, b"x")])[:-1], 1),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(content: bytes, count: int) -> None:
    """Its parts are all that it holds, in indexes and in bytes, and none is empty."""
    with pytest.raises(BatchCorruptError):
        Batch.decode(bundle(content, count))


def bundle(content: bytes, count: int) -> bytes:
    """The record of a bundle."""
    return Batch.encode(
        kind=BatchKind.BUNDLE,
        base_index=5,
        count=count,
        term=3,
        log_time_us=4,
        wall_time_us=5,
        operations=content,
    ).record


def example(operations: bytes = b"operations") -> bytes:
    """The record of one batch."""
    return Batch.encode(
        kind=BatchKind.COMMANDS,
        base_index=5,
        count=2,
        term=3,
        log_time_us=4,
        wall_time_us=5,
        operations=operations,
    ).record


def test_every_flipped_bit_is_found() -> None:
    """One CRC covers all of a record, itself included."""
    record = example()
    for position in range(len(record) * 8):
        flipped = bytearray(record)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(BatchCorruptError):
            Batch.decode(bytes(flipped))


def test_every_other_length_is_found() -> None:
    """A record that was cut, or that something follows, is not one."""
    record = example()
    for length in range(len(record)):
        with pytest.raises(BatchCorruptError):
            Batch.decode(record[:length])
    with pytest.raises(BatchCorruptError):
        Batch.decode(record + b"\0")
    with pytest.raises(BatchCorruptError):
        Batch.decode(bytes(RECORD_BYTES_MAX + 1))


@given(st.binary(min_size=RECORD_BYTES_MIN - 4, max_size=200))
def test_what_has_a_right_crc_is_still_checked(body: bytes) -> None:
    """Bytes that a stranger gave a CRC are a batch within its limits, or refused."""
    record = crc32(body).to_bytes(4, "little") + body
    try:
        read = Batch.decode(record)
    except BatchCorruptError:
        return
    assert 1 <= read.count <= 512
    assert read.base_index >= 1


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (4, 2, BatchFormatError),  # format version
        (5, 99, BatchFormatError),  # kind
        (6, 0, BatchCorruptError),  # count
        (7, 0xFF, BatchCorruptError),  # count
        (8, 1, BatchCorruptError),  # bytes of operations
        (12, 0, BatchCorruptError),  # base index
        (19, 0xFF, BatchCorruptError),  # base index
    ],
)
def test_a_field_out_of_range_is_refused(
    position: int, value: int, error: type[BatchCorruptError]
) -> None:
    """Each limit is checked on its own, and an unknown format is told from damage."""
    record = bytearray(example())
    assert record[position] != value
    record[position] = value
    record[:4] = crc32(record[4:]).to_bytes(4, "little")
    with pytest.raises(BatchCorruptError) as caught:
        Batch.decode(bytes(record))
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
