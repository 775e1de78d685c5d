"""What a fuzzer has to know of a reader: what it may be given, and what must be true of its answer."""

from collections.abc import Callable
from dataclasses import dataclass


def one_part(data: bytes) -> list[bytes]:
    """An input that is changed as a whole."""
    return [data]


def joined(parts: list[bytes]) -> bytes:
    """The opposite of ``one_part``, also when another part was put beside it."""
    return b"".join(parts)


def as_it_is(data: bytes) -> bytes:
    """An input without checksums."""
    return data


@dataclass(frozen=True)
class Reader:
    """Something that reads bytes from a stranger or from a disk.

    Attributes:
        name: its folder in the corpus.
        read: reads any bytes and returns in a few words what came of it; raises AssertionError
            when something is not as it must be. Whatever else it raises is a bug too.
        examples: inputs that it takes, as our own writers make them.
        sources: its source files, as the ends of their paths.
        seal: makes the checksums in an input right, so that what is behind them is read.
        split: takes an input apart, so that a part can change its length; any bytes can be split.
        join: puts parts together.
    """

    name: str
    read: Callable[[bytes], str]
    examples: Callable[[], list[bytes]]
    sources: tuple[str, ...]
    seal: Callable[[bytes], bytes] = as_it_is
    split: Callable[[bytes], list[bytes]] = one_part
    join: Callable[[list[bytes]], bytes] = joined
