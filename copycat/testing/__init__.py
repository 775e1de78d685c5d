"""Whole clusters in a simulated world, and the monitors that hold them to their rules.

For tests of programs that use Copycat: real servers and clients run in virtual time, in one thread,
with every fault on order, and a seed repeats a run exactly.

    with Simulation(seed=17) as simulation:
        cluster = SimulatedCluster(simulation)
        cluster.start()
        cluster.run(my_story(cluster), timeout_s=60)

``SimulatedCluster`` is the place to begin; ``FaultDriver`` breaks things as a ``Schedule`` says,
``Workload`` is what this package tests itself with, and ``run_seed`` puts them together. A schedule
that fails is made smaller by ``shrink``.

What clients have seen, in this world or the real one, is recorded by a ``History`` and checked by
``check`` and ``check_by_index``.
"""

from copycat.actors.simulated_network import NetworkFaults
from copycat.actors.simulation import Simulation
from copycat.testing.cluster import SimulatedCluster
from copycat.testing.counterexample import Counterexample
from copycat.testing.fault import Fault
from copycat.testing.faults import FaultDriver
from copycat.testing.history import History, Operation, Outcome
from copycat.testing.linearizability import Report, check
from copycat.testing.map_model import MapModel
from copycat.testing.models import CounterModel, LockModel, Model, RegisterModel
from copycat.testing.schedule import Schedule, ScheduleError
from copycat.testing.search import Verdict
from copycat.testing.seeds import failures_of, run_seed
from copycat.testing.shrink import fails_alike, shrink
from copycat.testing.simulated import SeedFailed, World, simulated
from copycat.testing.violation import InvariantViolated
from copycat.testing.witness import check_by_index, watch
from copycat.testing.workload import Workload
from copycat.testing.worlds import SeedReport, run_schedule

__all__ = [
    "CounterModel",
    "Counterexample",
    "Fault",
    "FaultDriver",
    "History",
    "InvariantViolated",
    "LockModel",
    "MapModel",
    "Model",
    "NetworkFaults",
    "Operation",
    "Outcome",
    "RegisterModel",
    "Report",
    "Schedule",
    "ScheduleError",
    "SeedFailed",
    "SeedReport",
    "SimulatedCluster",
    "Simulation",
    "Verdict",
    "Workload",
    "World",
    "check",
    "check_by_index",
    "fails_alike",
    "failures_of",
    "run_schedule",
    "run_seed",
    "shrink",
    "simulated",
    "watch",
]
