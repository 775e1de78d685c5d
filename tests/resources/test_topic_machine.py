"""TopicMachine: who is told what, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import InvalidArgument
from copycat.resources.subscription import SUBSCRIPTIONS_PER_SESSION_MAX
from copycat.resources.topic import TopicMachine
from driven import Driver

sessions = st.integers(1, 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), sessions, st.integers(1, 2)),
        st.tuples(st.just("unsubscribe"), sessions, st.integers(1, 2)),
        st.tuples(st.just("publish"), sessions, st.binary(max_size=3)),
        st.tuples(st.just("end"), sessions, st.none()),
    ),
    max_size=40,
)


@given(steps)
def test_sessions_with_subscriptions_are_told_everything_in_order(
    steps: list[tuple[str, int, object]],
) -> None:
    """A session gets each message published while it subscribes, once, and none other."""
    driver = Driver(TopicMachine)
    audience: dict[int, set[object]] = {}
    expected: dict[int, list[tuple[str, list[object]]]] = {}
    for name, session, value in steps:
        if session in driver.ended:
            continue
        match name:
            case "subscribe":
                assert driver.command(session, "subscribe", value) == driver.index
                audience.setdefault(session, set()).add(value)
            case "unsubscribe":
                known = audience.get(session, set())
                assert driver.command(session, "unsubscribe", value) == (value in known)
                known.discard(value)
            case "publish":
                index = driver.command(session, "publish", value)
                for listener, numbers in audience.items():
                    if numbers:
                        told = ("message", [index, value])
                        expected.setdefault(listener, []).append(told)
            case "end":
                driver.end_session(session)
                audience.pop(session, None)
                expected.pop(session, None)
                driver.take_events(session)
        assert driver.query("subscriptions") == sum(map(len, audience.values()))
    assert {session: driver.take_events(session) for session in expected} == expected


@pytest.mark.parametrize("wrong", ["text", None, 1, [b""]])
def test_messages_are_encoded_values(wrong: object) -> None:
    """What is no bytes is refused by the machine too."""
    with pytest.raises(TypeError):
        Driver(TopicMachine).command(1, "publish", wrong)


def test_subscriptions_of_a_session_are_bounded() -> None:
    """A hostile session cannot fill the memory of all servers with subscriptions."""
    driver = Driver(TopicMachine)
    for number in range(SUBSCRIPTIONS_PER_SESSION_MAX):
        driver.machine._audience.setdefault(1, []).append(number)
        driver.replicas[1].machine._audience.setdefault(1, []).append(number)  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgument):
        driver.command(1, "subscribe", SUBSCRIPTIONS_PER_SESSION_MAX)
    driver.command(2, "subscribe", 1)
