"""`impact status`: every product's numbers now, read from the same views as analysts use."""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 (msgspec reads the annotations)
from typing import TYPE_CHECKING, Any

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text

from impact_cli import status_account, status_meaning, status_portfolio
from impact_cli.status_account import Account
from impact_cli.status_meaning import STYLES, Meaning, Named
from impact_cli.status_portfolio import Goal, Need  # noqa: TC001 (msgspec reads the annotations)
from impact_cli.terminal import Refused, print_told
from impact_database.engine import connect, read_only
from impact_database.migrate import check
from impact_schemas import wording
from impact_schemas.catalog.counting import WINDOWS

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncConnection

SHOWN_WINDOWS = ("28d", "all")  # for people; JSON has every window
ROLES = {"impact": "Impact", "guardrail": "Guardrails", "business": "Business"}

NUMBERS = text("""
    SELECT r.product, r.metric, m.title, r.role, r.unit, r.time_window, r.value, r.n, r.status, r.as_of,
      p.place, p.products
    FROM rolling_metrics r JOIN metrics m ON m.product = r.product AND m.metric = r.metric
    LEFT JOIN metric_peers p
      ON p.product = r.product AND p.metric = r.metric AND p.time_window = r.time_window
    WHERE r.segment = '{}'
    ORDER BY r.product, r.metric
""")
METRICS = text("SELECT product, metric, title, role, unit, definition FROM metrics ORDER BY product, metric")
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
    metrics: dict[str, Named]


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
    metrics = _named([row._asdict() for row in await connection.execute(METRICS)])
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
            metrics.get(row.product, {}),
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


def _named(rows: list[dict[str, Any]]) -> dict[str, dict[str, Named]]:
    found: dict[str, dict[str, Named]] = {}
    units = wording.units_of(rows)
    for row in rows:
        name = row["product"], row["metric"]
        one = Named(row["title"], row["role"], row["unit"], units[name].percent)
        found.setdefault(row["product"], {})[row["metric"]] = one
    return found


def show(products: list[Product], console: Console) -> None:
    """The numbers, what they mean, and a line of the ledger for each product; then together."""
    for one in products:
        console.print(f"[bold]{escape(one.title)}[/] ({one.product})")
        if one.statement:
            console.print(f"{one.statement} For {one.beneficiaries}.", markup=False)
        show_numbers(one, console)
        told = [
            *status_meaning.judged(one.meaning, one.metrics),
            *status_meaning.also(one.meaning, one.metrics),
        ]
        print_told(console, told, STYLES)
        ledger = one.ledger
        console.print(
            f"{ledger.received:,} events received = {ledger.counted:,} counted "
            f"+ {ledger.duplicates:,} duplicates + {ledger.quarantined:,} quarantined\n"
        )
    if len(products) > 1:  # people are never added between products: each number stands for itself
        status_portfolio.show(products, console)


def show_numbers(one: Product, console: Console) -> None:
    """A line for each metric, impact first; * stands for the mission, n is the events behind a value."""
    if not one.numbers:
        return
    numbers: dict[str, dict[str, Number]] = {}
    for number in _for_people(one.numbers):
        numbers.setdefault(number.metric, {})[number.window] = number
    windows = [name for name in WINDOWS if any(name in found for found in numbers.values())]
    console.print(_table(one, numbers, windows))
    console.print(f"as of {max(number.as_of for number in one.numbers)} UTC", style="dim")
    for number in one.numbers:
        if number.place is not None and (number.products or 0) > 1:
            over = wording.window(number.window)
            says = f"{number.title} over {over}: place {number.place} of {number.products} products"
            console.print(escape(says))


def _table(one: Product, numbers: dict[str, dict[str, Number]], windows: list[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for window in windows:
        table.add_column(wording.window(window).removeprefix("the "), justify="right", no_wrap=True)
        table.add_column("n", justify="right", no_wrap=True, style="dim")
    table.add_column("", overflow="fold")
    for role, title in ROLES.items():
        of_role = [name for name in numbers if one.metrics[name].role == role]
        if of_role:
            table.add_row("", f"[bold]{title}[/]")
        for name in of_role:
            metric = one.metrics[name]
            cells = [cell for window in windows for cell in _cells(numbers[name].get(window), metric)]
            star = "*" if metric.title == one.north_star else ""
            words = "" if metric.percent else metric.as_unit().words()
            table.add_row(star, *map(escape, (metric.title, *cells, words)))
    return table


def _cells(number: Number | None, metric: Named) -> tuple[str, str]:
    """The value without its unit's words, or why there is none; and n."""
    if number is None:
        return "", ""
    if number.value is None:
        return number.status.replace("_", " "), ""
    _, value, after = metric.as_unit().parts(number.value)
    stale = " (stale)" if number.status == "stale" else ""
    return f"{value}{after if metric.percent else ''}{stale}", f"{number.n:,}"
