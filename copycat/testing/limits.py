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

    With them goes the index at which a leader begins to send to a follower it knows nothing of.

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
        if chance.random() < 0.5:
            made.append("next_index")
            patches.enter_context(patch.object(replicator.Replicator, "_probe_again", _begin_low))
        yield made


_probe_again = replicator.Replicator._probe_again


def _begin_low(one: replicator.Replicator) -> None:
    """A leader may begin to send anywhere; followers must bear what they have already."""
    _probe_again(one)
    one._next_index = one._following.match_index + 1
