"""Seeds for the tests that take one, and how to replay the one that failed.

A test with an argument called ``seed`` runs once per seed. ``make test SEEDS=5000`` runs
the first 5000 of them, ``make test SEED=17`` only that one.
"""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

SEEDS_BY_DEFAULT = 10

# A shell ignores interrupts on behalf of what it starts in the background, and so would all that
# tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about the code.
settings.register_profile("copycat", deadline=None, print_blob=True)
settings.load_profile("copycat")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a seed once for each seed of this run."""
    if "seed" not in metafunc.fixturenames:
        return
    only = os.environ.get("COPYCAT_SEED")
    count = int(os.environ.get("COPYCAT_SEEDS", SEEDS_BY_DEFAULT))
    metafunc.parametrize("seed", [int(only)] if only else range(count))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure the command that replays it."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        seed = item.callspec.params.get("seed")
        if seed is not None:
            report.sections.append(("replay", f"make test SEED={seed} ONLY={item.originalname}"))
    return report
