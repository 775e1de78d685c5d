"""Budget: a loop goes on while there is time and bytes, and no longer."""

from copycat.actors.budget import Budget


class HandClock:
    """A clock that stands still until it is moved."""

    set_back_s = 0.0

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def passing_s(self) -> float:
        return self.now_s

    def wall_time_s(self) -> float:
        return self.now_s


def test_a_budget_is_spent_when_its_time_is_over() -> None:
    """It is there until its time, and spent from then on."""
    clock = HandClock()
    budget = Budget(clock, time_s=0.5)
    clock.now_s += 0.49
    assert not budget.spent
    clock.now_s += 0.02
    assert budget.spent


def test_a_budget_is_spent_when_its_bytes_are_taken() -> None:
    """Bytes count, also when no time passes."""
    budget = Budget(HandClock(), size_bytes=10)
    budget.take(9)
    assert not budget.spent
    budget.take(1)
    assert budget.spent
