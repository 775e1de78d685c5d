"""Runs worlds with the copy of the package that it is given, and says which one failed first.

It is run by ``piece`` in a process of its own. Its result is one line of JSON on stdout; when the
copy is not fit to be judged it exits with 1, and stderr says why.
"""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import FrameType

import copycat
from copycat.testing.seeds import run_seed
from copycat.testing.violation import InvariantViolated

MEMORY_BYTES_MAX = 4 << 30
MISTAKES = (AttributeError, ImportError, NameError, TypeError)
"""What says more about a piece than about the bug it shows, when it comes from what was planted."""

ENDLESS = "Progress: a world comes to its end"
DIFFERS = "Determinism: a seed decides everything, whatever the hash values of the process are"


def broken_rule(
    seed: int, files: tuple[str, ...], faults: list[str], *, differs: bool
) -> tuple[str, str]:
    """What noticed the bug in one world, in short and in full; empty when nothing did."""
    try:
        trace_hash = run_seed(seed, faults=faults or None).trace_hash
    except Exception as error:
        cause = first_cause(error)
        if isinstance(cause, MISTAKES) and _place(cause).endswith(files):
            raise
        told = traceback.format_exc()
        if isinstance(cause, InvariantViolated):
            return cause.rule, told
        return f"{type(cause).__name__}: {cause}".splitlines()[0], told
    if differs and elsewhere(seed, faults) != trace_hash:
        return DIFFERS, f"seed {seed} gives two worlds"
    return "", ""


def first_cause(error: BaseException) -> BaseException:
    """What was raised first, when a world that failed has failed again while it ended."""
    found, earlier = error, error.__context__
    while earlier is not None:
        if isinstance(earlier, (AssertionError, *MISTAKES)):
            found = earlier
        earlier = earlier.__context__
    return found


def _place(error: BaseException) -> str:
    """The file in which it was raised."""
    return traceback.extract_tb(error.__traceback__)[-1].filename


def elsewhere(seed: int, faults: list[str]) -> int:
    """The trace of the same world in a process with other hash values."""
    program = (
        "from copycat.testing.seeds import run_seed;"
        f" print(run_seed({seed}, faults={faults or None}).trace_hash)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "2"}
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True
    )
    return int(told.stdout)


def tell(seeds: int, rule: str, told: str) -> None:
    """Say what came of it, for ``piece`` to read."""
    print(json.dumps({"seeds": seeds, "rule": rule, "told": told}), flush=True)


def main() -> None:
    """Run the worlds of the seeds that the command line names."""
    first_seed, end_seed, world_s_max, differs = map(int, sys.argv[1:5])
    changed, *faults = sys.argv[5:]
    files = tuple(changed.split(os.pathsep))
    assert Path(copycat.__file__).is_relative_to(os.environ["PYTHONPATH"]), "this is the copy"
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))

    def give_up(_signal: int, frame: FrameType | None) -> None:
        # An exception could be caught by what goes on for ever.
        tell(seed + 1, ENDLESS, "".join(traceback.format_stack(frame)[-3:]))
        os._exit(0)

    signal.signal(signal.SIGPROF, give_up)
    logging.disable(logging.CRITICAL)  # servers that fail are the point here
    rule = told = ""
    seed = first_seed
    while seed < end_seed and not rule:
        signal.setitimer(signal.ITIMER_PROF, world_s_max)
        rule, told = broken_rule(seed, files, faults, differs=bool(differs))
        seed += 1
    tell(seed, rule, told)


if __name__ == "__main__":
    main()
