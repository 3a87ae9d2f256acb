"""The simulated pipeline: after any accidents the numbers are right; without its guards they are not."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proof import blindness
from proof.oracle import Red
from proof.simulation import ACCIDENTS, Schedule, random_schedule, shrunk, simulate

ENOUGH = 200  # schedules within which a missing guard must be seen

schedules = st.builds(
    Schedule,
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(ACCIDENTS)), max_size=8).map(tuple),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedules)
def test_any_accidents_leave_the_right_numbers(schedule: Schedule) -> None:
    simulate(schedule)


def test_a_schedule_can_be_repeated() -> None:
    schedule = random_schedule(7)
    assert simulate(schedule) == simulate(schedule)


def is_red(schedule: Schedule) -> bool:
    try:
        simulate(schedule)
    except Red:
        return True
    return False


@pytest.mark.parametrize(
    ("guards", "first"),
    [
        (("dedup", "identity-key"), 1),  # each alone is made up for by the other
        (("reading-again", "offset"), 10),
        (("compare-and-set", "identity-key"), 36),  # a seed in eighty shows this one
    ],
)
def test_without_its_guards_the_simulation_turns_red(guards: tuple[str, ...], first: int) -> None:
    with blindness.without(*guards):
        assert any(is_red(random_schedule(seed)) for seed in range(first, first + ENOUGH))


@pytest.mark.parametrize("guard", ["epoch", "offset"])
def test_epoch_and_offset_make_up_for_each_other(guard: str) -> None:
    """The seeds are those around one that is red without both."""
    with blindness.without(guard, "identity-key"):
        for seed in range(36, 44):
            simulate(random_schedule(seed))


def test_a_red_schedule_is_made_short() -> None:
    schedule = random_schedule(11)
    with blindness.without("reading-again", "offset"):
        short = shrunk(schedule)
        with pytest.raises(Red, match="lose commit, aggregator-"):
            simulate(short)
    assert [accident for _, accident in short.accidents] == ["lose commit"]
    assert len(schedule.accidents) > 1
