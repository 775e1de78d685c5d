"""Entries: what stands at an index of the log, in words; for decisions about single commands."""

from typing import Any

from copycat.actors.codec import CodecError, decode_unchecked
from copycat.errors import ConfigurationError
from copycat.storage.batch import Batch, BatchKind
from copycat.storage.log import Log
from copycat.types import Index

_OTHERS = {
    BatchKind.NO_OP: "the beginning of a term",
    BatchKind.OPEN_SESSION: "the opening of a session",
    BatchKind.CLOSE_SESSION: "the end of a session",
    BatchKind.KEEP_ALIVE: "a sign of life of a session",
    BatchKind.TICK: "the passing of time",
}
NAME_CHARACTERS_SHOWN = 60


def command_at(log: Log, index: Index) -> str:
    """What can be failed at an index of the log: the method and resource of a command, or the
    resource that is made.

    Raises:
        ConfigurationError: there is no such thing.
    """
    if index > log.last_index:
        raise ConfigurationError(
            f"--fail-entry {index} is beyond the end of this server's log, {log.last_index}: some"
            " later command would fail. If the others have failed it, and this server has been down"
            " since, copy the file failed-entries from the data directory of one of them"
        )
    batch = log.batch_at(index)
    if batch.kind is BatchKind.OPEN_RESOURCE:
        return f"the making of {_resource(batch)}"
    if batch.kind in _OTHERS:
        raise ConfigurationError(
            f"--fail-entry {index} is {_OTHERS[batch.kind]}, and no command of a resource: the log of"
            " a server that cannot go on names the index"
        )
    resource, method = _operation(batch, index)
    if 0 < resource <= log.last_index:
        opened = log.batch_at(resource)
        if opened.kind is BatchKind.OPEN_RESOURCE:
            return f"method {method!r} of {_resource(opened)}"
    raise ConfigurationError(f"--fail-entry {index} is a command of no resource that there is")


def _operation(batch: Batch, index: Index) -> tuple[int, str]:
    """The resource and the method of a command; no resource if that cannot be decoded."""
    for commands in batch.commands():
        place = index - commands.base_index
        if place < commands.count:
            try:
                operation: Any = decode_unchecked(commands.operations)[place]
                resource, method = operation[0], operation[1]
            except (CodecError, LookupError, TypeError):
                break
            if type(resource) is int and type(method) is str:
                return resource, method[:NAME_CHARACTERS_SHOWN]
            break
    return 0, ""


def _resource(opened: Batch) -> str:
    name, kind, _ = decode_unchecked(opened.operations)
    return f"{kind} {name[:NAME_CHARACTERS_SHOWN]!r}"
