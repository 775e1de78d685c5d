"""What is measured, and what Copycat is to reach."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from bench.cluster import Cluster
from bench.measuring import (
    Samples,
    Span,
    clock,
    machine_busy_s,
    memory_mb,
    percentile,
    processor_s,
)

Figures = dict[str, float]
"""Measures of one workload by name: ``per_s``, ``p50_ms``, ``p99_ms``, ``servers_us`` and
``client_us`` (processor time of an operation), ``s``, ``mb``, ``percent``, and always
``foreign_percent``: what others had of a core meanwhile."""

ANSWER_S = 60.0
IDLE_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long things take.

    Attributes:
        span: of each closed loop.
        idle_s: for which idle servers are watched.
        losses: of the leader, each time the workload runs.
    """

    span: Span
    idle_s: float = 4.0
    losses: int = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table.

    Attributes:
        key: its short name.
        title: what happens.
        headline: the measure that is compared.
        measure: does it, and returns the figures of each trial.
    """

    key: str
    title: str
    headline: str
    measure: Callable[[Cluster, Plan], list[Figures]]


def _closed_loop(do: str, **arguments: int) -> Callable[[Cluster, Plan], list[Figures]]:
    def measure(cluster: Cluster, plan: Plan) -> list[Figures]:
        servers, clients = cluster.server_pids(), cluster.client_pids()
        begun_s, busy_s = clock(), machine_busy_s()
        servers_s, clients_s = _processor_s(servers), _processor_s(clients)
        samples = Samples(
            **cluster.client.ask(do, within_s=_within_s(plan), span=_span(plan), **arguments)
        )
        servers_s = _processor_s(servers) - servers_s
        clients_s = _processor_s(clients) - clients_s
        figures = {
            "per_s": samples.per_s,
            "p50_ms": samples.p50_ms,
            "p99_ms": samples.p99_ms,
            "servers_us": servers_s / max(samples.operations, 1) * 1e6,
            "foreign_percent": (machine_busy_s() - busy_s - servers_s - clients_s)
            / (clock() - begun_s)
            * 100,
        }
        if clients:
            figures["client_us"] = clients_s / max(samples.operations, 1) * 1e6
        return [figures]

    return measure


def _handover(cluster: Cluster, plan: Plan) -> list[Figures]:
    """From the call that gives the lock back to its having been taken by the other client."""
    seconds = plan.span.measured_s
    with cluster.both_clients() as both:
        for client in both:
            client.tell("contend", seconds=seconds)
        held = sorted(
            (acquired_s, releasing_s, place)
            for place, client in enumerate(both)
            for acquired_s, releasing_s in client.answer(ANSWER_S + seconds)
        )
    gaps_s = sorted(
        after[0] - before[1] for before, after in pairwise(held) if before[2] != after[2]
    )
    if not gaps_s:
        return []
    return [
        {
            "per_s": len(gaps_s) / seconds,
            "p50_ms": percentile(gaps_s, 50) * 1000,
            "p99_ms": percentile(gaps_s, 99) * 1000,
        }
    ]


def _events(cluster: Cluster, plan: Plan) -> list[Figures]:
    with cluster.both_clients() as (client, follower_client):
        follower_client.tell("observe", span=_span(plan))
        client.ask("publish", within_s=_within_s(plan), span=_span(plan))
        samples = Samples(**follower_client.answer(_within_s(plan)))
    return [{"p50_ms": samples.p50_ms, "p99_ms": samples.p99_ms}]


def _lost(how: signal.Signals) -> Callable[[Cluster, Plan], list[Figures]]:
    def measure(cluster: Cluster, plan: Plan) -> list[Figures]:
        return [{"s": cluster.lose_leader(how)} for _ in range(plan.losses)]

    return measure


def _cold_start(cluster: Cluster, _plan: Plan) -> list[Figures]:
    return [{"s": cluster.cold_start()}]


def _idle(cluster: Cluster, plan: Plan) -> list[Figures]:
    time.sleep(IDLE_SETTLE_S)
    servers = cluster.server_pids()
    begun_s, used_s = clock(), _processor_s(servers)
    time.sleep(plan.idle_s)
    used_s = _processor_s(servers) - used_s
    return [
        {
            "mb": sum(memory_mb(pid) for pid in servers),
            "percent": used_s / (clock() - begun_s) * 100,
        }
    ]


def _processor_s(pids: list[int]) -> float:
    return sum(processor_s(pid) for pid in pids)


def _span(plan: Plan) -> tuple[float, float]:
    return plan.span.warm_up_s, plan.span.measured_s


def _within_s(plan: Plan) -> float:
    return plan.span.warm_up_s + plan.span.measured_s + ANSWER_S


WORKLOADS = (
    Workload("w9", "cold start to the first write", "s", _cold_start),
    Workload("idle", "three idle servers together", "mb", _idle),
    Workload("w1", "1 write in flight", "p50_ms", _closed_loop("writes", in_flight=1)),
    Workload("w2", "64 writes in flight", "per_s", _closed_loop("writes", in_flight=64)),
    Workload(
        "w2s",
        "64 sessions on 4 connections, 1 write in flight each",
        "per_s",
        _closed_loop("session_writes", sessions=64, connections=4),
    ),
    Workload("w3", "1,024 writes in flight", "per_s", _closed_loop("writes", in_flight=1024)),
    Workload("w4", "1 linearizable read in flight", "p50_ms", _closed_loop("reads", in_flight=1)),
    Workload(
        "w4/64", "64 linearizable reads in flight", "per_s", _closed_loop("reads", in_flight=64)
    ),
    Workload("w6", "lock acquired and released", "p50_ms", _closed_loop("lock_cycles")),
    Workload("w6h", "lock handed over between two clients", "p50_ms", _handover),
    Workload("w7", "write to event at a client of a follower", "p50_ms", _events),
    Workload(
        "w8", "kill -9 of the leader to the next acknowledged write", "s", _lost(signal.SIGKILL)
    ),
    Workload("w8s", "likewise, when it only falls silent", "s", _lost(signal.SIGSTOP)),
)
"""In the order in which they run, which begins with the start."""

SHOWN = ("w1", "w2", "w2s", "w3", "w4", "w4/64", "w6", "w6h", "w7", "w8", "w8s", "w9", "idle")
"""In the order of the table."""

QUICK = ("w1", "w2", "w2s", "w3", "w4", "w4/64")

Medians = Mapping[tuple[str, str], Figures]
"""The medians of all trials by workload and title of the peer; absent if there were none."""

OURS, ETCD = "Copycat", "etcd"


@dataclass(frozen=True, slots=True)
class Target:
    """Something that Copycat is to reach in a workload."""

    workload: str
    text: str
    holds: Callable[[Medians], bool]


def _times_etcd(workload: str, times: int) -> Target:
    return Target(
        workload,
        f"at least {times} x etcd",
        lambda m: m[workload, OURS]["per_s"] >= times * m[workload, ETCD]["per_s"],
    )


def _below(workload: str, limit: float, measure: str, text: str) -> Target:
    return Target(workload, text, lambda m: m[workload, OURS][measure] < limit)


TARGETS = (
    Target(
        "w1",
        "median below etcd's",
        lambda m: m["w1", OURS]["p50_ms"] < m["w1", ETCD]["p50_ms"],
    ),
    _times_etcd("w2", 4),
    _times_etcd("w2s", 2),
    _times_etcd("w3", 6),
    _times_etcd("w4/64", 5),
    _below("w7", 1.2, "p50_ms", "median below 1.2 ms"),
    _below("w8", 1.0, "s", "median below 1 s"),
    _below("w9", 2.0, "s", "below 2 s"),
    _below("idle", 120.0, "mb", "below 120 MB"),
    _below("idle", 4.0, "percent", "below 4 % of a core"),
)
