"""Several products together, as `impact status` tells it: by Sustainable Development Goal, and by need."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 (msgspec reads the annotations)
from typing import TYPE_CHECKING

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_cli.status import Product
    from impact_cli.status_meaning import Named

# Of a metric with several windows that of 28 days is told, else all time.
GOALS = text("""
    SELECT product, sdg, metric, title, time_window, value, unit, status FROM portfolio_sdg g
    WHERE time_window = '28d' OR time_window = 'all' AND NOT EXISTS (SELECT 1 FROM rolling_metrics r
      WHERE r.product = g.product AND r.metric = g.metric AND r.time_window = '28d' AND r.segment = '{}')
    ORDER BY sdg, product, metric
""")
NEEDS = text("SELECT product, need, statement, bet, status FROM portfolio_needs ORDER BY need, product, bet")


class Goal(msgspec.Struct, frozen=True):
    """A product's number for a target or indicator of the goals; it adds to no other product's."""

    product: str
    sdg: str
    metric: str
    title: str
    window: str
    value: Decimal | float | None
    unit: str
    status: str


class Need(msgspec.Struct, frozen=True):
    """A product's need, and a bet for it, if there is one; `status` of its expectations the worst."""

    product: str
    need: str
    statement: str
    bet: str | None
    status: str | None


class Portfolio(msgspec.Struct, frozen=True):
    """All products'."""

    goals: list[Goal]
    needs: list[Need]


async def read(connection: AsyncConnection) -> Portfolio:
    """What the views portfolio_sdg and portfolio_needs say."""
    goals = [Goal(*row) for row in await connection.execute(GOALS)]
    return Portfolio(goals, [Need(*row) for row in await connection.execute(NEEDS)])


def show(products: Sequence[Product], console: Console) -> None:
    """A table of each, if there is anything in it."""
    titles = {one.product: one.title for one in products}
    metrics = {(one.product, name): metric for one in products for name, metric in one.metrics.items()}
    goals = [goal for one in products for goal in one.goals]
    _print(
        console,
        ("goal", "product", "metric", "window", "value"),
        [
            (one.sdg, titles[one.product], one.title, one.window, _value(one, metrics))
            for one in sorted(goals, key=_by_number)
        ],
    )
    _print(
        console,
        ("need", "product", "bet", "status"),
        [
            (need.statement, titles[need.product], need.bet or "no bet yet", _words(need.status))
            for need in sorted((need for one in products for need in one.needs), key=lambda need: need.need)
        ],
    )


def _value(one: Goal, metrics: Mapping[tuple[str, str], Named]) -> str:
    if one.value is None:
        return _words(one.status)
    return metrics[one.product, one.metric].as_unit().of(one.value)


def _words(status: str | None) -> str:
    return "-" if status is None else status.replace("_", " ")


def _by_number(goal: Goal) -> tuple[int, str, str]:
    return int(goal.sdg.split(".")[0]), goal.sdg, goal.product


def _print(console: Console, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(*head, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in table.columns:
        column.overflow = "fold"
    before = ""
    for first, *others in rows:
        table.add_row("" if first == before else escape(first), *map(escape, others))
        before = first
    console.print(table)
    console.print()
