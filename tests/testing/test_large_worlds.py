"""Worlds of true size hold the monitors of time, which see what grows with the size."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

import bugs_of_time
from copycat.server import replicator
from copycat.testing import rules
from copycat.testing.large import KINDS, SCALES, run_large
from copycat.testing.timeliness import LINKS_HELD
from copycat.testing.violation import InvariantViolated

WORLDS = 20


def kind_of(seed: int) -> str:
    """What is large in the world of a seed."""
    return list(KINDS)[seed % len(KINDS)]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", range(WORLDS), ids=lambda world: f"{world} {kind_of(world)}")
def test_a_world_of_true_size(world: int) -> None:
    """A leader stays, no handler is long, live sessions stay, events come, and who lags catches
    up."""
    report = run_large(world)
    assert report.kind == kind_of(world)


def test_every_kind_is_run_at_every_scale_but_one() -> None:
    """Twenty of them are as many as `make check` has time for."""
    run = {(kind_of(seed), seed // len(KINDS) % len(SCALES)) for seed in range(WORLDS)}
    assert len(run) >= len(KINDS) * len(SCALES) - 1


def feeds_without_looking() -> AbstractContextManager[Any]:
    """A leader sends a follower all that it lacks, whatever waits on the link."""
    return patch.multiple(
        replicator,
        UNSENT_BYTES_MAX=1 << 40,
        BYTES_IN_FLIGHT_MAX=1 << 40,
        BATCHES_IN_FLIGHT_MAX=1 << 40,
        REQUESTS_IN_FLIGHT_MAX=1 << 40,
    )


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("bug", "kind", "rule"),
    [
        (bugs_of_time.never_has_enough, "many sessions", rules.HANDLERS_SHORT),
        (bugs_of_time.never_has_enough, "a long replay", rules.HANDLERS_SHORT),
        (feeds_without_looking, "a slow link", LINKS_HELD),
    ],
)
def test_what_shows_at_true_size_only_is_found(bug: Any, kind: str, rule: str) -> None:
    """Each planted bug is found in the first world of its kind, by its rule."""
    with bug(), pytest.raises(InvariantViolated) as caught:
        run_large(list(KINDS).index(kind))
    assert caught.value.rule == rule
