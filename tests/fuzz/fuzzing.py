"""Gives a reader ever new inputs, follows those that reach something new, and keeps those that fail.

Where an input leads is told by the steps from line to line in the reader's own source, and by the
words in which it says what came of it. An input that leads where none has led before is changed
further; that is how inputs get past many checks, one after the other.
"""

import hashlib
import random
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutation import changed
from reader import Reader

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
FAILED = "failed-"  # begins the name of an input that has shown a bug
NAME_DIGITS = 12
OUTCOME_CHARACTERS = 40
SHRINK_TRIES = 3_000

Place = tuple[types.CodeType, int, int]


class Failure(Exception):
    """A reader has a bug: this input shows it.

    Attributes:
        reader: its name.
        data: the input, made as small as it gets.
        error: what was raised.
    """

    def __init__(self, reader: Reader, data: bytes, error: Exception) -> None:
        self.reader = reader.name
        self.data = data
        self.error = error
        super().__init__(
            f"{reader.name}: {len(data)} bytes lead to {type(error).__name__}: {error}"
        )

    def keep(self, corpus: Path = CORPUS) -> Path:
        """Write the input to the corpus, where every run of the tests tries it."""
        return keep(corpus, self.reader, self.data, FAILED)


def keep(corpus: Path, reader: str, data: bytes, prefix: str = "") -> Path:
    """Write an input to the corpus, under a name that it alone has."""
    path = corpus / reader / (prefix + hashlib.sha256(data).hexdigest()[:NAME_DIGITS])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def kept(reader: Reader, corpus: Path = CORPUS) -> list[bytes]:
    """The inputs in the corpus, the shortest first."""
    folder = corpus / reader.name
    found = [path.read_bytes() for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(found, key=lambda data: (len(data), data))


def keep_new(reader: Reader, inputs: list[bytes], corpus: Path = CORPUS) -> int:
    """Let the corpus reach all that these inputs reach, by as few and short ones as may be.

    Inputs that have once failed stay. Returns how many there are now.
    """
    folder = corpus / reader.name
    for path in folder.iterdir() if folder.is_dir() else []:
        if not path.name.startswith(FAILED):
            path.unlink()
    begin = [*reader.examples(), *kept(reader, corpus)]
    inputs = sorted(inputs, key=lambda data: (len(data), data))
    fuzzer = Fuzzer(reader, [*begin, *inputs], random.Random(0), follow=True)
    for data in fuzzer.known:
        if data not in begin:
            keep(corpus, reader.name, data)
    return len(kept(reader, corpus))


def look(reader: Reader, data: bytes) -> str:
    """Let the reader read.

    Raises:
        Failure: it raised what it must not raise, or something is not as it must be.
    """
    try:
        return reader.read(data)
    except Exception as error:
        kind, text = type(error), str(error)
        small = shrunk(data, lambda less: _fails_like(reader, less, kind, text))
        raise Failure(reader, small, error) from error


def _fails_like(reader: Reader, data: bytes, kind: type[Exception], text: str) -> bool:
    try:
        reader.read(data)
    except Exception as error:
        return type(error) is kind and words(str(error)) == words(text)
    return False


def shrunk(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Bytes that fail as these do, with less of them or with zeros in their place."""
    tries = 0
    size = len(data)
    while size:
        at = 0
        while at < len(data) and tries < SHRINK_TRIES:
            size_here = len(data[at : at + size])
            zeros = bytes(size_here)
            for less in (data[:at] + data[at + size :], data[:at] + zeros + data[at + size :]):
                tries += 1
                if less != data and fails(less):
                    data = less
                    break
            else:
                at += size
        size //= 2
    return data


class Fuzzer:
    """Inputs for one reader: the known ones, and ever new ones made from them.

    Attributes:
        tried: how many inputs the reader was given.
        reached: the places that they led to; only when they are followed.
        known: the inputs that led to a new place, with those it began with.
    """

    def __init__(
        self, reader: Reader, known: list[bytes], chance: random.Random, *, follow: bool
    ) -> None:
        """Begin with known inputs, each of which is tried when inputs are followed.

        Args:
            reader: what is tried.
            known: where to begin.
            chance: makes the new inputs.
            follow: whether new inputs are made from those that reach something new, too. That
                costs most of the speed.

        Raises:
            Failure: a known input fails.
        """
        self.reader = reader
        self.tried = 0
        self.known: list[bytes] = [] if follow else list(known)
        self.reached: set[Place | str] = set()
        self._chance = chance
        self._follow = follow
        if follow:
            for data in known:
                self._try(data)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Try new inputs as long as this says so.

        Raises:
            Failure: an input fails.
        """
        while goes_on():
            data, other = self._chance.choice(self.known), self._chance.choice(self.known)
            self._try(changed(self.reader, data, other, self._chance))

    def _try(self, data: bytes) -> None:
        self.tried += 1
        if not self._follow:
            look(self.reader, data)
            return
        places: set[Place | str] = set()
        before = sys.gettrace()
        sys.settrace(_tracer(self.reader, places))
        try:
            outcome = self.reader.read(data)
        except Exception:
            look(self.reader, data)
            raise
        finally:
            sys.settrace(before)
        places.add(words(outcome))
        if not places <= self.reached:
            self.reached |= places
            self.known.append(data)


def words(outcome: str) -> str:
    """The beginning of an outcome without what is different in every input."""
    return re.sub(r"[\W\d_]+", " ", outcome.partition("'")[0])[:OUTCOME_CHARACTERS]


def _tracer(reader: Reader, places: set[Place | str]) -> Callable[..., Any]:
    """What ``sys.settrace`` takes: notes steps in the source of a reader."""

    def call(frame: types.FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if not code.co_filename.endswith(reader.sources):
            return None
        last = 0

        def step(frame: types.FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal last
            places.add((code, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    return call
