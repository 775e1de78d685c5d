"""A checker that catches nothing proves nothing: every planted bug is noticed, by its own rule."""

import logging
import re
from collections.abc import Iterator

import pytest

from copycat.testing import rules
from copycat.testing.seeds import run_seed
from copycat.testing.violation import InvariantViolated
from planted_bugs import BUGS, PlantedBug, appends_every_copy

SEEDS_MAX = 40
HARM_S = 5.0


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Servers that fail are the point here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def failures(bug: PlantedBug) -> Iterator[str]:
    """What the worlds that fail say, one after another."""
    for seed in range(SEEDS_MAX):
        try:
            with bug.planted():
                run_seed(seed, harm_s=HARM_S, faults=bug.faults)
        except Exception as error:
            yield f"seed {seed}: {error}"


RARE = ("no look back", "unverified commit", "dead holder", "out of turn")
"""It takes many worlds to see them by the rule that is theirs."""


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=bug.name, marks=[pytest.mark.long] if bug.name in RARE else [])
        for bug in BUGS
    ],
)
def test_a_planted_bug_is_caught(bug: PlantedBug) -> None:
    """Within 40 seeds, by the rule it breaks; nothing else may stop a world before."""
    for told in failures(bug):
        assert any(rule in told for rule in bug.rules), told
        if bug.rules[0] in told:
            return
    pytest.fail(f"{bug.name} was not noticed under {SEEDS_MAX} seeds by {bug.rules[0]}")


def test_every_rule_has_a_bug() -> None:
    """A rule that no planted bug breaks might never be looked at."""
    proved = {bug.rules[0] for bug in BUGS}
    assert [
        name for name, rule in vars(rules).items() if name.isupper() and rule not in proved
    ] == []


def test_a_failure_tells_its_story() -> None:
    """The rule in words, who broke it and when, what led to it, and the command that replays it."""
    bug = next(bug for bug in BUGS if bug.name == "own unsynced log")
    with bug.planted(), pytest.raises(InvariantViolated) as caught:
        run_seed(0, faults=bug.faults, replay="replay {seed}")
    lines = str(caught.value).splitlines()
    assert lines[0] == caught.value.rule
    assert lines[1].strip() == caught.value.detail
    assert re.match(r"  at [0-9.]+ s, event [0-9,]+, seed 0$", lines[2])
    assert any(re.search(r"n[1-3] leads in term 1$", line) for line in lines)
    assert lines[-1] == "replay: replay 0"


def test_a_batch_that_is_in_the_log_twice_is_applied_once(seed: int) -> None:
    """The leader's gate keeps copies out of the log; without it, too, every command counts once."""
    with appends_every_copy():
        run_seed(seed, harm_s=HARM_S, faults=("network", "crash leader"))
