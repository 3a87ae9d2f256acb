"""What a page says of one metric's total: its value, how it is known, where it goes, and what is expected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from impact_reports import charts
from impact_reports.charts import Aim, Bar, Forecast, LineChart, Mark, Point
from impact_schemas import wording
from impact_schemas.wording import Unit, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from impact_reports.queries import Row, Rows

# Of the windows that have a value the first of these is shown: what is now, before what has been.
USUAL_WINDOWS = ("28d", "90d", "7d", "365d", "24h", "all", "1h", "5m")
SPARK_DAYS = 90
SHOWN_VALUES = ("ok", "stale")


@dataclass(frozen=True, slots=True)
class Figure:
    """A value as people read it and exactly; `text` says why where there is none."""

    text: str
    exact: str
    status: str
    status_words: str
    n: int | None
    parts: tuple[str, str, str] = ("", "", "")  # the number with what stands before and after it

    @property
    def stands_on(self) -> str:
        """'n 6,720', where that says more than the value does: a count is its own n."""
        return "" if self.n is None or self.exact == str(self.n) else f"n {self.n:,}"

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return bool(self.exact)


@dataclass(frozen=True, slots=True)
class TargetSays:
    """One target in words; `sentence` says where it goes at this pace."""

    window: str
    segment: str
    segment_words: str
    status: str
    status_words: str
    sentence: str
    progress: float | None
    progress_words: str
    due: date | datetime


@dataclass(frozen=True, slots=True)
class Series:
    """The points of a chart and the twin of it in a table; `marks`: day and title of each numbered mark."""

    chart: Markup
    says: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    has_target: bool = False
    is_line: bool = False
    marks: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One metric on a page."""

    product: str
    metric: str
    title: str
    description: str
    role: str
    level: str
    direction_words: str
    unit: Unit
    figure: Figure
    window: str
    window_words: str
    evidence: str
    evidence_words: str
    method: str | None
    source: str | None
    owner: str | None
    reviewed: str | None
    sdg: Sequence[str]
    iris: Sequence[str]
    targets: Sequence[TargetSays]
    interval: str
    spark: Markup

    @property
    def target(self) -> TargetSays | None:
        """The target of the total, if there is one."""
        return next((one for one in self.targets if one.segment == "{}"), None)


def cards(rows: Rows) -> list[Card]:
    """Of every metric, in the order of the catalog's names."""
    units = units_of(rows["metrics"])
    return [_card(row, units[row["product"], row["metric"]], rows) for row in rows["metrics"]]


def of_metric(rows: Iterable[Row], metric: Row) -> list[Row]:
    """Those rows that are about `metric` of its product."""
    return [row for row in rows if row["metric"] == metric["metric"] and row["product"] == metric["product"]]


def figure(row: Row | None, unit: Unit) -> Figure:
    """Of a row with value, n and status; None is no data."""
    if row is None:
        return Figure("no data", "", "no_data", wording.STATUSES["no_data"], None)
    status, value = row["status"], row["value"]
    words = wording.said(wording.STATUSES, status)
    n = None if row["n"] is None else int(row["n"])
    if value is None or status not in SHOWN_VALUES:
        return Figure("hidden" if status == "suppressed" else "no data", "", status, words, n)
    return Figure(unit.of(value), wording.exact(value), status, words, n, unit.parts(value))


def main_window(metric: Row, values: Iterable[Row], targets: Iterable[Row]) -> str:
    """The window that a page shows first: that of the target; else the usual one that has a value."""
    windows = json.loads(metric["definition"])["windows"]
    aimed_at = [row["time_window"] for row in targets if row["segment"] == "{}"]
    if aimed_at:
        return str(aimed_at[0])
    known = {row["time_window"] for row in values if row["status"] in SHOWN_VALUES and row["n"]}
    ordered = [name for name in USUAL_WINDOWS if name in windows]
    return next((name for name in ordered if name in known), ordered[0] if ordered else windows[0])


def main_windows(rows: Rows) -> dict[tuple[str, str], str]:
    """The window that a page shows first, of each metric."""
    return {
        (metric["product"], metric["metric"]): main_window(
            metric, of_metric(rows["rolling_metrics"], metric), of_metric(rows["target_progress"], metric)
        )
        for metric in rows["metrics"]
    }


def _card(metric: Row, unit: Unit, rows: Rows) -> Card:
    values = of_metric(rows["rolling_metrics"], metric)
    targets = of_metric(rows.get("target_progress", ()), metric)
    window = main_window(metric, values, targets)
    value = next((row for row in values if row["time_window"] == window), None)
    definition = json.loads(metric["definition"])
    reviewed = metric.get("reviewed")
    return Card(
        product=metric["product"],
        metric=metric["metric"],
        title=metric["title"],
        description=definition.get("description") or "",
        role=metric["role"],
        level=metric["level"] or "",
        direction_words="higher is better" if metric["direction"] == "up" else "lower is better",
        unit=unit,
        figure=figure(value, unit),
        window=window,
        window_words=wording.window(window),
        evidence=metric["evidence"],
        evidence_words=wording.said(wording.EVIDENCE, metric["evidence"]),
        method=metric["method"],
        source=metric["source"],
        owner=metric["owner"],
        reviewed=wording.day(reviewed) if reviewed else None,
        sdg=json.loads(metric["sdg"] or "[]"),
        iris=json.loads(metric["iris"] or "[]"),
        targets=targets_say(targets, unit),
        interval=_interval(rows, metric, window, unit),
        spark=_spark(metric, window, rows, unit),
    )


def _interval(rows: Rows, metric: Row, window: str, unit: Unit) -> str:
    for row in of_metric(rows.get("intervals", ()), metric):
        if row["time_window"] == window and row["ci_low"] is not None:
            return f"95 % interval {unit.span(row['ci_low'], row['ci_high'])}{_top_box(row, metric)}"
    return ""


def _top_box(row: Row, metric: Row) -> str:
    """Of a score: its instrument, and how many answers are at the top of it."""
    scale = json.loads(metric["definition"]).get("scale")
    if not scale:
        return ""
    text = f"; {scale['instrument']}, {scale['min']} to {scale['max']}"
    if row["top_box_share"] is None or scale.get("top_box") is None:
        return text
    return f"{text}, {wording.percent(row['top_box_share'])} at {scale['top_box']} or more"


# --- targets --------------------------------------------------------------------------------------------


def targets_say(rows: Iterable[Row], unit: Unit) -> list[TargetSays]:
    """Rows of target_progress in words, those of the total first."""
    return sorted((_target_says(row, unit) for row in rows), key=lambda one: one.segment != "{}")


def _target_says(row: Row, unit: Unit) -> TargetSays:
    progress = None if row["progress"] is None else float(row["progress"])
    return TargetSays(
        window=row["time_window"],
        segment=row["segment"],
        segment_words="" if row["segment"] == "{}" else wording.segment(row["segment"]),
        status=row["status"],
        status_words=wording.said(wording.TARGET_STATUSES, row["status"]),
        sentence=_target_sentence(row, unit),
        progress=progress,
        progress_words=_progress_words(progress),
        due=row["due"],
    )


def _progress_words(progress: float | None) -> str:
    if progress is None:
        return ""
    return "Further from it than at the start" if progress < 0 else f"{wording.percent(progress)} of the way"


def _target_sentence(row: Row, unit: Unit) -> str:
    due, target = wording.day(row["due"]), unit.of(row["target"])
    if row["status"] == "met":
        return f"The target of {target} by {due} is met."
    if row["value"] is None:
        return f"The target is {target} by {due}; there is no number yet to compare with it."
    if row["forecast"] is None:
        return f"The target is {target} by {due}; there is not enough history for a forecast yet."
    # a straight line may lead below nothing, where no count of things can be
    known = [row[name] for name in ("value", "target", "baseline") if row[name] is not None]
    forecast = "nothing" if row["forecast"] < 0 <= min(known) else unit.of(row["forecast"])
    pace = f"At this pace {forecast} by {due}; the target is {target}."
    if row["status"] == "at_risk":
        return f"{pace} It is still within what may happen."
    return pace


# --- what was before ------------------------------------------------------------------------------------


FEW_MONTHS = 3
TREND_DAYS = 400  # that metric_trends keeps at most


def trend_points(metric: Row, window: str, rows: Rows) -> list[Point]:
    """The window's value at the end of each day, as known now; only days on which the window was full."""
    points = [
        Point(_moment(row["at"]), None if row["value"] is None else float(row["value"]))
        for row in of_metric(rows.get("metric_trends", ()), metric)
        if row["time_window"] == window
    ]
    # where there are fewer days than are kept, the first ones may be those of the first events
    return points if len(points) >= TREND_DAYS else points[window_days(window) - 1 :]


def window_days(window: str) -> int:
    """How many days it covers; 1 if it is shorter, or has no end."""
    return int(window[:-1]) if window.endswith("d") else 1


def _spark(metric: Row, window: str, rows: Rows, unit: Unit) -> Markup:
    points = trend_points(metric, window, rows)[-SPARK_DAYS:]
    if sum(point.value is not None for point in points) < 2:
        points = _months(metric, rows)
    known = [point for point in points if point.value is not None]
    if len(known) < 2 or known[0].value is None or known[-1].value is None:
        return Markup()
    says = (
        f"{metric['title']}: from {unit.of(known[0].value)} on {wording.day(known[0].at)}"
        f" to {unit.of(known[-1].value)} on {wording.day(known[-1].at)}"
    )
    return charts.sparkline(says, [point.value for point in points])


def _months(metric: Row, rows: Rows) -> list[Point]:
    """Those that are over: a running month would look like a fall."""
    return [
        Point(_moment(row["starts_at"]), None if row["value"] is None else float(row["value"]))
        for row in of_metric(rows.get("months", ()), metric)
        if row["closed"]
    ]


def trend(metric: Row, window: str, rows: Rows, unit: Unit) -> Series | None:
    """The line with its target, forecast and what happened; None where nothing is known of the past days."""
    points = trend_points(metric, window, rows)
    known = [point for point in points if point.value is not None]
    if len(known) < 2:
        return None
    target = next(
        (
            row
            for row in of_metric(rows.get("target_progress", ()), metric)
            if row["time_window"] == window and row["segment"] == "{}"
        ),
        None,
    )
    chart = LineChart(
        says=_trend_says(metric, window, known, target, unit),
        points=points,
        shown=unit.tick,
        path=[] if target is None else _path(metric, target),
        target=None if target is None else _aim(target, unit),
        forecast=None if target is None else _forecast(target),
        marks=_marks(metric, rows, _moment(points[0].at)),
    )
    table = [
        (wording.day(point.at), "" if point.value is None else wording.exact(point.value)) for point in points
    ]
    return Series(
        chart=charts.line(chart),
        says=chart.says,
        head=("day", metric["title"]),
        rows=table,
        has_target=bool(chart.path),
        is_line=True,
        marks=[(wording.day(mark.at), mark.label) for mark in chart.marks],
    )


def _marks(metric: Row, rows: Rows, since: datetime) -> list[Mark]:
    found = [
        Mark(_moment(row["at"]), f"{wording.sentence(row['kind'])}: {row['title']}")
        for row in annotations_of(metric, rows)
    ]
    return [mark for mark in found if mark.at >= since]


def _aim(target: Row, unit: Unit) -> Aim:
    return Aim(_moment(target["due"]), float(target["target"]), f"target {unit.tick(target['target'])}")


def monthly(metric: Row, rows: Rows, unit: Unit) -> Series | None:
    """A bar a calendar month; None where there is none with a value."""
    months = of_metric(rows.get("months", ()), metric)
    begun = _begun(metric, rows)
    bars = [
        Bar(wording.month(row["starts_at"]), float(row["value"]), bool(row["closed"]) and row is not begun)
        for row in months
        if row["value"] is not None
    ]
    if not bars:
        return None
    words = f" in {unit.words()}" if unit.words() else ""
    says = f"{metric['title']}{words} by month, from {bars[0].label}"
    if begun is not None:
        says += ", in which the first events came,"
    says += f" to {bars[-1].label}"
    if not bars[-1].complete:
        says += ", which is not over"
    table = [(wording.month(row["starts_at"]), wording.exact(row["value"])) for row in months]
    return Series(charts.bars(says, bars, unit.tick), says, ("month", metric["title"]), table)


def _begun(metric: Row, rows: Rows) -> Row | None:
    """The first month, where events only began within it: less of it was counted than of the others."""
    months = of_metric(rows.get("months", ()), metric)
    days = [_moment(row["at"]) for row in of_metric(rows.get("metric_trends", ()), metric)]
    known = [row for row in months if row["value"] is not None]
    if not known or not days or len(known) < FEW_MONTHS:
        return None
    first = _moment(known[0]["starts_at"]) + timedelta(days=1)  # a trend's day is told at its end
    return known[0] if first < min(days) <= _moment(known[0]["ends_at"]) else None


def annotations_of(metric: Row, rows: Rows) -> list[Row]:
    """Those that name the metric, or none in particular, oldest first."""
    found = [
        row
        for row in rows.get("annotations", ())
        if metric["metric"] in (named := json.loads(row["metrics"] or "[]")) or not named
    ]
    return sorted(found, key=lambda row: _moment(row["at"]))


def _trend_says(metric: Row, window: str, known: Sequence[Point], target: Row | None, unit: Unit) -> str:
    first, last = known[0], known[-1]
    assert first.value is not None and last.value is not None  # noqa: S101, PT018 (the known ones)
    says = (
        f"{metric['title']}, {wording.window(window)}, at the end of each day: {unit.of(first.value)} on"
        f" {wording.day(first.at)}, {unit.of(last.value)} on {wording.day(last.at)}."
    )
    return says if target is None else f"{says} {_target_sentence(target, unit)}"


def _path(metric: Row, target: Row) -> list[Point]:
    """From the baseline over the points that the catalog lists to the target."""
    listed: list[dict[str, Any]] = []
    for one in json.loads(metric["definition"]).get("targets") or ():
        if str(one["due"])[:10] == str(target["due"])[:10] and one["window"] == target["time_window"]:
            listed = one.get("path") or []
    points = [Point(_moment(date.fromisoformat(one["at"])), float(one["value"])) for one in listed]
    if target.get("baseline") is not None and target.get("baseline_at") is not None:
        points.insert(0, Point(_moment(target["baseline_at"]), float(target["baseline"])))
    points.append(Point(_moment(target["due"]), float(target["target"])))
    return points if len(points) > 1 else []


def _forecast(target: Row) -> Forecast | None:
    values = [target.get(name) for name in ("forecast", "forecast_low", "forecast_high")]
    if any(value is None for value in values):
        return None
    middle, low, high = map(float, values)  # type: ignore[arg-type]  # none of them is None
    return Forecast(_moment(target["due"]), middle, low, high)


def _moment(at: date | datetime) -> datetime:
    return at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)
