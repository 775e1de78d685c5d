"""Tries the readers of frames, values and files with inputs that nobody thought of; ``make fuzz``.

What fails is made smaller and kept in ``tests/corpus``; every run of the tests tries all of that.
"""

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

import readers_of_files
import readers_of_messages
from fuzzing import CORPUS, Failure, Fuzzer, keep_new, kept
from reader import Reader

READERS: list[Reader] = [*readers_of_messages.READERS, *readers_of_files.READERS]


def main() -> None:
    """Try all readers, each for its part of the time; exit code 1 when one has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, altogether")
    parser.add_argument("--seed", type=int, default=None, help="other inputs for each; random")
    parser.add_argument("--only", default="", help="the readers with this in their names")
    parser.add_argument(
        "--keep", action="store_true", help="add inputs that reach something new to the corpus"
    )
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    chosen = [reader for reader in READERS if options.only in reader.name]
    print(f"seed {seed}")
    failed = [
        reader.name
        for reader in chosen
        if not fuzz(reader, seed, options.seconds / len(chosen), keeps=options.keep)
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def fuzz(
    reader: Reader, seed: int, duration_s: float, *, keeps: bool, corpus: Path = CORPUS
) -> bool:
    """Try one reader; whether it has stood the test."""
    known = [*reader.examples(), *kept(reader, corpus)]
    end_s = time.monotonic() + duration_s
    try:
        fuzzer = Fuzzer(reader, known, random.Random(seed), follow=True)
        fuzzer.run(lambda: time.monotonic() < end_s)
    except Failure as failure:
        traceback.print_exception(failure.__cause__)
        print(f"{failure}\n  kept in {failure.keep(corpus)}")
        return False
    print(
        f"{reader.name:13} {fuzzer.tried:9,} inputs, {len(fuzzer.reached):5,} places reached,"
        f" {len(set(fuzzer.known) - set(known)):4,} inputs that reach new ones",
        flush=True,
    )
    if keeps:
        print(f"  {keep_new(reader, fuzzer.known, corpus)} inputs are in the corpus")
    return True


if __name__ == "__main__":
    main()
