"""Whatever the numbers are, all rules can be worked out, and their rows fit their tables."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impact_aggregator.mission import meaning
from impact_aggregator.mission.board import Board
from impact_aggregator.mission.trends import Cell, Trend
from impact_aggregator.values import Reading, Spread
from impact_aggregator.windows import DAY, floor
from impact_schemas import tables
from impact_schemas.tables import Day, Exact, Instant
from tests.aggregator.conftest import NOON
from tests.mission.boards import catalog_of
from tests.mission.conftest import TEXT as CLINIC

CATALOG = catalog_of(
    CLINIC[CLINIC.index("metrics:") :].replace("clinic.fee.v1", "clinic.visit.v1")
    + """
needs: {care: {statement: People miss care.}}
bets:
  texts:
    need: care
    hypothesis: Texts help.
    launched: 2025-10-01
    business_metric: revenue
    expects:
      - {metric: no_show_rate, change: -0.05, by: 2025-12-15}
      - {metric: wellbeing, change: 1, by: 2026-12-15}
"""
)
SEGMENTS = [
    "{}",
    '{"language":"en"}',
    '{"language":"es"}',
    '{"language":null}',
    '{"@arm":"none"}',
    '{"@arm":"reminder"}',
]

nanos = st.one_of(st.none(), st.integers(-(10**24), 10**24), st.integers(0, 10**9), st.just(0))
counts = st.one_of(st.none(), st.integers(-3, 5), st.integers(0, 10**12))
cells = st.builds(
    Cell,
    st.builds(Reading, nanos, counts, st.sampled_from(["ok", "stale", "no_data", "suppressed"])),
    st.one_of(
        st.none(),
        st.builds(
            Spread,
            st.integers(-(10**24), 10**24),
            st.integers(0, 10**48),
            st.one_of(st.none(), st.integers(0, 9)),
        ),
    ),
)


@st.composite
def boards(draw: st.DrawFn) -> Board:
    pool = draw(st.lists(cells, min_size=6, max_size=6))
    pick = st.sampled_from(pool)
    found: dict[str, dict[str, dict[str, Cell]]] = {}
    trends: dict[tuple[str, str, str], Trend] = {}
    for name, metric in CATALOG.metrics.items():
        for segment in SEGMENTS:
            for window in metric.windows:
                found.setdefault(name, {}).setdefault(segment, {})[window] = draw(pick)
                length = draw(st.sampled_from([0, 1, 40, 100]))
                pattern = [draw(pick), draw(pick), draw(pick)]
                days = [pattern[day % 3] for day in range(length)]
                trends[name, segment, window] = Trend(floor(NOON, DAY) - (length - 1) * DAY, days)
    return Board(CATALOG, found, trends, NOON)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)
@given(boards())
def test_every_rule_gives_rows_that_its_table_takes(board: Board) -> None:
    by_name = {table.name: table for table in tables.MEANINGS}
    said = [meaning.of_product(board, [])]
    for name in CATALOG.metrics:
        said.append(meaning.of_metric(board, name))
        said += [meaning.of_segment(board, name, segment) for segment in SEGMENTS]
    for rows in said:
        for table, found in rows.items():
            for row in found:
                for column, value in zip(by_name[table].c, row, strict=True):
                    assert _fits(column, value), (table, column.name, value)


def _fits(column: Any, value: Any) -> bool:
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, Exact):
        return isinstance(value, int) and abs(value) < 10**38
    if isinstance(column.type, Instant):
        return isinstance(value, int)
    if isinstance(column.type, Day):
        return isinstance(value, date)
    return isinstance(value, column.type.python_type)
