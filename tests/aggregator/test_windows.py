from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_aggregator.windows import (
    DAY,
    HOUR,
    KEPT,
    RESOLUTIONS,
    WINDOWS,
    floor,
    kept_resolution,
    window_start,
)

moments = st.integers(-(10**17), 10**17)


def micros(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@given(moments, st.sampled_from(list(RESOLUTIONS.values())))
def test_floor_is_the_last_multiple_at_or_before(moment: int, step: int) -> None:
    start = floor(moment, step)
    assert start % step == 0
    assert 0 <= moment - start < step


@given(moments, st.sampled_from(list(WINDOWS)))
def test_window_has_length_by_step_buckets_the_running_one_included(now: int, name: str) -> None:
    window = WINDOWS[name]
    starts = range(window.first_bucket(now), window.last_bucket(now) + 1, window.step)
    assert len(starts) == window.length // window.step
    assert starts[-1] <= now < starts[-1] + window.step


@pytest.mark.parametrize(
    ("name", "now", "start"),
    [
        ("5m", "2026-03-01 00:02:59", "2026-02-28 23:58:00"),
        ("1h", "2026-01-01 00:00:00", "2025-12-31 23:01:00"),
        ("24h", "2026-01-01 00:30:00", "2025-12-31 01:00:00"),
        ("7d", "2028-03-01 12:00:00", "2028-02-24 00:00:00"),  # over 29 February
        ("28d", "2026-03-28 23:59:59", "2026-03-01 00:00:00"),
        ("365d", "2026-12-31 08:00:00", "2026-01-01 00:00:00"),
    ],
)
def test_window_starts_where_the_contract_says(name: str, now: str, start: str) -> None:
    assert window_start(name, micros(now)) == micros(start)


def test_all_time_has_no_start() -> None:
    assert window_start("all", micros("2026-01-01 00:00:00")) is None


@pytest.mark.parametrize(
    ("finest", "age", "kept"),
    [
        ("1m", 0, "1m"),
        ("1m", KEPT["1m"] + 1, "1h"),
        ("1h", 3 * HOUR, "1h"),
        ("1m", KEPT["1h"] + 1, "1d"),
        ("1h", 500 * DAY, "1d"),
    ],
)
def test_late_events_open_no_bucket_that_is_too_old_to_keep(finest: str, age: int, kept: str) -> None:
    assert kept_resolution(finest, age) == kept
