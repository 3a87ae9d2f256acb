"""`impact status`: every product's numbers now, read from the same views as analysts use."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 (msgspec reads the annotations)
from typing import TYPE_CHECKING

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text

from impact_cli import status_account, status_meaning, status_portfolio
from impact_cli.status_account import Account
from impact_cli.status_meaning import Meaning
from impact_cli.status_portfolio import Goal, Need  # noqa: TC001 (msgspec reads the annotations)
from impact_cli.terminal import Refused, shown
from impact_database.engine import connect, read_only
from impact_database.migrate import check
from impact_schemas.catalog.counting import WINDOWS

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncConnection

SHOWN_WINDOWS = ("28d", "all")  # for people; JSON has every window
STATUS_STYLES = {"stale": "yellow", "no_data": "dim", "suppressed": "dim"}

NUMBERS = text("""
    SELECT r.product, r.metric, m.title, r.role, r.unit, r.time_window, r.value, r.n, r.status, r.as_of,
      p.place, p.products
    FROM rolling_metrics r JOIN metrics m ON m.product = r.product AND m.metric = r.metric
    LEFT JOIN metric_peers p
      ON p.product = r.product AND p.metric = r.metric AND p.time_window = r.time_window
    WHERE r.segment = '{}'
    ORDER BY r.product, r.metric
""")
LEDGER = text("SELECT product, received, counted, duplicates, quarantined FROM ledger")
PRODUCTS = text("""
    SELECT p.product, p.title, p.statement, p.beneficiaries, m.title AS star
    FROM products p LEFT JOIN metrics m ON m.product = p.product AND m.metric = p.north_star
    ORDER BY p.product
""")


class Number(msgspec.Struct, frozen=True):
    """A metric's total in one window; `value` is None unless `status` is ok or stale."""

    metric: str
    title: str
    role: str
    unit: str
    window: str
    value: Decimal | float | None
    n: int | None
    status: str
    as_of: str
    place: int | None = None  # among the products that share the metric; 1 is the best
    products: int | None = None  # how many of them have a value


class Ledger(msgspec.Struct, frozen=True):
    """What became of the events; `received` is the sum of the other three."""

    received: int = 0
    counted: int = 0
    duplicates: int = 0
    quarantined: int = 0


class Product(msgspec.Struct, frozen=True):
    """One product's numbers, what they mean, and its ledger."""

    product: str
    title: str
    statement: str | None
    beneficiaries: str | None
    north_star: str | None  # its title
    ledger: Ledger
    numbers: list[Number]
    meaning: Meaning
    account: Account
    goals: list[Goal]
    needs: list[Need]


async def read(url: str) -> list[Product]:
    """The products of the database at `url`. Raises SchemaOutOfDate, and Refused if there is none yet."""
    engine = connect(url)
    try:
        await check(engine)
        async with read_only(engine).connect() as connection:
            products = await _products(connection)
    finally:
        await engine.dispose()
    if not products:
        raise Refused("no product is counted yet: start 'impact up' or 'impact aggregator' with a catalog")
    return products


async def _products(connection: AsyncConnection) -> list[Product]:
    ledgers = {row.product: Ledger(*map(int, row[1:])) for row in await connection.execute(LEDGER)}
    numbers: dict[str, list[Number]] = {}
    for row in await connection.execute(NUMBERS):
        # as_of is a datetime on PostgreSQL, its text on SQLite
        values = dict(zip(Number.__struct_fields__, row[1:], strict=True)) | {"as_of": str(row.as_of)[:19]}
        numbers.setdefault(row.product, []).append(Number(**values))
    for ones in numbers.values():
        ones.sort(key=lambda number: (number.metric, WINDOWS.index(number.window)))
    meanings = await status_meaning.read(connection)
    accounts = await status_account.read(connection)
    portfolio = await status_portfolio.read(connection)
    return [
        Product(
            row.product,
            row.title,
            row.statement,
            row.beneficiaries,
            row.star,
            ledgers.get(row.product, Ledger()),
            numbers.get(row.product, []),
            meanings.get(row.product, Meaning()),
            accounts.get(row.product, Account()),
            [one for one in portfolio.goals if one.product == row.product],
            [one for one in portfolio.needs if one.product == row.product],
        )
        for row in await connection.execute(PRODUCTS)
    ]


def _for_people(numbers: list[Number]) -> list[Number]:
    """Two windows of a metric; where it has neither, the longest that it has."""
    longest = {number.metric: number.window for number in numbers}  # they come sorted
    usual = {number.metric for number in numbers if number.window in SHOWN_WINDOWS}
    return [
        number
        for number in numbers
        if number.window in (SHOWN_WINDOWS if number.metric in usual else (longest[number.metric],))
    ]


def show(products: list[Product], console: Console) -> None:
    """A table of the numbers, what they mean, and a line of the ledger for each product; then together."""
    for one in products:
        console.print(f"[bold]{escape(one.title)}[/] ({one.product})")
        if one.statement:
            star = f" Its north star: {one.north_star}." if one.north_star else ""
            console.print(escape(f"{one.statement} For {one.beneficiaries}.{star}"))
        table = Table("metric", "window", "value", "unit", "n", "status")
        for place, column in enumerate(table.columns):
            column.no_wrap = place not in (0, 3)  # titles and units may take two lines, a number never
            column.overflow = "fold"
            column.justify = "right" if place in (2, 4) else "left"
        for number in _for_people(one.numbers):
            count = "-" if number.n is None else f"{number.n:,}"
            cells = (number.title, number.window, shown(number.value), number.unit, count, number.status)
            table.add_row(*map(escape, cells), style=STATUS_STYLES.get(number.status))
        console.print(table)
        if one.numbers:
            console.print(f"as of {max(number.as_of for number in one.numbers)} UTC")
        for number in one.numbers:
            if number.place is not None and (number.products or 0) > 1:
                says = (
                    f"{number.title} over {number.window}: place {number.place} of {number.products} products"
                )
                console.print(escape(says))
        status_meaning.show(one.meaning, console)
        status_account.show(one.account, console)
        ledger = one.ledger
        console.print(
            f"{ledger.received:,} events received = {ledger.counted:,} counted "
            f"+ {ledger.duplicates:,} duplicates + {ledger.quarantined:,} quarantined\n"
        )
    if len(products) > 1:  # people are never added between products: each number stands for itself
        goals = [goal for one in products for goal in one.goals]
        status_portfolio.show(goals, [need for one in products for need in one.needs], console)
