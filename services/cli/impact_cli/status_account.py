"""What a product's numbers can carry, as `impact status` tells it.

Who is reached and who is not known, what made the difference, what is owed to the product, what others reach.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import text

from impact_cli.status_meaning import Value, first_windows, struct_of
from impact_schemas import wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_cli.status_meaning import Named
    from impact_schemas.wording import Unit

_LEAST_UNKNOWN = Decimal("0.01")  # of the events; less is in --json, and in the view


class Reached(msgspec.Struct, frozen=True):
    """The share of a group's people who are reached."""

    metric: str
    title: str
    window: str
    segment: str
    people: int
    share: Value


class Unknown(msgspec.Struct, frozen=True):
    """The share of a metric's events of which the group is not known."""

    metric: str
    title: str
    dimension: str
    share: Value


class Difference(msgspec.Struct, frozen=True):
    """What an arm or a feature made of a metric, beside the control or the rest."""

    metric: str
    title: str
    window: str
    kind: str  # arm or feature
    name: str
    value: Value
    beside: Value  # of a feature of what adds up: its share of the total
    difference: Value
    ci_low: Value
    ci_high: Value


class Net(msgspec.Struct, frozen=True):
    """What of a total is owed to the product."""

    metric: str
    title: str
    window: str
    gross: Value
    net: Value
    source: str | None


class Benchmark(msgspec.Struct, frozen=True):
    """A total beside what others reach."""

    metric: str
    title: str
    window: str
    value: Value
    label: str
    benchmark: Value
    ratio: Value
    source: str | None
    year: int | None


class Best(msgspec.Struct, frozen=True):
    """The best that a total ever was at the end of a day."""

    metric: str
    title: str
    window: str
    best: Value
    day: str


class Account(msgspec.Struct, frozen=True):
    """All of it, of one product."""

    reached: list[Reached] = []
    unknown: list[Unknown] = []
    differences: list[Difference] = []
    net: list[Net] = []
    benchmarks: list[Benchmark] = []
    best: list[Best] = []


REACHED = text("""
    SELECT r.product, r.metric, m.title, r.time_window, r.segment, r.population, r.share
    FROM population_coverage r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric ORDER BY r.product, r.metric, r.share
""")
UNKNOWN = text("""
    SELECT r.product, r.metric, m.title, r.dimension, r.share_unknown FROM coverage r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric
    WHERE r.share_unknown > 0 ORDER BY r.product, r.metric, r.dimension
""")
DIFFERENCES = text("""
    SELECT r.product, r.metric, m.title, r.time_window, 'arm', r.arm, r.value, r.control_value, r.difference,
      r.ci_low, r.ci_high
    FROM contributions r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric
    WHERE r.segment = '{}'
    UNION ALL
    SELECT r.product, r.metric, m.title, r.time_window, 'feature', r.feature, r.value,
      COALESCE(r.rest_value, r.share), r.difference, r.ci_low, r.ci_high
    FROM feature_results r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric ORDER BY 1, 5, 2, 6
""")
NET = text("""
    SELECT r.product, r.metric, m.title, r.time_window, r.gross, r.net, r.source
    FROM net_values r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric
    WHERE r.segment = '{}' ORDER BY r.product, r.metric
""")
BENCHMARKS = text("""
    SELECT r.product, r.metric, m.title, r.time_window, r.value, r.label, r.benchmark, r.ratio,
      r.source, r.year
    FROM benchmarks r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric ORDER BY r.product, r.metric, r.label
""")
BEST = text("""
    SELECT r.product, r.metric, m.title, r.time_window, r.best, r.best_at
    FROM metric_records r
    JOIN metrics m ON m.product = r.product AND m.metric = r.metric
    WHERE m.role = 'impact' ORDER BY r.product, r.metric
""")

_FIELDS: tuple[tuple[str, Any, Any], ...] = (
    ("reached", REACHED, Reached),
    ("unknown", UNKNOWN, Unknown),
    ("differences", DIFFERENCES, Difference),
    ("net", NET, Net),
    ("benchmarks", BENCHMARKS, Benchmark),
    ("best", BEST, Best),
)


async def read(connection: AsyncConnection) -> dict[str, Account]:
    """The account of each product that has any; of several windows the first that is told."""
    found: dict[str, dict[str, list[Any]]] = {}
    for field, statement, kind in _FIELDS:
        for row in await connection.execute(statement):
            found.setdefault(row.product, {}).setdefault(field, []).append(struct_of(kind, row[1:]))
    for fields in found.values():
        for field in ("reached", "differences", "net", "best"):
            fields[field] = first_windows(fields.get(field, []), _told_once)
    return {product: Account(**fields) for product, fields in found.items()}


def _told_once(one: Reached | Difference | Net | Best) -> object:
    return one.metric, getattr(one, "segment", None), getattr(one, "name", None)


def told(account: Account, metrics: Mapping[str, Named]) -> Iterator[tuple[str, str]]:
    """A word and a sentence for each."""
    for reached in account.reached:
        people = f"{wording.number(reached.people)} people of {wording.segment(reached.segment)}"
        yield "reached", f"{_over(reached)}: {_percent(reached.share)} of {people}"
    for unknown in account.unknown:
        if unknown.share is not None and unknown.share >= _LEAST_UNKNOWN:
            share = _percent(unknown.share)
            yield "not known", f"{unknown.title}: the {unknown.dimension} of {share} of the events"
    for one in account.differences:
        yield one.kind, _difference(one, metrics[one.metric].as_unit())
    for net in account.net:
        unit = metrics[net.metric].as_unit()
        values = f"{unit.or_unknown(net.net)} of {unit.or_unknown(net.gross)}"
        yield "owed to us", f"{_over(net)}: {values} ({net.source or 'no source'})"
    for benchmark in account.benchmarks:
        unit = metrics[benchmark.metric].as_unit()
        origin = ", ".join(str(one) for one in (benchmark.source, benchmark.year) if one is not None)
        yield (
            "beside",
            f"{_over(benchmark)}: {unit.or_unknown(benchmark.value)}, {_percent(benchmark.ratio)} of"
            f" {benchmark.label}, {unit.or_unknown(benchmark.benchmark)}{f' ({origin})' if origin else ''}",
        )
    for best in account.best:
        yield (
            "own best",
            f"{_over(best)}: {metrics[best.metric].as_unit().or_unknown(best.best)} on {best.day}",
        )


def _over(one: Reached | Difference | Net | Benchmark | Best) -> str:
    return f"{one.title} over {wording.window(one.window)}"


def _difference(one: Difference, unit: Unit) -> str:
    head = f"{one.name}: {_over(one)} {unit.or_unknown(one.value)}"
    if one.difference is not None:
        other = "control" if one.kind == "arm" else "the rest"
        sure = ""
        if one.ci_low is not None and one.ci_high is not None:
            sure = f" (95 %: {unit.bare_span(one.ci_low, one.ci_high)})"
        return f"{head}, {other} {unit.or_unknown(one.beside)}: {unit.change(one.difference)}{sure}"
    if one.kind == "feature" and one.beside is not None:
        return f"{head}, {_percent(one.beside)} of the total"
    return head


def _percent(share: Value) -> str:
    return "unknown" if share is None else wording.percent(share)
