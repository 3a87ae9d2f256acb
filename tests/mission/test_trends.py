"""Trends: what the two stacks give is what merging each window by itself gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from impact_aggregator.mission.trends import Cell, Known, Trend, cells, sliding
from impact_aggregator.partial import Partial
from impact_aggregator.values import Formula, Input, Reading, Spread, Term, reading_of
from impact_aggregator.windows import ALL_TIME, DAY, WINDOWS
from impact_schemas.catalog import parse_catalog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from impact_schemas.catalog import Metric

METRICS = parse_catalog(
    """
apiVersion: impact/v1
product: clinic
title: Clinic
events: {clinic.visit.v1: {data: {type: object, properties: {minutes: {type: number}}}}}
metrics:
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: impact, windows: [7d, all]}
  people: {title: People, event: clinic.visit.v1, aggregate: unique, of: subject, role: impact}
  minutes: {title: Minutes, event: clinic.visit.v1, aggregate: sum, of: data.minutes, role: impact}
  longest: {title: Longest, event: clinic.visit.v1, aggregate: max, of: data.minutes, role: impact}
  median: {title: Median, event: clinic.visit.v1, aggregate: p50, of: data.minutes, role: impact}
  share: {title: Share, ratio: {numerator: minutes, denominator: visits}, role: impact, windows: [7d, all]}
""",
    "clinic.yaml",
).metrics

START = 20_000 * DAY


def _partial(values: list[int], aggregate: str) -> Partial:
    made = Partial()
    if aggregate == "unique":
        made.add_distinct(values)
    elif values:
        made.add_numbers(values)
        if aggregate == "p50":
            made.add_quantiles(values)
    made.see(len(values), START)
    return made


by_day = st.dictionaries(
    st.integers(0, 40), st.lists(st.integers(0, 50), min_size=1, max_size=4), max_size=25
)


@given(
    by_day,
    st.sampled_from(["visits", "people", "minutes", "longest", "median"]),
    st.sampled_from(["24h", "7d", "28d", ALL_TIME]),
    st.integers(0, 40),
)
def test_a_trend_is_each_days_window_merged_by_itself(
    values: dict[int, list[int]], name: str, window: str, first: int
) -> None:
    metric = METRICS[name]
    aggregate = metric.aggregate or ""
    days = {START + day * DAY: _partial(found, aggregate) for day, found in values.items()}
    found = list(
        cells(
            metric,
            Formula((Term(aggregate),)),
            (days,),
            (days,),
            window,
            START + first * DAY,
            START + 45 * DAY,
        )
    )
    expected = [_brute(metric, days, window, START + day * DAY) for day in range(first, 46)]
    assert found == expected


def _brute(metric: Metric, days: Mapping[int, Partial], window: str, day: int) -> Cell:
    oldest = 0 if window == ALL_TIME else day - WINDOWS[window].length + DAY
    merged = Partial()
    for start, partial in days.items():
        if oldest <= start <= day:
            merged.merge(partial)
    formula = Formula((Term(metric.aggregate or ""),))
    return Cell(reading_of(metric, formula, Input((merged,), (merged,), stale=False)))


def test_a_ratio_and_its_segments_are_divided_after_merging() -> None:
    minutes = {START: _partial([3, 4], "sum"), START + DAY: _partial([5], "sum")}
    visits = {START: _partial([1, 1], "count"), START + DAY: _partial([1], "count")}
    of_segment = {START: _partial([4], "sum")}
    visits_of_segment = {START: _partial([1], "count")}
    found = list(
        cells(
            METRICS["share"],
            Formula((Term("sum"),), (Term("count"),)),
            (of_segment, visits_of_segment),
            (minutes, visits),
            "7d",
            START,
            START + 8 * DAY,
        )
    )
    assert found[0] == Cell(Reading(4, 1, "ok"))
    assert found[6] == Cell(Reading(4, 1, "ok"))
    assert found[7] == Cell(Reading(None, 0, "no_data"))  # the segment's day has left the window
    assert found[8] == Cell(Reading(None, 0, "no_data"))


def test_sliding_leaves_its_days_as_they_are() -> None:
    days = {START + day * DAY: _partial([day], "sum") for day in range(10)}
    list(sliding(days, 3, START, START + 9 * DAY))
    assert [partial.sum for partial in days.values()] == list(range(10))


def test_what_is_unknown_is_not_there() -> None:
    one = Cell(Reading(5 * 10**9, 2, "ok"), Spread(10 * 10**9, 52 * 10**18, None))
    trend = Trend(START, [one, Cell(Reading(None, 0, "no_data")), one])
    assert trend.at(START) == Known(5.0, 2, 2.0)  # of 4 and 6
    assert trend.at(START + DAY) is None
    assert trend.at(START - DAY) is None
    assert trend.at(START + 3 * DAY) is None
    assert [at for at, _ in trend.since(START - 9 * DAY)] == [START, START + 2 * DAY]
    assert trend.last == START + 2 * DAY
