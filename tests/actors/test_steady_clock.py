"""A steady clock never goes back, whatever the clock below does."""

from copycat.actors import Identity
from copycat.actors.simulation import Simulation
from copycat.actors.steady_clock import SteadyClock


def test_a_clock_that_was_set_back_runs_on_from_where_it_was() -> None:
    """Neither does it stand still until the old time is reached again."""
    readings = iter([100.0, 105.0, 7.0, 9.0, 9.0, 8.5, 10.0])
    clock = SteadyClock(lambda: next(readings))
    assert [clock.monotonic_s() for _ in range(6)] == [105.0, 105.0, 107.0, 107.0, 107.0, 108.5]
    assert clock.set_back_s == 98.5


def test_a_simulated_machine_can_set_its_clock_back() -> None:
    """It is seen in what the clock says of itself, and nowhere else."""
    with Simulation(1) as simulation:
        clock = simulation.node(Identity("n1")).clock
        began_s = clock.monotonic_s()
        simulation.run_for(1)
        assert clock.set_back_s == 0 < clock.monotonic_s() - began_s
        clock.jump_monotonic(-3600)
        assert clock.monotonic_s() == began_s + 1
        clock.rate = 2.0
        simulation.run_for(1)
        passed_s = clock.monotonic_s() - began_s
    assert 2.99 < passed_s < 3.01
    assert 3599 < clock.set_back_s <= 3600
