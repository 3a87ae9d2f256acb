"""A product's page: its mission, what changed, for whom, at what price, and what is not known. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from impact_reports import charts, gaps, metric_cards, unknowns
from impact_reports.charts import Bet
from impact_schemas import wording
from impact_schemas.wording import Unit, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from markupsafe import Markup

    from impact_reports.gaps import Gap
    from impact_reports.metric_cards import Card, Series, TargetSays
    from impact_reports.queries import Row, Rows

QUADRANTS = {
    "both": "deserves a yes",
    "impact_only": "the mission, at a cost",
    "business_only": "business, not the mission",
    "neither": "evidence for a no",
}


@dataclass(frozen=True, slots=True)
class OpenWarning:
    """A violation in words, with what to do about it."""

    severity: str
    title: str
    sentence: str
    next_step: str
    answered_by: str
    metric: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many targets or warnings are in one state."""

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Beside:
    """A business metric beside an impact metric in the same window."""

    title: str
    metric: str
    value: str
    change: str
    per_business: str
    diverges: bool


@dataclass(frozen=True, slots=True)
class Pairs:
    """An impact metric and the business metrics beside it; `standing`: which way it changed."""

    title: str
    metric: str
    window_words: str
    value: str
    change: str
    standing: str
    business: Sequence[Beside]


@dataclass(frozen=True, slots=True)
class BetSays:
    """One bet and what became of it."""

    number: int | None  # its dot's
    title: str
    need: str
    hypothesis: str
    launched: str
    cost: str
    status: str
    status_words: str
    quadrant: str
    results: Sequence[str]


@dataclass(frozen=True, slots=True)
class Event:
    """Something of the time line."""

    day: str
    kind: str
    title: str
    url: str | None
    metrics: Sequence[str]


@dataclass(frozen=True, slots=True)
class Risk:
    """A risk of the register."""

    statement: str
    who: str
    guardrail: str
    metric: str | None
    owner: str
    review: str
    overdue: bool


@dataclass(frozen=True, slots=True)
class Need:
    """Whose need it is and how many they are."""

    statement: str
    people: str
    source: str | None


@dataclass(frozen=True, slots=True)
class MissionPage:
    """All that the page says."""

    product: str
    title: str
    statement: str
    beneficiaries: str
    as_of: datetime | None
    north_star: Card | None
    north_star_chart: Series | None
    tally: Sequence[Tally]
    warnings: Sequence[OpenWarning]
    more_warnings: Sequence[OpenWarning]
    impact: Sequence[Card]
    guardrails: Sequence[Card]
    business: Sequence[Card]
    pairs: Sequence[Pairs]
    gaps: Sequence[Gap]
    needs: Sequence[Need]
    bets: Sequence[BetSays]
    bets_chart: Markup
    events: Sequence[Event]
    risks: Sequence[Risk]
    unknown: Sequence[unknowns.Unknown]
    ledger: str


def page(rows: Rows) -> MissionPage:
    """The page of the product that `rows` are of; there is exactly one."""
    product = rows["products"][0]
    found = metric_cards.cards(rows)
    units = {name: unit for (_, name), unit in units_of(rows["metrics"]).items()}
    titles = {row["metric"]: row["title"] for row in rows["metrics"]}
    star = next((card for card in found if card.metric == product["north_star"]), None)
    bets, chart = _bets(rows, units, titles)
    still_open = sorted((row for row in rows["violations"] if row["until"] is None), key=_urgency)
    warnings = [_warning(row, units, titles) for row in still_open]
    shown = max(WARNINGS_SHOWN, sum(one.severity == "critical" for one in warnings))
    return MissionPage(
        product=product["product"],
        title=product["title"],
        statement=product["statement"] or product["title"],
        beneficiaries=product["beneficiaries"] or "",
        as_of=as_of(rows),
        north_star=star,
        north_star_chart=None if star is None else _star_chart(star, rows),
        tally=tally([target for card in found for target in card.targets], rows["violations"]),
        warnings=warnings[:shown],
        more_warnings=warnings[shown:],
        impact=_of_role("impact", found, star),
        guardrails=_of_role("guardrail", found, star),
        business=_of_role("business", found, star),
        pairs=_pairs(rows, units, titles),
        gaps=gaps.of_metrics(rows),
        needs=[_need(row) for row in rows["needs"]],
        bets=bets,
        bets_chart=chart,
        events=_events(rows["annotations"], titles),
        risks=[_risk(row, titles) for row in rows["risks"]],
        unknown=unknowns.of_product(rows),
        ledger=_ledger(rows["ledger"]),
    )


def as_of(rows: Rows) -> datetime | None:
    """When the numbers are right; None before the first tick."""
    return max((row["as_of"] for row in rows["rolling_metrics"]), default=None)


_IN_ORDER = ("off_track", "at_risk", "on_track", "met", "no_data")


def tally(targets: Iterable[TargetSays], violations: Iterable[Row]) -> list[Tally]:
    """How many warnings are open, and how many targets go which way; what is bad first."""
    targets, still_open = list(targets), [row for row in violations if row["until"] is None]
    found = []
    for severity, noun in (("critical", "critical warning"), ("warning", "warning")):
        amount = sum(row["severity"] == severity for row in still_open)
        if amount:
            found.append(Tally(severity, wording.count(amount, noun)))
    for code in _IN_ORDER:
        amount = sum(target.status == code for target in targets)
        if amount:
            words = wording.said(wording.TARGET_STATUSES, code)
            found.append(Tally(code, f"{wording.count(amount, 'target')} {words}"))
    return found


WARNINGS_SHOWN = 4  # and all critical ones; the others on demand


def _urgency(row: Row) -> tuple[bool, bool]:
    """Critical ones first, and of these what no decision has answered."""
    return (row["severity"] != "critical", bool(row["answered_by"]))


def _of_role(role: str, cards: Iterable[Card], star: Card | None) -> list[Card]:
    return [card for card in cards if card.role == role and card is not star]


def _star_chart(star: Card, rows: Rows) -> Series | None:
    metric = next(row for row in rows["metrics"] if row["metric"] == star.metric)
    return metric_cards.trend(metric, star.window, rows, star.unit) or metric_cards.monthly(
        metric, rows, star.unit
    )


# --- warnings -------------------------------------------------------------------------------------------

_NEXT_STEPS = {
    "guardrail": "Find out what changed before then; stop or mend it, and write the decision down.",
    "divergence": "Look at what was launched since then, and ask whom it serves.",
    "consistency": "Look at the events of both numbers with impact explain before you use either.",
    "left_behind": "Talk with the people of this group before the next bet; the total hides them.",
}
_KINDS = {
    "guardrail": "A guardrail is crossed",
    "divergence": "Business and mission drift apart",
    "consistency": "Numbers contradict each other",
    "left_behind": "A group is left behind",
}


def _warning(row: Row, units: dict[str, Unit], titles: dict[str, str]) -> OpenWarning:
    unit = units.get(row["metric"], Unit("1"))
    title = titles.get(row["metric"], row["metric"] or "")
    who = "" if row["segment"] in (None, "{}") else f" ({wording.segment(row['segment'])})"
    since = f", since {wording.day(row['since'])}" if row["since"] else ""
    if row["kind"] == "guardrail" and row["observed"] is not None and row["expected"] is not None:
        sentence = (
            f"{title}{who} is {unit.of(row['observed'])}; the limit is {unit.of(row['expected'])}{since}."
        )
    else:
        sentence = f"{row['detail'] or title}{since}".rstrip(".") + "."
    return OpenWarning(
        severity=row["severity"],
        title=wording.said(_KINDS, row["kind"]),
        sentence=sentence,
        next_step=_NEXT_STEPS.get(row["kind"], ""),
        answered_by=row["answered_by"] or "",
        metric=row["metric"] if row["metric"] in titles else None,
    )


# --- two kinds of value -----------------------------------------------------------------------------------


MOST_APART = 3  # business metrics beside one impact metric; the view value_pairs has all of them
LEAST_PER = 0.1
LEAST_CHANGE = 0.0005  # is written as nothing
ADDS_UP = ("count", "sum", "unique", "latest")  # what can be had so much of for each unit of business


def _pairs(rows: Rows, units: dict[str, Unit], titles: dict[str, str]) -> list[Pairs]:
    """Each impact metric in the window that it is shown in first; what diverges comes first."""
    windows = {name: window for (_, name), window in metric_cards.main_windows(rows).items()}
    metrics = {row["metric"]: row for row in rows["metrics"]}
    found: dict[str, list[Row]] = {}
    for row in sorted(rows["value_pairs"], key=lambda row: _first(row, units)):
        if row["time_window"] == windows[row["impact_metric"]]:
            found.setdefault(row["impact_metric"], []).append(row)
    return [
        Pairs(
            title=titles[metric],
            metric=metric,
            window_words=wording.window(windows[metric]),
            value=units[metric].or_unknown(beside[0]["impact_value"]),
            change=_relative(beside[0]["impact_change"]),
            standing=_standing(beside[0]["impact_change"], metrics[metric]["direction"]),
            business=[
                _beside(row, units, titles, adds_up=_add_up(metrics[metric], metrics[row["business_metric"]]))
                for row in _telling(beside)
            ],
        )
        for metric, beside in found.items()
    ]


def _telling(beside: Sequence[Row]) -> Sequence[Row]:
    """All from which it drifts apart; else the one that comes first."""
    return [row for row in beside if row["diverges"]][:MOST_APART] or beside[:1]


def _standing(change: Any, direction: str) -> str:
    if change is None or abs(change) < LEAST_CHANGE:
        return ""
    return "better" if (change > 0) == (direction == "up") else "worse"


def _add_up(*metrics: Row) -> bool:
    return all(metric["aggregate"] in ADDS_UP for metric in metrics)


def _first(row: Row, units: dict[str, Unit]) -> tuple[bool, bool]:
    """What diverges before what does not, money before other things."""
    return (not row["diverges"], not units[row["business_metric"]].is_money)


def _beside(row: Row, units: dict[str, Unit], titles: dict[str, str], *, adds_up: bool) -> Beside:
    business = units[row["business_metric"]]
    return Beside(
        title=titles[row["business_metric"]],
        metric=row["business_metric"],
        value=business.or_unknown(row["business_value"]),
        change=_relative(row["business_change"]),
        per_business=_per(row, units) if adds_up else "",
        diverges=bool(row["diverges"]),
    )


def _per(row: Row, units: dict[str, Unit]) -> str:
    """So much impact for one of business; where that is little, so much business for one of impact."""
    impact, business, ratio = (
        *(units[row["impact_metric"]], units[row["business_metric"]]),
        row["impact_per_business"],
    )
    if not ratio:
        return ""
    if abs(ratio) >= LEAST_PER:
        return f"{impact.of(ratio)} for each {business.words(one=True) or 'one'}"
    return f"{business.of(1 / ratio)} for each {impact.words(one=True) or 'one'}"


def _relative(change: Any) -> str:
    return "not known" if change is None else wording.relative(change)


# --- the loop: needs, bets, decisions, risks --------------------------------------------------------------


def _need(row: Row) -> Need:
    people = "" if row["people"] is None else f"{wording.number(row['people'])} people"
    return Need(row["statement"], people, row["source"])


def _bets(rows: Rows, units: dict[str, Unit], titles: dict[str, str]) -> tuple[list[BetSays], Markup]:
    needs = {row["need"]: row["statement"] for row in rows["needs"]}
    results: dict[str, list[Row]] = {}
    for row in rows["bet_results"]:
        results.setdefault(row["bet"], []).append(row)
    dots, says = [], []
    for row in rows["bets"]:
        of_bet = results.get(row["bet"], [])
        dot = _dot(row["title"] or row["bet"], of_bet)
        if dot is not None:
            dots.append(dot)
        says.append(_bet(row, of_bet, needs, units, titles, len(dots) if dot else None))
    chart = charts.two_by_two(f"What {len(dots)} bets changed: impact to the right, business upwards", dots)
    return says, chart


def _dot(title: str, results: Sequence[Row]) -> Bet | None:
    """Impact as the share of what was hoped for: 1 is all of it, less than 0 is the wrong way."""
    for row in results:
        if row["measured"] is None or not row["expected"] or row["business_change"] is None:
            continue
        impact = float(row["measured"]) / float(row["expected"])
        return Bet(title, max(-3.0, min(3.0, impact)), float(row["business_change"]), _is_certain(row))
    return None


def _is_certain(result: Row) -> bool:
    """Whether the interval leaves no doubt about the direction."""
    return result["ci_low"] is not None and (result["ci_low"] > 0) == (result["ci_high"] > 0)


def _quadrant(results: Iterable[Row]) -> str:
    for row in results:
        if row["quadrant"]:
            return QUADRANTS[row["quadrant"]] if _is_certain(row) else "impact within chance"
    return ""


def _bet(
    row: Row,
    results: Sequence[Row],
    needs: dict[str, str],
    units: dict[str, Unit],
    titles: dict[str, str],
    number: int | None,
) -> BetSays:
    statuses = [result["status"] for result in results] or ["too_early"]
    status = next(
        (one for one in ("failed", "too_early", "holding", "proven") if one in statuses), statuses[0]
    )
    cost = "" if row["cost"] is None else Unit(row["cost_unit"] or "1").of(row["cost"])
    return BetSays(
        number=number,
        title=row["title"] or row["bet"],
        need=needs.get(row["need"], ""),
        hypothesis=row["hypothesis"] or "",
        launched=wording.day(row["launched"]) if row["launched"] else "not launched",
        cost=cost,
        status=status,
        status_words=wording.said(wording.BET_STATUSES, status),
        quadrant=_quadrant(results),
        results=[_result(result, units, titles) for result in results],
    )


def _result(row: Row, units: dict[str, Unit], titles: dict[str, str]) -> str:
    unit = units.get(row["metric"], Unit("1"))
    who = "" if (row["segment"] or "{}") == "{}" else f" ({wording.segment(row['segment'])})"
    name = f"{titles.get(row['metric'], row['metric'])}{who}"
    hoped = f"hoped for {unit.change(row['expected'])}"
    if row["measured"] is None:
        return f"{name}: nothing measured yet, {hoped}."
    interval = ""
    if row["ci_low"] is not None and row["ci_high"] is not None:
        interval = f" (95 % interval {unit.change_span(row['ci_low'], row['ci_high'])})"
    method = f", {row['method']}" if row["method"] else ""
    business = ""
    if row["business_change"] is not None and row["business_metric"]:
        title = titles.get(row["business_metric"], row["business_metric"])
        business = f" {title}: {wording.relative(row['business_change'])}."
    return f"{name}: {unit.change(row['measured'])}{interval}, {hoped}{method}.{business}"


def _events(rows: Iterable[Row], titles: dict[str, str]) -> list[Event]:
    return [
        Event(
            day=wording.day(row["at"]),
            kind=row["kind"],
            title=row["title"],
            url=row["url"] if str(row["url"] or "").startswith(("https://", "http://")) else None,
            metrics=[titles.get(name, name) for name in json.loads(row["metrics"] or "[]")],
        )
        for row in sorted(rows, key=lambda row: row["at"], reverse=True)
    ]


def _risk(row: Row, titles: dict[str, str]) -> Risk:
    due = wording.day(row["due"]) if row["due"] else "no review is planned"
    return Risk(
        statement=row["statement"],
        who=row["who"] or "",
        guardrail=titles.get(row["metric"], "") if row["metric"] else "",
        metric=row["metric"] if row["metric"] in titles else None,
        owner=row["owner"] or "",
        review=f"overdue since {due}" if row["overdue"] else due,
        overdue=bool(row["overdue"]),
    )


def _ledger(rows: Sequence[Row]) -> str:
    if not rows:
        return "No event has come yet."
    row = {name: int(value) for name, value in rows[0].items() if name != "product"}
    return (
        f"{wording.count(row['received'], 'event')} received: {row['counted']:,} counted,"
        f" {row['duplicates']:,} sent twice, {row['quarantined']:,} in quarantine."
    )
