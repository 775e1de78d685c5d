"""Copycat: coordination for Python programs, on a log that a cluster of servers agrees on.

Here are the names that a program needs first; everything else is imported from where it
lives. They are loaded when they are first used (PEP 562), so that ``import copycat`` is
quick and nobody pays for a part he does not use. Resources are not among them: import
them from ``copycat.resources``.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copycat.client.asynchronous import AsyncClient
    from copycat.client.blocking import Client
    from copycat.errors import (
        CopycatError,
        NotApplied,
        OperationFailed,
        OutcomeUnknown,
        Rejected,
    )
    from copycat.local_cluster import local
    from copycat.machine import Commit, StateMachine, command, query
    from copycat.protocol.client import Consistency

__all__ = [
    "AsyncClient",
    "Client",
    "Commit",
    "Consistency",
    "CopycatError",
    "NotApplied",
    "OperationFailed",
    "OutcomeUnknown",
    "Rejected",
    "StateMachine",
    "__version__",
    "command",
    "local",
    "query",
]

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "copycat.client.asynchronous",
    "Client": "copycat.client.blocking",
    "Commit": "copycat.machine",
    "Consistency": "copycat.protocol.client",
    "CopycatError": "copycat.errors",
    "NotApplied": "copycat.errors",
    "OperationFailed": "copycat.errors",
    "OutcomeUnknown": "copycat.errors",
    "Rejected": "copycat.errors",
    "StateMachine": "copycat.machine",
    "command": "copycat.machine",
    "local": "copycat.local_cluster",
    "query": "copycat.machine",
}

# A library speaks only when the program asks it to: without this handler Python would
# print our warnings to a terminal that is not ours.
logging.getLogger("copycat").addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # type checkers read the imports above, and find misspelt names

    def __getattr__(name: str) -> object:
        """Load a public name from its home at its first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'copycat' has no attribute {name!r}")
        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The names of this module, those not yet loaded included."""
    return sorted({*globals(), *__all__})
