"""``python -m bench``: Copycat and its peers in turn, and one table.

Without options everything is measured, and the table goes to docs/performance.md as well.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.cluster import Cluster
from bench.etcd import EtcdCluster
from bench.measuring import Span
from bench.ours import OurCluster
from bench.processes import DriverFailed, Processes, end_as_if_interrupted
from bench.pysyncobj_peer import PySyncObjAtOnceCluster, PySyncObjCluster
from bench.table import Results, print_table, write_document
from bench.workloads import QUICK, SHOWN, WORKLOADS, Plan, Workload

PEERS: dict[str, type[Cluster]] = {
    "copycat": OurCluster,
    "etcd": EtcdCluster,
    "pysyncobj": PySyncObjCluster,
    "pysyncobj-at-once": PySyncObjAtOnceCluster,
}
ROUNDS = 3
SECONDS, SECONDS_QUICK = 4.0, 2.0
WARM_UP_SHARE = 0.15
PAUSE_S = 0.3
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def main() -> int:
    """Measure what the command line says. Returns the exit status."""
    arguments = _arguments()
    end_as_if_interrupted()
    begun_s = time.monotonic()
    missing = [(name, PEERS[name].missing()) for name in arguments.peers]
    peers = [PEERS[name] for name, lack in missing if lack is None]
    notes = [peer.note for peer in peers if peer.note]
    notes += [f"Not measured here: {lack}" for _, lack in missing if lack is not None]
    results = Results([peer.title for peer in peers], notes)
    plan = Plan(Span(arguments.seconds * WARM_UP_SHARE, arguments.seconds))
    wanted = [workload for workload in WORKLOADS if workload.key in arguments.only]
    try:
        for number in range(arguments.rounds):
            turn = number % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                _say(f"round {number + 1} of {arguments.rounds}: {peer.title}")
                _measure(peer, wanted, plan, results)
    except KeyboardInterrupt:
        _say("interrupted; everything that was started has been ended")
        return 130
    how = (
        f"Medians of {arguments.rounds} round{'s' * (arguments.rounds > 1)},"
        f" {arguments.seconds:g} s each; {time.monotonic() - begun_s:.0f} s in all."
    )
    print_table(results, how)
    if arguments.is_whole:
        write_document(results, how, DOCUMENT)
        _say(f"written to {DOCUMENT}")
    return 0


def _measure(peer: type[Cluster], wanted: list[Workload], plan: Plan, results: Results) -> None:
    """All workloads on one new cluster. What fails is a result too."""
    with Processes() as processes:
        try:
            cluster = peer(processes)
            if wanted[0].key != "w9":
                cluster.cold_start()
        except DriverFailed as error:
            results.add_failure(wanted[0].key, peer.title, str(error))
            return
        for workload in wanted:
            _say(f"    {workload.key}: {workload.title}")
            try:
                results.add(workload.key, peer.title, workload.measure(cluster, plan))
            except DriverFailed as error:
                if "Lacking" in str(error):
                    continue
                results.add_failure(workload.key, peer.title, str(error))
            time.sleep(PAUSE_S)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="w1 to w4, 2 s each, one round")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"of each measurement; default {SECONDS:g}")
    parser.add_argument("--peers", type=_names(tuple(PEERS)), help="separated by commas")
    parser.add_argument("--only", type=_names(SHOWN), help="workloads, separated by commas")
    arguments = parser.parse_args()
    arguments.is_whole = not any(vars(arguments).values())
    arguments.rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    arguments.seconds = arguments.seconds or (SECONDS_QUICK if arguments.quick else SECONDS)
    arguments.peers = arguments.peers or list(PEERS)
    arguments.only = arguments.only or (QUICK if arguments.quick else SHOWN)
    return arguments


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
