"""A checker that catches nothing proves nothing: every planted bug is noticed, by its own rule."""

import logging
import re
from collections.abc import Iterator

import pytest

from copycat.testing.seeds import run_seed
from planted_bugs import BUGS, PlantedBug, appends_every_copy

SEEDS_MAX = 40
HARM_S = 5.0


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Servers that fail are the point here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def first_failure(bug: PlantedBug) -> str:
    """What the first world that fails says; empty when none does."""
    for seed in range(SEEDS_MAX):
        try:
            with bug.planted():
                run_seed(seed, harm_s=HARM_S, faults=bug.faults)
        except Exception as error:
            return f"seed {seed}: {error}"
    return ""


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught(bug: PlantedBug) -> None:
    """Within 40 seeds, by the rule it breaks; nothing else may stop the world before."""
    told = first_failure(bug)
    assert told, f"{bug.name} was not noticed under {SEEDS_MAX} seeds"
    assert re.search(bug.rule, told), told


def test_a_batch_that_is_in_the_log_twice_is_applied_once(seed: int) -> None:
    """The leader's gate keeps copies out of the log; without it, too, every command counts once."""
    with appends_every_copy():
        run_seed(seed, harm_s=HARM_S, faults=("network", "crash leader"))
