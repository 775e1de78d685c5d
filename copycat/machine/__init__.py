"""State machines: how replicated state and its operations are written down."""

from copycat.machine.catalog import Catalog, installed_catalog
from copycat.machine.state_machine import (
    Commit,
    StateMachine,
    Timer,
    command,
    operations_of,
    query,
)

__all__ = [
    "Catalog",
    "Commit",
    "StateMachine",
    "Timer",
    "command",
    "installed_catalog",
    "operations_of",
    "query",
]
