"""Makes a mission board for each product from its catalog: dashboards/mission-<product>.json.

`python -m deploy.grafana.mission CATALOG.yaml ...` writes those of these catalogs, without arguments those of
the examples, which are committed; a test compares.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.catalogs import catalogs
from deploy.grafana.panels import FOLDER, course, query, rendered, rows, words
from impact_schemas import wording
from impact_schemas.catalog import family, family_by

if TYPE_CHECKING:
    from pathlib import Path

    from impact_schemas.catalog import Catalog, Metric

ROLES = {
    "impact": "Impact: what changes for people and the planet",
    "business": "Business: what keeps it going",
    "guardrail": "Guardrails: harms that must stay low",
}

VALUES = """\
SELECT m.role, m.title, r.time_window, r.value, m.unit, r.n, r.status, m.direction AS better,
  m.evidence, m.owner
FROM impact.rolling_metrics r JOIN impact.metrics m ON m.product = r.product AND m.metric = r.metric
WHERE r.product = '{product}' AND r.segment = '{{}}'
ORDER BY CASE m.role WHEN 'impact' THEN 1 WHEN 'business' THEN 2 ELSE 3 END, m.title, r.time_window"""
TARGETS = """\
SELECT metric, time_window, segment, status, value, target, due, progress, expected_now, forecast,
  forecast_low, forecast_high, unit
FROM impact.target_progress WHERE product = '{product}' ORDER BY due, metric, segment"""
WARNINGS = """\
SELECT kind, detail, segment, since, severity, answered_at FROM impact.violations
WHERE product = '{product}' AND until IS NULL ORDER BY since DESC"""
PAIRS = """\
SELECT impact_metric, business_metric, time_window, impact_per_business, impact_change, business_change,
  diverges, both_up
FROM impact.value_pairs WHERE product = '{product}' ORDER BY diverges DESC, impact_metric, business_metric"""
GAPS = """\
SELECT metric, time_window, segment, value, reference_segment, reference_value, gap, ci_low,
  ci_high, standing, n
FROM impact.equity_gaps WHERE product = '{product}' ORDER BY metric, time_window, segment"""
UNKNOWN = """\
SELECT metric, dimension, known, unknown, share_unknown FROM impact.coverage
WHERE product = '{product}' ORDER BY share_unknown DESC"""
BETS = """\
SELECT b.title, b.hypothesis, b.launched, r.metric, r.segment, r.expected, r.measured, r.ci_low, r.ci_high,
  r.status, r.quadrant
FROM impact.bets b LEFT JOIN impact.bet_results r ON r.product = b.product AND r.bet = b.bet
WHERE b.product = '{product}' ORDER BY b.launched"""
RISKS = """\
SELECT statement, who, metric, owner, reviewed, due AS next_review, overdue FROM impact.risks
WHERE product = '{product}' ORDER BY overdue DESC, due"""
MARKS = """\
SELECT at AS time, kind || ': ' || title AS text, kind AS tags FROM impact.annotations
WHERE product = '{product}' AND $__timeFilter(at)"""


def board(catalog: Catalog) -> Dashboard:
    """The whole page."""
    page = (
        Dashboard(f"Mission: {catalog.title}")
        .uid(f"impact-mission-{catalog.product.replace('_', '-')}"[:40])
        .tags(["impact", "mission"])
        .description(f"The mission of {catalog.title}: impact beside business, targets, groups, warnings.")
        .readonly()
        .refresh("30s")
        .time("now-28d", "now")
        .with_panel(words("Mission", _mission(catalog), width=8))
        .with_panel(
            _rows(
                catalog,
                "Warnings that are open",
                "Harms, drifts and contradictions, the newest first.",
                WARNINGS,
                16,
            )
        )
        .with_panel(_rows(catalog, "Values", "Unknown is never 0. n is the events behind it.", VALUES, 24))
        .with_panel(_rows(catalog, "Targets", "Forecast with its 95 % interval at the due day.", TARGETS, 24))
    )
    for role, title in ROLES.items():
        named = {name: metric for name, metric in catalog.metrics.items() if metric.role == role}
        if named:
            page.with_row(Row(title))
        for name, metric in named.items():
            page.with_panel(_course(catalog, name, metric))
    return _loop(catalog, _groups(catalog, page))


def _mission(catalog: Catalog) -> str:
    if catalog.mission is None:
        return f"{catalog.title} has not stated its mission in the catalog."
    stated = f"**{catalog.mission.statement}**\n\nFor {catalog.mission.beneficiaries}."
    star = catalog.mission.north_star
    return stated if star is None else f"{stated}\n\nNorth star: {catalog.metrics[star].title}."


def _rows(catalog: Catalog, title: str, why: str, sql: str, width: int):  # type: ignore[no-untyped-def]
    return rows(title, why, sql.format(product=catalog.product), width)


def _course(catalog: Catalog, name: str, metric: Metric):  # type: ignore[no-untyped-def]
    why = " ".join(part for part in (metric.description, _better(catalog, name), _known(metric)) if part)
    total = f'{family(name)}{{product="{catalog.product}"}}'
    return course(metric.title, why, _unit(catalog, name), query(total, "{{window}}"))


def _unit(catalog: Catalog, name: str) -> str:
    """Grafana's name for how values are written; in words the unit is in the description."""
    return "percentunit" if wording.unit_in(catalog.metrics, name).percent else "short"


def _better(catalog: Catalog, name: str) -> str:
    unit = wording.unit_in(catalog.metrics, name).words()
    better = "Higher is better." if catalog.metrics[name].direction == "up" else "Lower is better."
    return f"In {unit}. {better}" if unit else better


def _known(metric: Metric) -> str:
    return f"Evidence: {metric.evidence.level}."


def _groups(catalog: Catalog, page: Dashboard) -> Dashboard:
    """Who is reached and who is left behind."""
    page.with_row(Row("Groups: who is reached, and who is left behind"))
    for name, metric in catalog.metrics.items():
        if metric.equity is not None:
            dimension = metric.equity.dimension
            split = (
                f'{family_by(name, [dimension])}{{product="{catalog.product}", window="{_window(metric)}"}}'
            )
            page.with_panel(
                course(
                    f"{metric.title} by {dimension}",
                    f"The reference group is {metric.equity.reference}. Groups do not add up: see the total.",
                    _unit(catalog, name),
                    query(split, f"{{{{{dimension}}}}}"),
                )
            )
    return page.with_panel(
        _rows(
            catalog,
            "Gaps to the reference group",
            "A standing says whether a gap is beyond chance.",
            GAPS,
            16,
        )
    ).with_panel(_rows(catalog, "Unknown groups", "Bias in the measurement itself.", UNKNOWN, 8))


def _window(metric: Metric) -> str:
    return "28d" if "28d" in metric.windows else metric.windows[0]


def _loop(catalog: Catalog, page: Dashboard) -> Dashboard:
    """What is tried, and what could go wrong."""
    page.with_row(Row("The loop: bets, results, risks"))
    page.with_panel(
        _rows(catalog, "Impact beside business", "Diverges: business up while impact goes down.", PAIRS, 24)
    )
    page.with_panel(_rows(catalog, "Bets", "What was expected, and what was measured.", BETS, 24))
    return page.with_panel(_rows(catalog, "Risks", "Each with its guardrail and its next review.", RISKS, 24))


def text_of(catalog: Catalog) -> str:
    """The board as the text of its file."""
    return rendered(board(catalog), MARKS.format(product=catalog.product))


def file_of(product: str) -> Path:
    """Where it is committed."""
    return FOLDER / f"mission-{product}.json"


if __name__ == "__main__":
    for product, each in catalogs(sys.argv[1:]).items():
        file_of(product).write_text(text_of(each), encoding="utf-8")
