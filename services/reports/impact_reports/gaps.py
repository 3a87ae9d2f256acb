"""Groups of people beside the one that they are compared with. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from impact_reports import charts, metric_cards
from impact_reports.metric_cards import figure, of_metric
from impact_schemas import wording
from impact_schemas.wording import units_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from impact_reports.queries import Row, Rows
    from impact_schemas.wording import Unit


@dataclass(frozen=True, slots=True)
class Group:
    """One group beside the reference."""

    name: str
    value: str
    exact: str
    n: int | None
    gap: str
    gap_interval: str
    standing: str
    bar: Markup
    unknown: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """The groups of one dimension of one metric; none of them where no gap is known."""

    title: str
    metric: str
    dimension: str
    window_words: str
    reference: str
    reference_value: str
    sentence: str
    change_unit: str
    groups: Sequence[Group]


def of_metrics(rows: Rows) -> list[Gap]:
    """One for each metric and dimension with a reference group, in the metric's main window."""
    units = {name: unit for (_, name), unit in units_of(rows["metrics"]).items()}
    titles = {row["metric"]: row["title"] for row in rows["metrics"]}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows["equity_gaps"]:
        found.setdefault((row["metric"], row["dimension"]), []).append(row)
    says = []
    for (metric, dimension), all_windows in found.items():
        window = _one_window(metric, all_windows, rows)
        of_window = [row for row in all_windows if row["time_window"] == window]
        says.append(_gap(titles[metric], dimension, of_window, units[metric]))
    return says


def _one_window(metric: str, found: Sequence[Row], rows: Rows) -> str:
    windows = [row["time_window"] for row in found if row["value"] is not None]
    named = next(row for row in rows["metrics"] if row["metric"] == metric)
    usual = metric_cards.main_window(
        named, of_metric(rows["rolling_metrics"], named), of_metric(rows["target_progress"], named)
    )
    if usual in windows:
        return usual
    return str((windows or [row["time_window"] for row in found])[0])


def _gap(title: str, dimension: str, rows: Sequence[Row], unit: Unit) -> Gap:
    first = rows[0]
    reference = wording.segment_value(first["reference_segment"], dimension)
    values = [
        float(row[name]) for row in rows for name in ("value", "reference_value") if row[name] is not None
    ]
    greatest = max((abs(value) for value in values), default=0.0) or 1.0
    groups = [_group(row, dimension, unit, greatest) for row in rows]
    return Gap(
        title=title,
        metric=first["metric"],
        dimension=dimension.replace("_", " "),
        window_words=wording.window(first["time_window"]),
        reference=reference,
        reference_value=unit.or_unknown(first["reference_value"]),
        sentence=_widest(rows, dimension, reference, unit),
        change_unit=unit.change_words(),
        groups=groups if any(row["gap"] is not None for row in rows) else (),
    )


def _widest(rows: Sequence[Row], dimension: str, reference: str, unit: Unit) -> str:
    known = [row for row in rows if row["gap"] is not None and "null" not in row["segment"]]
    if not known:
        whose = reference if rows[0]["reference_value"] is None else "every other group"
        return f"No gap can be told yet: the value of {whose} is hidden, or there is none."
    row = max(known, key=lambda one: abs(float(one["gap"])))
    name = wording.segment_value(row["segment"], dimension)
    return f"The widest gap to {reference}: {name}, {unit.change(row['gap'])}."


def _group(row: Row, dimension: str, unit: Unit, greatest: float) -> Group:
    value, reference = row["value"], row["reference_value"]
    low, high = row["ci_low"], row["ci_high"]
    return Group(
        name=wording.segment_value(row["segment"], dimension),
        value=figure(row, unit).text if value is None else unit.of(value),
        exact=wording.exact(value),
        n=None if row["n"] is None else int(row["n"]),
        gap="" if row["gap"] is None else unit.bare_change(row["gap"]),
        gap_interval="" if low is None or high is None else unit.bare_span(low, high),
        standing=row["standing"] or "",
        bar=charts.share_bar(
            0.0 if value is None else abs(float(value)) / greatest,
            against=None if reference is None else abs(float(reference)) / greatest,
        ),
        unknown="null" in row["segment"],
    )
