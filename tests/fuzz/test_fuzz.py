"""The readers of frames, values and files stand inputs that nobody thought of.

``make fuzz SECONDS=600`` tries ever new ones; what fails is kept in ``tests/corpus``.
"""

import random
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from copycat.actors import codec, frame
from copycat.actors.frame import FrameReader
from copycat.actors.message import from_wire
from copycat.storage import batch, identity, recovery
from copycat.storage.segment import Segment
from copycat.storage.small_file import SmallFile
from fuzz_readers import READERS, fuzz
from fuzzing import FAILED, Failure, Fuzzer, kept, look, shrunk
from reader import Reader

MESSAGE = import_module("copycat.actors.message")  # a function has the same name
BY_NAME = {reader.name: reader for reader in READERS}
BURST = 1_500  # inputs for each reader and seed
FOUND_WITHIN = 20_000


def run(reader: Reader, inputs: int, chance: random.Random, *, follow: bool = False) -> Fuzzer:
    """Try the reader with so many new inputs."""
    known = [*reader.examples(), *kept(reader)]
    fuzzer = Fuzzer(reader, known, chance, follow=follow)
    left = count(inputs, -1)
    fuzzer.run(lambda: next(left) > 0)
    return fuzzer


@pytest.mark.parametrize("name", BY_NAME)
def test_the_corpus(name: str) -> None:
    """What has once failed, and what reaches places that are hard to reach, is well now."""
    inputs = kept(BY_NAME[name])
    assert inputs, "every reader has a corpus"
    for data in inputs:
        look(BY_NAME[name], data)


@pytest.mark.parametrize("name", BY_NAME)
def test_what_our_own_writers_make_is_read(name: str) -> None:
    """The inputs that all others are made from are not refused."""
    for data in BY_NAME[name].examples():
        reader = BY_NAME[name]
        outcome = look(reader, data)
        assert "Error" not in outcome
        assert "refused" not in outcome
        assert reader.seal(data) == data, "their checksums are right"
        assert reader.join(reader.split(data)) == data, "they can be taken apart"


@pytest.mark.parametrize("name", BY_NAME)
def test_a_short_burst(name: str, seed: int) -> None:
    """Some inputs near the known ones; ``make fuzz`` goes on from here."""
    run(BY_NAME[name], BURST, random.Random(seed))


def without_the_crc(file: SmallFile) -> bytes | None:
    """A planted ``SmallFile._load``."""
    found = file._disk.load(file.NAME)
    if found is None:
        return None
    if len(found) < 16 or found[:8] != file.MAGIC:
        raise file.CORRUPT(file.NAME, "not long enough, or another file")
    file.written = 1
    return found[16:]


def without_a_limit(reader: FrameReader, data: bytes) -> list[bytes]:
    """A planted ``FrameReader.feed``: a stranger may announce a frame of any length."""
    reader._first_max = reader.frame_bytes_max = 2**32
    return feed(reader, data)


def forgets_what_is_held(reader: FrameReader, data: bytes) -> list[bytes]:
    """A planted ``FrameReader.feed``: what comes after a part of a length is taken for its begin."""
    if len(reader._held) < reader._needed == frame._LENGTH_BYTES:
        reader._held.clear()
    return feed(reader, data)


def without_a_look(item: Any) -> Any:
    """A planted ``frame._opened``: the place of an actor may be anything."""
    incarnation, serial, sender, number, fields = item
    return incarnation, serial, sender, from_wire(number, fields)


def whatever_its_index(segment: Segment, content: bytes, base_index: int) -> Any:
    """A planted ``Segment.recover_batch``: a gap in the log is not noticed."""
    envelope = segment._envelope(content, segment.end, segment.end)
    if envelope is not None:
        start = segment.end + 20
        base_index = int.from_bytes(content[start + 12 : start + 20], "little")
    return recover_batch(segment, content, base_index)


feed, recover_batch = FrameReader.feed, Segment.recover_batch
# Which reader notices, what is planted where, and the mistake.
PLANTED: list[tuple[str, Any, str, Any]] = [
    ("codec", codec, "_HARMLESS", bytes(range(256))),
    ("codec", codec, "_refuse_tag", lambda *_: 1),
    ("codec", codec, "_BYTES_FIRST", 3 << 5),
    ("codec", codec, "_has_number_keys", lambda *_: True),
    ("frames", FrameReader, "feed", without_a_limit),
    ("frames", FrameReader, "feed", forgets_what_is_held),
    ("frames", MESSAGE, "_integer", lambda value: value),
    ("frames", frame, "_opened", without_a_look),
    ("frames", frame, "is_plain", lambda _: True),
    ("batch", batch, "COMMANDS_PER_BATCH_MAX", 2**16),
    ("batch", batch, "_KINDS", dict.fromkeys(range(256), batch.BatchKind.TICK)),
    ("ballot", SmallFile, "_load", without_the_crc),
    ("identity", identity, "_decode_servers", lambda content: (("s1", len(content)),)),
    ("configuration", SmallFile, "_load", without_the_crc),
    ("log", Segment, "recover_batch", whatever_its_index),
    ("log", recovery, "_is_clear", lambda *_: True),
    ("log", recovery, "_current", lambda headed: headed),
]


@pytest.mark.parametrize(
    ("name", "place", "what", "mistake"),
    PLANTED,
    ids=[f"{name} {what}" for name, _, what, _ in PLANTED],
)
def test_a_planted_bug_is_found(
    name: str, place: object, what: str, mistake: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each of these mistakes some input fails, and the smallest one like it fails too."""
    reader = BY_NAME[name]
    monkeypatch.setattr(MESSAGE, "_from_wire", {})  # it remembers what was made of its functions
    monkeypatch.setattr(place, what, mistake)
    with pytest.raises(Failure) as failure:
        run(reader, FOUND_WITHIN, random.Random(1))
    with pytest.raises(type(failure.value.error)):
        reader.read(failure.value.data)


def guarded(data: bytes) -> str:
    """A reader with a bug behind five checks, which no luck passes at once."""
    if data[:1] != b"C":
        return "refused"
    if data[1:2] != b"O":
        return "refused"
    if data[2:3] != b"P":
        return "refused"
    if data[3:4] != b"Y":
        return "refused"
    if len(data) > 20:
        raise ZeroDivisionError("found")
    return "read"


TOY = Reader("toy", guarded, lambda: [b"no"], ("fuzz/test_fuzz.py",))


def test_inputs_that_reach_something_new_are_followed() -> None:
    """A bug behind several checks is found, since inputs that pass some of them are kept."""
    run(TOY, 100_000, random.Random(1))
    with pytest.raises(Failure) as failure:
        run(TOY, 100_000, random.Random(1), follow=True)
    assert failure.value.data == b"COPY" + bytes(17)
    assert type(failure.value.error) is ZeroDivisionError


def test_what_fails_is_kept_and_fails_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the corpus, in a file of its own, until the bug is mended."""
    long = Reader("toy", guarded, lambda: [b"COPY" + bytes(80)], TOY.sources)
    assert not fuzz(long, 1, 10.0, keeps=False, corpus=tmp_path)
    (path,) = (tmp_path / "toy").iterdir()
    assert path.name.startswith(FAILED)
    assert path.read_bytes() == b"COPY" + bytes(17)
    assert f"kept in {path}" in capsys.readouterr().out
    assert not fuzz(TOY, 1, 10.0, keeps=False, corpus=tmp_path)
    mended = Reader("toy", lambda _: "read", TOY.examples, TOY.sources)
    assert fuzz(mended, 1, 0.0, keeps=True, corpus=tmp_path)
    assert [*(tmp_path / "toy").iterdir()] == [path], "what has failed once stays"


def test_an_input_is_made_as_small_as_it_gets() -> None:
    """What does not matter goes or becomes zero; what does stays."""
    data = random.Random(1).randbytes(300) + b"needed" + random.Random(2).randbytes(300)

    def fails(less: bytes) -> bool:
        return b"needed" in less and len(less) >= 20

    small = shrunk(data, fails)
    assert len(small) == 20
    assert small.strip(b"\0") == b"needed"
