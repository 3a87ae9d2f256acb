"""Two kinds of value at once: each impact metric beside each business metric that shares a window.

A change is relative to the window of the same length right before, from the trend; of all time, to the
value 28 days ago. A pair diverges where the business changes for the better and the impact for the worse,
each in its own direction. A window holds the running day: a fall of what grows with time is none if the
rest of the day, at the window's pace, makes up for it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from impact_aggregator.mission.board import is_better, is_worse, to_nanos
from impact_aggregator.mission.trends import is_followed, length_of
from impact_aggregator.rules import TOTAL
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_aggregator.mission.board import Board

MAX_PAIRS = 200  # of metrics, for each product


class PairRow(NamedTuple):
    """A row of `value_pair`; numbers in nanos, changes as shares of the value before."""

    product: str
    impact_metric: str
    business_metric: str
    time_window: str
    impact_value: int | None
    business_value: int | None
    impact_per_business: int | None
    impact_change: int | None
    business_change: int | None
    diverges: bool | None
    both_up: bool | None


def pairs(board: Board) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Impact metric, business metric, and the windows that both have; at most MAX_PAIRS pairs."""
    return islice(_pairs(board), MAX_PAIRS)


def _pairs(board: Board) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    metrics = board.catalog.metrics
    for impact, metric in metrics.items():
        if metric.role != "impact":
            continue
        for business, other in metrics.items():
            shared = tuple(window for window in metric.windows if window in other.windows)
            if other.role == "business" and shared:
                yield impact, business, shared


def rows(board: Board) -> Iterator[PairRow]:
    """A row for each pair and window."""
    changes: dict[tuple[str, str], float | None] = {}
    for impact, business, windows in pairs(board):
        for window in windows:
            for name in (impact, business):
                if (name, window) not in changes:
                    changes[name, window] = change_of(board, name, TOTAL, window)
            yield _row(board, impact, business, window, changes[impact, window], changes[business, window])


def change_of(board: Board, name: str, segment: str, window: str) -> float | None:
    """The relative change against the window before; None where either value is not known, or was 0."""
    if not is_followed(window):
        return None
    now = board.cell(name, segment, window).value
    before = board.before(name, segment, window, length_of(window))
    if now is None or before is None or before.value == 0:
        return None
    return (now - before.value) / abs(before.value)


def _row(
    board: Board, impact: str, business: str, window: str, impact_change: float | None, other: float | None
) -> PairRow:
    value = board.cell(impact, TOTAL, window).reading.value
    of_business = board.cell(business, TOTAL, window).reading.value
    diverges = both_up = None
    if impact_change is not None and other is not None:
        metrics = board.catalog.metrics
        change, of_other = (
            0.0 if one < 0 <= (1 + one) / board.done(name, window) - 1 else one
            for name, one in ((impact, impact_change), (business, other))
        )
        gains = is_better(metrics[business], of_other)
        diverges = gains and is_worse(metrics[impact], change)
        both_up = gains and is_better(metrics[impact], change)
    per_business = numbers.divide(value, of_business) if value is not None and of_business else None
    return PairRow(
        *(board.product, impact, business, window, value, of_business, per_business),
        *(to_nanos(impact_change), to_nanos(other), diverges, both_up),
    )
