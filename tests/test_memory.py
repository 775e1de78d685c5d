"""A process that is a server uses its memory again."""

import subprocess
import sys

FAULTS = """
import resource
import sys
from copycat.host import keep_free_memory

if sys.argv[1] == "kept":
    keep_free_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    large = [b"x" * (1 << 20) for _ in range(8)]
    del large
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(memory: str) -> int:
    """How often the system had to give memory while 8 values of 1 MiB were made and forgotten, 20 times."""
    ended = subprocess.run(
        [sys.executable, "-c", FAULTS, memory], capture_output=True, text=True, check=True
    )
    return int(ended.stdout)


def test_the_memory_of_large_values_is_used_again() -> None:
    """The system is asked for new pages once, not for every large value."""
    assert page_faults("kept") < page_faults("as it is") / 5
