"""Entries in words: which command an index of the log is that an operator names."""

from typing import cast

import pytest

from copycat.actors.codec import encode
from copycat.errors import ConfigurationError
from copycat.server.entries import command_at
from copycat.storage.batch import Batch, BatchKind
from copycat.storage.log import Log

OPERATIONS = encode([[2, "add", 1], [2, "clear"], [99, "lost"]])


class FakeLog:
    """What is asked of a log."""

    def __init__(self) -> None:
        self.last_index = 0
        self._batches: list[Batch] = []

    def append(self, batch: Batch) -> None:
        self._batches.append(batch)
        self.last_index = batch.last_index

    def batch_at(self, index: int) -> Batch:
        return next(batch for batch in self._batches if batch.last_index >= index)


def log_of(*batches: tuple[BatchKind, int, bytes]) -> Log:
    """A log of these batches: kind, count and operations."""
    log = FakeLog()
    for kind, count, operations in batches:
        log.append(
            Batch.encode(
                kind=kind, base_index=log.last_index + 1, count=count, term=1, log_time_us=0,
                wall_time_us=0, session=1, first_sequence=1, operations=operations,
            )
        )  # fmt: skip
    return cast("Log", log)


@pytest.fixture
def log() -> Log:
    """A beginning, a resource, three commands, and something that is no command at all."""
    return log_of(
        (BatchKind.NO_OP, 1, b""),
        (BatchKind.OPEN_RESOURCE, 1, encode(["cart/1", "cart", 1])),
        (BatchKind.COMMANDS, 3, OPERATIONS),
        (BatchKind.COMMANDS, 1, b"\xff"),
    )


def test_a_command_is_named_by_its_method_and_resource(log: Log) -> None:
    """Within its batch; the making of a resource can be failed, too."""
    assert [command_at(log, index) for index in (2, 3, 4)] == [
        "the making of cart 'cart/1'",
        "method 'add' of cart 'cart/1'",
        "method 'clear' of cart 'cart/1'",
    ]


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (1, "1 is the beginning of a term, and no command"),
        (5, "5 is a command of no resource"),
        (6, "6 is a command of no resource"),
        (7, "7 is beyond the end of this server's log, 6"),
    ],
)
def test_what_is_no_command_cannot_be_failed(log: Log, index: int, why: str) -> None:
    """Else nothing would be failed, or, for ever, whatever comes there later."""
    with pytest.raises(ConfigurationError, match=why):
        command_at(log, index)
