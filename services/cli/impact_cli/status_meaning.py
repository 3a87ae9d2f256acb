"""What the numbers mean, as `impact status` tells it: targets, warnings, groups, pairs, bets, risks."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from rich.markup import escape
from rich.table import Table
from sqlalchemy import text

from impact_cli.terminal import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncConnection

Value = Decimal | float | None

_ORDER = ("28d", "90d", "7d", "365d", "all", "24h", "1h", "5m")  # of several windows the first is told
_LEAST_CHANGE = 0.01  # less is in --json, and in the view
_STYLES = {
    "met": "green",
    "proven": "green",
    "at_risk": "yellow",
    "warning": "yellow",
    "off_track": "red",
    "failed": "red",
    "critical": "red",
    "no_data": "dim",
    "suppressed": "dim",
    "too_early": "dim",
}


_HELPS = {  # the two-by-two of what changed for the better
    "both": "people and business",
    "impact_only": "people",
    "business_only": "business alone",
    "neither": "nobody",
}


class Target(msgspec.Struct, frozen=True):
    """How far a target is; `forecast` is the value at the due day."""

    metric: str
    title: str
    window: str
    segment: str
    value: Value
    target: Value
    unit: str
    due: str
    progress: Value
    forecast: Value
    forecast_low: Value
    forecast_high: Value
    status: str


class Warned(msgspec.Struct, frozen=True):
    """A violation that goes on."""

    rule: str
    kind: str
    metric: str
    segment: str
    since: str
    severity: str
    detail: str
    answered_by: str | None
    value_at_answer: Value
    value_now: Value


class Gap(msgspec.Struct, frozen=True):
    """A group that is worse off than the reference, beyond chance."""

    metric: str
    title: str
    window: str
    segment: str
    value: Value
    reference_segment: str
    reference_value: Value
    gap: Value
    ci_low: Value
    ci_high: Value


class Pair(msgspec.Struct, frozen=True):
    """How an impact metric and a business metric changed; changes are shares of the value before."""

    impact_metric: str
    business_metric: str
    window: str
    impact_change: Value
    business_change: Value
    diverges: bool
    both_up: bool


class Bet(msgspec.Struct, frozen=True):
    """What was expected of a bet and what was measured."""

    bet: str
    title: str
    metric: str
    segment: str
    by: str
    expected: Value
    measured: Value
    ci_low: Value
    ci_high: Value
    evidence: str | None
    business_metric: str | None
    business_change: Value
    quadrant: str | None
    status: str


class Risk(msgspec.Struct, frozen=True):
    """A risk whose review is overdue; `due` is None if it was never reviewed."""

    risk: str
    statement: str
    due: str | None
    owner: str | None


class Meaning(msgspec.Struct, frozen=True):
    """All of it, of one product."""

    targets: list[Target] = []
    warnings: list[Warned] = []
    gaps: list[Gap] = []
    pairs: list[Pair] = []
    bets: list[Bet] = []
    overdue_risks: list[Risk] = []


TARGETS = text("""
    SELECT t.product, t.metric, m.title, t.time_window, t.segment, t.value, t.target, t.unit, t.due,
      t.progress, t.forecast, t.forecast_low, t.forecast_high, t.status
    FROM target_progress t JOIN metrics m ON m.product = t.product AND m.metric = t.metric
    ORDER BY t.product, t.metric, t.segment, t.due
""")
WARNINGS = text("""
    SELECT product, rule, kind, metric, segment, since, severity, detail, answered_by,
      value_at_answer, value_now
    FROM violations WHERE until IS NULL ORDER BY product, severity, since, rule, segment
""")
GAPS = text("""
    SELECT g.product, g.metric, m.title, g.time_window, g.segment, g.value, g.reference_segment,
      g.reference_value, g.gap, g.ci_low, g.ci_high
    FROM equity_gaps g JOIN metrics m ON m.product = g.product AND m.metric = g.metric
    WHERE g.standing = 'worse' ORDER BY g.product, g.metric, g.segment
""")
PAIRS = text("""
    SELECT product, impact_metric, business_metric, time_window, impact_change, business_change,
      diverges, both_up
    FROM value_pairs WHERE diverges IS NOT NULL ORDER BY product, impact_metric, business_metric
""")
BETS = text("""
    SELECT r.product, r.bet, b.title, r.metric, r.segment, r.by, r.expected, r.measured, r.ci_low, r.ci_high,
      r.evidence, r.business_metric, r.business_change, r.quadrant, r.status
    FROM bet_results r JOIN bets b ON b.product = r.product AND b.bet = r.bet ORDER BY r.product, r.bet, r.by
""")
RISKS = text("SELECT product, risk, statement, due, owner FROM risks WHERE overdue ORDER BY product, risk")

T = TypeVar("T", bound=msgspec.Struct)


async def read(connection: AsyncConnection) -> dict[str, Meaning]:
    """What is said of each product of which anything is."""
    found: dict[str, dict[str, list[Any]]] = {}
    for field, statement, kind in (
        ("targets", TARGETS, Target),
        ("warnings", WARNINGS, Warned),
        ("gaps", GAPS, Gap),
        ("pairs", PAIRS, Pair),
        ("bets", BETS, Bet),
        ("overdue_risks", RISKS, Risk),
    ):
        for row in await connection.execute(statement):
            one = struct_of(kind, row[1:])
            found.setdefault(row.product, {}).setdefault(field, []).append(one)
    for fields in found.values():
        fields["gaps"] = first_windows(fields.get("gaps", []), lambda one: (one.metric, one.segment))
        pairs = first_windows(fields.get("pairs", []), lambda one: (one.impact_metric, one.business_metric))
        fields["pairs"] = [one for one in pairs if one.diverges or one.both_up]
    return {product: Meaning(**fields) for product, fields in found.items()}


def struct_of(kind: type[T], row: Sequence[Any]) -> T:
    """Days and times as text, as SQLite gives them; truths as such."""
    values = dict(zip(kind.__struct_fields__, row, strict=True))
    for name, value in values.items():
        if hasattr(value, "isoformat"):
            values[name] = str(value)
    values |= {name: bool(values[name]) for name in ("diverges", "both_up") if name in values}
    values |= {
        name: str(values[name])[:10] for name in ("since", "due", "by", "day") if values.get(name) is not None
    }
    return kind(**values)


def first_windows(rows: Iterable[Any], key: Callable[[Any], object]) -> list[Any]:
    """One row for each key: that of the window which is told first."""
    chosen: dict[object, Any] = {}
    for row in rows:
        before = chosen.get(key(row))
        if before is None or _ORDER.index(row.window) < _ORDER.index(before.window):
            chosen[key(row)] = row
    return list(chosen.values())


# --- what is printed ----------------------------------------------------------------------------------


def show(meaning: Meaning, console: Console) -> None:
    """A table for each kind that there is anything of."""
    if meaning.targets:
        table = _table("target", "window", "value", "target", "unit", "due", "progress", "forecast", "status")
        for target in meaning.targets:
            _add(table, *_target(target), status=target.status)
        console.print(table)
    for warned in meaning.warnings:
        answer = f" Answered: {warned.answered_by}{_then_and_now(warned)}." if warned.answered_by else ""
        style = _STYLES[warned.severity]
        said = escape(f"{warned.kind} since {warned.since}: {warned.detail}.{answer}")
        console.print(f"[{style}]{warned.severity}[/] {said}")
    _show_groups(meaning, console)
    if meaning.bets:
        table = _table("bet", "expected", "measured", "95 %", "by", "evidence", "business", "helps", "status")
        for bet in meaning.bets:
            _add(table, *_bet(bet), status=bet.status)
        console.print(table)
    for risk in meaning.overdue_risks:
        when = f"was due on {risk.due}" if risk.due else "has never been done"
        console.print(escape(f"Review of risk {risk.risk} {when}: {risk.statement}"))


def _show_groups(meaning: Meaning, console: Console) -> None:
    for gap in meaning.gaps:
        sure = "" if gap.ci_low is None else f" (95 %: {shown(gap.ci_low)} to {shown(gap.ci_high)})"
        console.print(
            escape(
                f"Behind: {gap.title} over {gap.window} is {shown(gap.value)} for {gap.segment},"
                f" {shown(gap.reference_value)} for {gap.reference_segment}: gap {shown(gap.gap)}{sure}"
            )
        )
    together: dict[str, list[str]] = {}
    for pair in meaning.pairs:
        if not (_is_told(pair.impact_change) and _is_told(pair.business_change)):
            continue
        word = "Apart" if pair.diverges else "Both better"
        head = f"{word} over {pair.window}: {pair.impact_metric} {_share(pair.impact_change)}, while"
        together.setdefault(head, []).append(f"{pair.business_metric} {_share(pair.business_change)}")
    for head, others in together.items():
        console.print(escape(f"{head} {', '.join(others)}"))


def _then_and_now(warned: Warned) -> str:
    if warned.value_at_answer is None or warned.value_now is None:
        return ""
    return f", {shown(warned.value_at_answer)} then, {shown(warned.value_now)} now"


def _target(one: Target) -> tuple[str, ...]:
    name = one.title if one.segment == "{}" else f"{one.title} {one.segment}"
    span = "" if one.forecast_low is None else f" ({shown(one.forecast_low)} to {shown(one.forecast_high)})"
    progress = "-" if one.progress is None else f"{float(one.progress):.0%}"
    return (
        *(name, one.window, shown(one.value), shown(one.target), one.unit, one.due),
        *(progress, f"{shown(one.forecast)}{span}"),
    )


def _bet(one: Bet) -> tuple[str, ...]:
    sure = "-" if one.ci_low is None else f"{shown(one.ci_low)} to {shown(one.ci_high)}"
    where = one.metric if one.segment == "{}" else f"{one.metric} {one.segment}"
    expected = f"{where} {shown(one.expected)}"
    business = "-" if one.business_change is None else f"{one.business_metric} {_share(one.business_change)}"
    helps = _HELPS.get(one.quadrant or "", "-")
    return one.title, expected, shown(one.measured), sure, one.by, one.evidence or "-", business, helps


def _is_told(change: Value) -> bool:
    return change is not None and abs(float(change)) >= _LEAST_CHANGE


def _share(value: Value) -> str:
    return "-" if value is None else f"{float(value):+.1%}"


def _table(*columns: str) -> Table:
    table = Table(*columns)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _add(table: Table, *cells: str, status: str) -> None:
    table.add_row(*map(escape, (*cells, status)), style=_STYLES.get(status))
