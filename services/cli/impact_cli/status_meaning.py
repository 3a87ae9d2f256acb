"""What the numbers mean, as `impact status` tells it: targets, warnings, groups, pairs, bets, risks."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import text

from impact_schemas import wording
from impact_schemas.wording import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

Value = Decimal | float | None

_ORDER = ("28d", "90d", "7d", "365d", "all", "24h", "1h", "5m")  # of several windows the first is told
_LEAST_CHANGE = 0.01  # less is in --json, and in the view
STYLES = {
    **dict.fromkeys(("met", "proven", "on_track", "holding"), "green"),
    **dict.fromkeys(("at_risk", "warning", "overdue"), "yellow"),
    **dict.fromkeys(("off_track", "failed", "critical", "behind", "apart"), "red"),
}


class Named(msgspec.Struct, frozen=True):
    """How a metric is called and its values are written; `percent`: as a share of 1."""

    title: str
    role: str
    unit: str
    percent: bool

    def as_unit(self) -> Unit:
        """Writes values."""
        return Unit(self.unit, self.percent)


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


def judged(meaning: Meaning, metrics: Mapping[str, Named]) -> Iterator[tuple[str, str]]:
    """A word and a sentence for each target, warning, group that is behind, and bet."""
    for target in meaning.targets:
        yield target.status, _target(target, metrics[target.metric].as_unit())
    for warned in meaning.warnings:
        unit = metrics[warned.metric].as_unit() if warned.metric in metrics else Unit("1")
        yield warned.severity, f"{warned.detail}, since {warned.since}.{_answer(warned, unit)}"
    for gap in meaning.gaps:
        yield "behind", _gap(gap, metrics[gap.metric].as_unit())
    for bet in meaning.bets:
        yield bet.status, _bet(bet, metrics)


def also(meaning: Meaning, metrics: Mapping[str, Named]) -> Iterator[tuple[str, str]]:
    """The same for impact beside business, and for reviews of risks that are overdue."""
    together: dict[tuple[str, str], list[str]] = {}
    for pair in meaning.pairs:
        if _is_told(pair.impact_change) and _is_told(pair.business_change):
            head = (
                f"{metrics[pair.impact_metric].title} {_share(pair.impact_change)} on {_before(pair.window)}"
            )
            business = f"{metrics[pair.business_metric].title} {_share(pair.business_change)}"
            together.setdefault(("apart" if pair.diverges else "together", head), []).append(business)
    for (word, head), others in together.items():
        yield word, f"{head}, while {', '.join(others)}"
    for risk in meaning.overdue_risks:
        when = f"was due on {risk.due}" if risk.due else "has never been done"
        yield "overdue", f"The review of a risk {when}: {risk.statement}"


def named(title: str, segment: str) -> str:
    """A name and its segment: 'No-show rate (language: es)'."""
    return title if segment == "{}" else f"{title} ({wording.segment(segment)})"


def _answer(warned: Warned, unit: Unit) -> str:
    if not warned.answered_by:
        return ""
    if warned.value_at_answer is None or warned.value_now is None:
        return f" Decided: {warned.answered_by}."
    then, now = unit.of(warned.value_at_answer), unit.of(warned.value_now)
    return f" Decided: {warned.answered_by}, {then} then, {now} now."


def _target(one: Target, unit: Unit) -> str:
    name, target = named(one.title, one.segment), unit.of(one.target or 0)
    if one.value is None:
        return f"{name}: no value yet; the target is {target} by {one.due}"
    text = f"{name}: {unit.of(one.value)}, target {target} by {one.due}"
    if one.forecast is None:
        return text
    if one.forecast_low is None or one.forecast_high is None:
        return f"{text}; {unit.of(one.forecast)} at this pace"
    sure = unit.bare_span(one.forecast_low, one.forecast_high)
    return f"{text}; {unit.of(one.forecast)} at this pace ({sure})"


def _gap(one: Gap, unit: Unit) -> str:
    sure = ""
    if one.ci_low is not None and one.ci_high is not None:
        sure = f"; gap {unit.bare_span(one.ci_low, one.ci_high)} (95 %)"
    return (
        f"{named(one.title, one.segment)}: {unit.or_unknown(one.value)} over {wording.window(one.window)},"
        f" {unit.or_unknown(one.reference_value)} for {wording.segment(one.reference_segment)}{sure}"
    )


def _bet(one: Bet, metrics: Mapping[str, Named]) -> str:
    unit, name = metrics[one.metric].as_unit(), named(metrics[one.metric].title, one.segment)
    expected = "nothing" if one.expected is None else unit.change(one.expected)
    if one.measured is None:
        return f"{one.title}: {name} not measured yet, {expected} expected by {one.by}"
    sure = ""
    if one.ci_low is not None and one.ci_high is not None:
        sure = f" (95 %: {unit.bare_span(one.ci_low, one.ci_high)})"
    text = f"{one.title}: {name} {unit.change(one.measured)}{sure}, {expected} expected by {one.by}"
    if one.business_metric is None or one.business_change is None:
        return text
    helps = f"; it helps {_HELPS[one.quadrant]}" if one.quadrant in _HELPS else ""
    return f"{text}; {metrics[one.business_metric].title} {_share(one.business_change)}{helps}"


def _is_told(change: Value) -> bool:
    return change is not None and abs(float(change)) >= _LEAST_CHANGE


def _share(change: Value) -> str:
    return "not known" if change is None else wording.relative(change)


def _before(window: str) -> str:
    return f"the {wording.window(window).removeprefix('the last ')} before"
