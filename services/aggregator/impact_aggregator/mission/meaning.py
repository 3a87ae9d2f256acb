"""All that the rules say of a board, as rows of tables: of a segment, a metric, and the whole product."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from impact_aggregator.mission import (
    bets,
    comparisons,
    contributions,
    drifts,
    equity,
    features,
    guards,
    pairs,
    targets,
    violations,
)
from impact_schemas import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Table

    from impact_aggregator.mission.board import Board
    from impact_aggregator.mission.violations import ViolationRow

Row = tuple[Any, ...]  # in the order of its table's columns
Rows = dict[str, list[Row]]  # by the table's name

OF_SEGMENT: dict[Table, Callable[[Board, str, str], Iterator[Row]]] = {
    tables.equity_gap: equity.gaps,
    tables.value_interval: contributions.intervals,
    tables.net_value: contributions.net_values,
}
OF_METRIC: dict[Table, Callable[[Board, str], Iterator[Row]]] = {
    tables.target_state: targets.rows,
    tables.population_share: equity.population_shares,
    tables.dimension_coverage: equity.coverage,
    tables.arm_contribution: contributions.contributions,
    tables.feature_result: features.rows,
    tables.benchmark: comparisons.benchmarks,
    tables.metric_record: comparisons.records,
}


def of_segment(board: Board, name: str, segment: str) -> Rows:
    """What is said of one segment of a metric by itself, or beside the reference group."""
    return {table.name: list(rows_of(board, name, segment)) for table, rows_of in OF_SEGMENT.items()}


def of_metric(board: Board, name: str) -> Rows:
    """What is said of one metric."""
    return {table.name: list(rows_of(board, name)) for table, rows_of in OF_METRIC.items()}


def of_product(board: Board, before: Iterable[ViolationRow]) -> Rows:
    """What is said of metrics together; `before` are the violations as they were."""
    judgements = chain(
        guards.guardrails(board), guards.within(board), drifts.left_behind(board), drifts.divergences(board)
    )
    return {
        tables.value_pair.name: list(pairs.rows(board)),
        tables.violation.name: list(violations.follow(judgements, before, board.now)),
        tables.bet_result.name: list(bets.rows(board)),
    }
