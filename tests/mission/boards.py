"""Boards made by hand: a catalog, values, and trends."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from impact_aggregator.mission.board import Board, Cells
from impact_aggregator.mission.trends import Cell, Trend
from impact_aggregator.values import Reading, Spread
from impact_aggregator.windows import DAY, floor
from impact_schemas import numbers
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import NOON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from impact_schemas.catalog import Catalog

HEAD = """
apiVersion: impact/v1
product: clinic
title: Clinic
events:
  clinic.visit.v1:
    data:
      type: object
      properties:
        language: {type: string}
        kept: {type: boolean}
        score: {type: number}
        arm: {type: string}
        usd: {type: number}
"""


def catalog_of(text: str) -> Catalog:
    """A catalog of these metrics, and what else the text says."""
    return parse_catalog(HEAD + text, "clinic.yaml")


def cell(value: float | None, n: int | None = 100, spread: Spread | None = None, status: str = "") -> Cell:
    """A cell; without a value there is no data."""
    nanos = None if value is None else round(value * numbers.ONE)
    return Cell(Reading(nanos, n, status or ("no_data" if value is None else "ok")), spread)


def scores(values: Sequence[int]) -> Cell:
    """The cell of a mean of these scores."""
    nanos = [value * numbers.ONE for value in values]
    spread = Spread(sum(nanos), sum(nano * nano for nano in nanos), None)
    return cell(sum(values) / len(values), len(values), spread)


def trend_of(values: Sequence[float | None], n: int = 100, now: int = NOON) -> Trend:
    """The closed days up to yesterday."""
    first = floor(now, DAY) - (len(values) - 1) * DAY
    return Trend(first, [cell(value, n) for value in values])


def board_of(
    catalog: Catalog,
    cells: Mapping[tuple[str, str, str], Cell],
    trends: Mapping[tuple[str, str, str], Trend] | None = None,
    now: int = NOON,
) -> Board:
    """A board with these cells by metric, segment and window."""
    nested: Cells = defaultdict(lambda: defaultdict(dict))
    for (metric, segment, window), one in cells.items():
        nested[metric][segment][window] = one
    return Board(catalog, nested, trends or {}, now)
