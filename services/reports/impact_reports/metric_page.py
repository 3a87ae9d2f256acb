"""A metric's page: its values, whom they are of, how they came to be, and what has changed since. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from impact_reports import gaps, metric_cards, mission_page
from impact_schemas import definitions, wording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from impact_reports.gaps import Gap
    from impact_reports.metric_cards import Card, Figure, Series, TargetSays
    from impact_reports.queries import Row, Rows


SEGMENTS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class WindowRow:
    """The total in one window."""

    window: str
    words: str
    figure: Figure
    since: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment in the window that is shown."""

    segment: str
    words: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """The total of one calendar period."""

    period: str
    words: str
    figure: Figure
    closed: bool


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A day's value that changed later."""

    day: str
    segment: str
    reported: str
    before: str
    after: str
    reason: str
    caused_by: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a list of names and what they say."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ArmRow:
    """An arm of the experiment beside the control, in one group."""

    group: str
    arm: str
    value: str
    control: str
    control_value: str
    difference: str
    interval: str
    n: str


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """What came through one feature, beside all the others."""

    feature: str
    value: str
    share: str
    change: str
    difference: str
    interval: str
    n: int


@dataclass(frozen=True, slots=True)
class Named:
    """Another metric, to go to."""

    metric: str
    title: str


@dataclass(frozen=True, slots=True)
class MetricPage:
    """All that the page says."""

    product: str
    product_title: str
    metric: str
    card: Card
    version: int
    as_of: datetime | None
    windows: Sequence[WindowRow]
    chosen: str
    trend: Series | None
    months: Series | None
    targets: Sequence[TargetSays]
    segments: Sequence[SegmentRow]
    next_segment: str | None
    segments_in_all: int
    hidden: int
    gaps: Sequence[Gap]
    arms: Sequence[ArmRow]
    arms_say: str
    features: Sequence[FeatureRow]
    comes_of: Sequence[Named]
    leads_to: Sequence[Named]
    comparisons: Sequence[Fact]
    periods: Sequence[PeriodRow]
    revisions: Sequence[RevisionRow]
    why: Sequence[Fact]
    definition: str
    sql: Sequence[str]


def window_of(rows: Rows, metric: Row, asked: str | None) -> str:
    """The window asked for, or the one that pages show first. Raises LookupError for one that it has not."""
    if asked is None:
        return metric_cards.main_window(metric, rows["rolling_metrics"], rows["target_progress"])
    if asked not in json.loads(metric["definition"])["windows"]:
        raise LookupError(f"{metric['metric']} has no window {asked!r}")
    return asked


def page(rows: Rows, metric: Row, window: str) -> MetricPage:
    """Of one of the metrics in `rows`; `segments` has one more than is shown if there are more."""
    card = next(card for card in metric_cards.cards(rows) if card.metric == metric["metric"])
    segments = [_segment(row, card) for row in rows["segments"]]
    return MetricPage(
        product=metric["product"],
        product_title=rows["products"][0]["title"],
        metric=metric["metric"],
        card=card,
        version=metric["version"],
        as_of=mission_page.as_of(rows),
        windows=_windows(metric, card, rows),
        chosen=window,
        trend=metric_cards.trend(metric, window, rows, card.unit),
        months=metric_cards.monthly(metric, rows, card.unit),
        targets=card.targets,
        segments=segments[:SEGMENTS_A_PAGE],
        next_segment=segments[SEGMENTS_A_PAGE - 1].segment if len(segments) > SEGMENTS_A_PAGE else None,
        # the total is no group
        segments_in_all=max(0, sum(_cells(rows, window).values()) - 1),
        hidden=_cells(rows, window).get("suppressed", 0),
        gaps=gaps.of_metrics(rows),
        arms=[_arm(row, card) for row in _known_arms(rows["contributions"], window)],
        arms_say=_arms_say(_known_arms(rows["contributions"], window), card),
        features=_features(rows["feature_results"], window, card),
        comes_of=[_named(row) for row in rows["metrics"] if metric["metric"] in _leads_to(row)],
        leads_to=[_named(row) for row in rows["metrics"] if row["metric"] in _leads_to(metric)],
        comparisons=_comparisons(rows, card, window),
        periods=[_period(row, card) for row in rows["periods"]],
        revisions=[_revision(row, card) for row in rows["revisions"]],
        why=_why(metric, window, rows),
        definition=definitions.definition_text(metric),
        sql=_sql(metric, window),
    )


def _windows(metric: Row, card: Card, rows: Rows) -> list[WindowRow]:
    by_name = {row["time_window"]: row for row in rows["rolling_metrics"]}
    found = []
    for name in json.loads(metric["definition"])["windows"]:
        row = by_name.get(name)
        since = "" if row is None or row["window_start"] is None else _when(row["window_start"])
        found.append(WindowRow(name, wording.window(name), metric_cards.figure(row, card.unit), since))
    return found


def _when(moment: datetime) -> str:
    """The day alone, where a day begins."""
    return wording.day(moment) if moment.hour == moment.minute == 0 else wording.minute(moment)


def _cells(rows: Rows, window: str) -> dict[str, int]:
    """How many segments there are by status, the total among them."""
    return {row["status"]: int(row["rows"]) for row in rows["statuses"] if row["time_window"] == window}


def _segment(row: Row, card: Card) -> SegmentRow:
    return SegmentRow(row["segment"], wording.segment(row["segment"]), metric_cards.figure(row, card.unit))


def _period(row: Row, card: Card) -> PeriodRow:
    begins = row["starts_at"]
    words = {
        "month": wording.month(begins),
        "quarter": f"Q{(begins.month + 2) // 3} {begins.year}",
        "year": str(begins.year),
    }[row["period"]]
    return PeriodRow(row["period"], words, metric_cards.figure(row, card.unit), bool(row["closed"]))


def _revision(row: Row, card: Card) -> RevisionRow:
    causes = json.loads(row["caused_by"]) if str(row["caused_by"] or "").startswith("[") else row["caused_by"]
    return RevisionRow(
        day=wording.day(row["bucket_start"]),
        segment=wording.segment(row["segment"]),
        reported=wording.minute(row["reported_at"]),
        before="" if row["old_value"] is None else card.unit.of(row["old_value"]),
        after="" if row["new_value"] is None else card.unit.of(row["new_value"]),
        reason=row["reason"],
        caused_by=", ".join(map(str, causes)) if isinstance(causes, list) else str(causes or ""),
    )


def _known_arms(rows: Sequence[Row], window: str) -> list[Row]:
    """Those whose difference is known, of the total first."""
    found = [row for row in rows if row["time_window"] == window and row["difference"] is not None]
    return sorted(found, key=lambda row: (row["segment"] != "{}", row["segment"], str(row["arm"])))


def _arm(row: Row, card: Card) -> ArmRow:
    low, high = row["ci_low"], row["ci_high"]
    return ArmRow(
        group=wording.segment(row["segment"]),
        arm=str(row["arm"]),
        value=card.unit.of(row["value"]),
        control=str(row["control"]),
        control_value=card.unit.of(row["control_value"]),
        difference=card.unit.bare_change(row["difference"]),
        interval="" if low is None or high is None else card.unit.bare_span(low, high),
        n=f"{int(row['n']):,} and {int(row['n_control']):,}",
    )


def _arms_say(rows: Sequence[Row], card: Card) -> str:
    """What is the same in every row: the control, the unit of differences, the method of intervals."""
    controls = " or ".join(sorted({str(row["control"]) for row in rows}))
    unit = card.unit.change_words()
    methods = " or ".join(sorted({row["method"] for row in rows if row["method"]}))
    said = [f"Beside {controls!r}, the control"]
    said += [f"differences in {unit}"] if unit else []
    said += [f"intervals: {methods}"] if methods else []
    return "; ".join(said) + "."


def _features(rows: Sequence[Row], window: str, card: Card) -> list[FeatureRow]:
    """Those whose value is known, the largest share first."""
    found = [row for row in rows if row["time_window"] == window and row["value"] is not None]
    return [_feature(row, card) for row in sorted(found, key=lambda row: -(row["share"] or 0))]


def _feature(row: Row, card: Card) -> FeatureRow:
    low, high = row["ci_low"], row["ci_high"]
    return FeatureRow(
        feature=row["feature"],
        value=card.unit.of(row["value"]),
        share="" if row["share"] is None else wording.percent(row["share"]),
        change="" if row["change"] is None else wording.relative(row["change"]),
        difference="" if row["difference"] is None else card.unit.bare_change(row["difference"]),
        interval="" if low is None or high is None else card.unit.bare_span(low, high),
        n=int(row["n"]),
    )


def _leads_to(metric: Row) -> list[str]:
    return list(json.loads(metric["leads_to"] or "[]"))


def _named(metric: Row) -> Named:
    return Named(metric["metric"], metric["title"])


def _comparisons(rows: Rows, card: Card, window: str) -> list[Fact]:
    """Net of what would have happened anyway, benchmarks, its own best, and shares of the population."""
    of_window = {
        name: [row for row in rows[name] if row["time_window"] == window]
        for name in ("net_values", "metric_records", "population_coverage")
    }
    return [
        *(
            Fact("Net", _net(row, card))
            for row in of_window["net_values"]
            if row["segment"] == "{}" and row["net"] is not None
        ),
        *(Fact(row["label"], _benchmark(row, card)) for row in rows["benchmarks"]),
        *(
            Fact("Best so far", f"{card.unit.of(row['best'])} on {wording.day(row['best_at'])}")
            for row in of_window["metric_records"]
            if row["best"] is not None
        ),
        *(
            Fact(f"Reach: {wording.segment(row['segment'])}", _reach(row, card))
            for row in of_window["population_coverage"]
            if row["share"] is not None
        ),
    ]


def _benchmark(row: Row, card: Card) -> str:
    ratio = "" if row["ratio"] is None else f"; this is {wording.number(row['ratio'])} times that"
    source = f" ({row['source']}, {row['year']})" if row["source"] else ""
    return f"{card.unit.of(row['benchmark'])}{source}{ratio}"


def _reach(row: Row, card: Card) -> str:
    population = f"{wording.number(row['population'])} people"
    return f"{card.unit.of(row['value'])} of {population}: {wording.percent(row['share'])}"


def _net(row: Row, card: Card) -> str:
    parts = [
        f"{name.replace('_', ' ')} {wording.percent(row[name])}"
        for name in ("deadweight", "attribution", "displacement", "drop_off")
        if row[name] is not None
    ]
    source = f"; {row['source']}" if row["source"] else ""
    return f"{card.unit.of(row['net'])} of {card.unit.of(row['gross'])} ({', '.join(parts)}{source})"


def _why(metric: Row, window: str, rows: Rows) -> list[Fact]:
    """Why the number is what it is, as far as the views know it."""
    value = next((row for row in rows["rolling_metrics"] if row["time_window"] == window), None)
    definition = json.loads(metric["definition"])
    facts = [
        Fact("Rule", definitions.rule(definition)),
        Fact("Version", f"{metric['version']}: two definitions never mix in one number"),
    ]
    if metric["block"]:
        facts.append(
            Fact("Published", f"by whole {metric['block']}s, so that nobody can be found by subtraction")
        )
    if value is not None:
        counted = "not shown" if value["n"] is None else wording.count(int(value["n"]), "event")
        facts.append(Fact("Stands on", counted))
        facts.append(Fact("Right as of", wording.minute(value["as_of"])))
    hidden = _cells(rows, window).get("suppressed", 0)
    facts.append(
        Fact("Hidden", f"{wording.count(hidden, 'cell')} of this window, because they are too small")
    )
    types = set(definition.get("event") or ())
    aside = sum(int(row["rows"]) for row in rows["quarantine"] if row["event_type"] in types or not types)
    facts.append(Fact("In quarantine", f"{wording.count(aside, 'event')} of its types, not counted"))
    facts.extend(
        Fact(
            f"Log {row['topic']}, partition {row['partition']}",
            f"counted up to offset {int(row['next_offset']):,}, at {wording.minute(row['updated_at'])}",
        )
        for row in rows["log_positions"]
    )
    return facts


def _sql(metric: Row, window: str) -> list[str]:
    cell = f"product = '{metric['product']}' AND metric = '{metric['metric']}'"
    return [
        f"SELECT value, n, status, as_of FROM rolling_metrics\n WHERE {cell} AND time_window = '{window}'"  # noqa: S608 (shown, never run; names are slugs)
        " AND segment = '{}';",
        f"SELECT bucket_start, count, value FROM metric_buckets\n WHERE {cell} AND resolution = '1d'"  # noqa: S608 (the same)
        " AND segment = '{}'\n ORDER BY bucket_start;",
    ]
