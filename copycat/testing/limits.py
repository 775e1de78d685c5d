"""Limits as small as they may be, so that short stories reach what lies behind them."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from copycat.server import applier, reads, replicator, window
from copycat.server.roles import leader
from copycat.storage import log


@contextmanager
def small_limits(chance: random.Random) -> Iterator[list[str]]:
    """Make some limits of servers small while this lasts, each with probability 1/2.

    Yields:
        The names of those that are.
    """
    made = []
    with ExitStack() as patches:

        def limit(owner: object, name: str, value: float) -> None:
            if chance.random() < 0.5:
                made.append(name)
                patches.enter_context(patch.object(owner, name, value))

        limit(applier, "SLICE_S", -1.0)  # one batch a turn
        limit(reads, "GROUPS_MAX", 4)
        limit(replicator, "REQUEST_BYTES_MAX", chance.choice((1, 500, 5_000)))
        limit(replicator, "REQUESTS_IN_FLIGHT_MAX", chance.choice((1, 2, 4)))
        limit(window, "WAITING_PER_SESSION_MAX", 2)
        limit(leader, "EARLY_MAX", 2)
        limit(leader, "OPEN_BYTES_MAX", 2_000)
        if chance.random() < 0.5:
            made.append("cache_bytes")
            defaults = log.Log.__init__.__kwdefaults__
            assert defaults is not None, "the log has a cache"
            patches.enter_context(patch.dict(defaults, cache_bytes=2_000))
        yield made
