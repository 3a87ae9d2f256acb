"""An edition: what was known of a product's period, as files whose bytes follow from the database's state.

Its date is when the product's numbers last changed, not when it was written. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from impact_reports import charts, csv_text, metric_cards
from impact_reports.charts import Bar
from impact_reports.metric_cards import Figure, figure, of_metric
from impact_reports.periods import Period
from impact_reports.unknowns import of_edition
from impact_schemas import definitions, wording
from impact_schemas.wording import units_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment
    from markupsafe import Markup

    from impact_reports.metric_cards import TargetSays
    from impact_reports.queries import Row, Rows
    from impact_reports.unknowns import Unknown
    from impact_schemas.wording import Unit

FORMAT = 1
WITHOUT_STAKEHOLDER = "_all"  # no name of the catalog begins with _
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
SHOWN_PERIODS = 12

_ABOUT = (
    *("metric", "title", "version", "unit", "quantity", "role", "level", "direction", "aggregate"),
    *("evidence", "method", "source", "owner", "sdg", "iris", "min_cell"),
)
_VALUES = ("metric", "period", "starts_at", "ends_at", "segment", "value", "n", "status", "closed", "version")
_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")


class NothingToReport(Exception):
    """There is no such product, stakeholder or number; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The edition before: what it said, to be compared with what is known now."""

    period: Period
    numbers_of: datetime
    values: Mapping[str, Any]  # of the totals, by metric
    sums: str  # SHA-256 of its SHA256SUMS


@dataclass(frozen=True, slots=True)
class GroupSays:
    """One group of a metric in the period."""

    words: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class MetricSays:
    """One metric in the period."""

    metric: str
    title: str
    description: str
    role: str
    level: str
    figure: Figure
    before: str
    evidence: str
    facts: Sequence[tuple[str, str]]
    targets: Sequence[TargetSays]
    groups: Sequence[GroupSays]
    chart: Markup
    definition: str


@dataclass(frozen=True, slots=True)
class Restated:
    """A number of the edition before that is another now."""

    title: str
    then: str
    now: str
    why: str


@dataclass(frozen=True, slots=True)
class EditionSays:
    """All that the edition says in words."""

    product: str
    title: str
    statement: str
    beneficiaries: str
    stakeholder: str
    period: Period
    provisional: bool
    numbers_of: datetime
    metrics: Sequence[MetricSays]
    unknown: Sequence[Unknown]
    earlier: str
    restated: Sequence[Restated]
    factors: Sequence[tuple[str, str, str, str]]
    positions: Sequence[tuple[str, str]]
    definitions: str
    made_with: str


def files(
    rows: Rows,
    period: Period,
    numbers_of: datetime,
    *,
    stakeholder: str | None,
    earlier: Earlier | None,
    made_with: str,
    templates: Environment,
    style: str,
) -> dict[str, bytes]:
    """Every file of the edition by name; `numbers_of`: when they last changed. Raises NothingToReport."""
    rows = _for_stakeholder(rows, stakeholder)
    says = _says(rows, period, numbers_of, stakeholder, earlier, made_with)
    content = {
        "report.html": _html(says, templates, style),
        "report.md": templates.get_template("edition.md").render(page=says),
        "data.json": _json(_data(rows, says)),
        "values.csv": csv_text.written(
            _VALUES, [[_plain(row, name) for name in _VALUES] for row in rows["values"]]
        ),
        "definitions.csv": csv_text.written(
            _ABOUT, [[row[name] for name in _ABOUT] for row in rows["metrics"]]
        ),
    }
    written = {name: text.encode() for name, text in content.items()}
    written[MANIFEST] = _json(_manifest(rows, says, earlier, written)).encode()
    written[SUMS] = sums(written).encode()
    return written


def sums(content: Mapping[str, bytes]) -> str:
    """As sha256sum writes and checks it."""
    return "".join(f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n" for name in sorted(content))


def _for_stakeholder(rows: Rows, name: str | None) -> Rows:
    """Only the metrics that concern them; of the public only what is public."""
    if not rows["products"]:
        raise NothingToReport("there is no such product: impact status shows the products")
    if name is None:
        return rows
    named = {row["stakeholder"]: row for row in rows["stakeholders"]}
    if name not in named:
        known = ", ".join(sorted(named)) or "none"
        raise NothingToReport(f"the catalog names no stakeholder {name!r}: there are {known}")
    every = {row["metric"] for row in rows["metrics"]}
    wanted = set(json.loads(named[name]["metrics"] or "[]")) or every
    if named[name]["audience"] == "public":
        wanted &= {row["metric"] for row in rows["metrics"] if row["visibility"] == "public"}
    return {
        view: [row for row in found if row.get("metric") is None or row["metric"] in wanted]
        for view, found in rows.items()
    }


# --- what it says ---------------------------------------------------------------------------------------


def _says(
    rows: Rows,
    period: Period,
    numbers_of: datetime,
    stakeholder: str | None,
    earlier: Earlier | None,
    made_with: str,
) -> EditionSays:
    product = rows["products"][0]
    if not rows["metrics"]:
        raise NothingToReport(f"no metric of {product['product']} is for {stakeholder or 'anybody'}")
    units = {name: unit for (_, name), unit in units_of(rows["metrics"]).items()}
    titles = {row["stakeholder"]: row["title"] or row["stakeholder"] for row in rows["stakeholders"]}
    return EditionSays(
        product=product["product"],
        title=product["title"],
        statement=product["statement"] or "",
        beneficiaries=product["beneficiaries"] or "",
        stakeholder=titles.get(stakeholder, "") if stakeholder else "",
        period=period,
        provisional=not all(row["closed"] for row in rows["values"]),
        numbers_of=numbers_of,
        metrics=[
            _metric(row, units[row["metric"]], period, rows)
            for row in sorted(rows["metrics"], key=lambda row: _weight(row, product["north_star"]))
        ],
        unknown=of_edition(rows),
        earlier="" if earlier is None else f"{earlier.period.name}, {wording.minute(earlier.numbers_of)}",
        restated=[] if earlier is None else _restated(rows, units, earlier),
        factors=_factors(rows["factor_values"], period),
        positions=[
            (f"{row['topic']}, partition {row['partition']}", f"{int(row['next_offset']):,}")
            for row in rows["log_positions"]
        ],
        definitions=_definitions(rows),
        made_with=made_with,
    )


def _weight(metric: Row, north_star: str | None) -> tuple[bool, int]:
    """What stands for the mission first, then impact, the harms that must stay low, and business."""
    return (metric["metric"] != north_star, list(wording.ROLES).index(metric["role"]))


def _metric(metric: Row, unit: Unit, period: Period, rows: Rows) -> MetricSays:
    definition = json.loads(metric["definition"])
    values = of_metric(rows["values"], metric)
    total = next((row for row in values if row["segment"] == "{}"), None)
    history = of_metric(rows["history"], metric)
    groups = [row for row in values if row["segment"] != "{}"]
    return MetricSays(
        metric=metric["metric"],
        title=metric["title"],
        description=definition.get("description") or "",
        role=metric["role"],
        level=metric["level"] or "",
        figure=figure(total, unit),
        before=_before(history, total, unit, period),
        evidence=wording.said(wording.EVIDENCE, metric["evidence"]),
        facts=_facts(metric, definition, rows, unit),
        targets=metric_cards.targets_say(of_metric(rows["target_progress"], metric), unit),
        groups=[GroupSays(wording.segment(row["segment"]), figure(row, unit)) for row in groups],
        chart=_chart(metric, history[-SHOWN_PERIODS:], unit),
        definition=definitions.definition_text(metric),
    )


def _before(history: Sequence[Row], total: Row | None, unit: Unit, period: Period) -> str:
    """How it was in the period before, and the change."""
    row = next((row for row in history if row["starts_at"] == period.before.starts_at), None)
    before = figure(row, unit)
    if row is None or total is None or not before.known or total["value"] is None:
        return "not known"
    change = Decimal(str(total["value"])) - Decimal(str(row["value"]))
    return f"{before.text} ({unit.change(change) if unit.percent else unit.bare_change(change)})"


def _facts(metric: Row, definition: Mapping[str, Any], rows: Rows, unit: Unit) -> list[tuple[str, str]]:
    benchmarks = [
        (str(row["label"]), f"{unit.of(row['benchmark'])} ({row['source']}, {row['year']})")
        for row in of_metric(rows["benchmarks"], metric)
    ]
    facts = [
        ("Rule", definitions.rule(definition)),
        ("Method", metric["method"]),
        ("Source", metric["source"]),
        ("Owner", metric["owner"]),
        ("SDG", ", ".join(json.loads(metric["sdg"] or "[]"))),
        ("IRIS+", ", ".join(json.loads(metric["iris"] or "[]"))),
        ("Small groups", metric["min_cell"] and f"cells of fewer than {metric['min_cell']} are hidden"),
        ("Definition", f"version {metric['version']}"),
        *benchmarks,
    ]
    return [(name, text) for name, text in facts if text]


def _chart(metric: Row, history: Sequence[Row], unit: Unit) -> Markup:
    bars = [
        Bar(Period(row["period"], row["starts_at"]).name, float(row["value"]), bool(row["closed"]))
        for row in history
        if row["value"] is not None
    ]
    return (
        charts.bars(f"{metric['title']} by {history[0]['period']}", bars, unit.tick)
        if bars
        else charts.NOTHING
    )


def _restated(rows: Rows, units: Mapping[str, Unit], earlier: Earlier) -> list[Restated]:
    now = {row["metric"]: row for row in rows["reported"]}
    found = []
    for metric in rows["metrics"]:
        name, unit = metric["metric"], units[metric["metric"]]
        if name not in earlier.values:
            continue
        then = figure(earlier.values[name], unit)
        present = figure(now.get(name), unit)
        if then.exact == present.exact and then.status == present.status:
            continue
        reasons = [
            f"{wording.count(int(row['rows']), 'day')} by {wording.said(wording.REASONS, row['reason'])}"
            for row in rows["revisions"]
            if row["metric"] == name
        ]
        provisional = "the period was not over" if not earlier.values[name].get("closed", True) else ""
        found.append(
            Restated(
                metric["title"], then.text, present.text, ", ".join(filter(None, [provisional, *reasons]))
            )
        )
    return found


def _factors(rows: Sequence[Row], period: Period) -> list[tuple[str, str, str, str]]:
    """Editions of factors that begin before the end of the period, newest last."""
    ends = period.ends_at.date()
    return sorted(
        {
            (str(row["factor"]), str(row["version"]), str(row["valid_from"])[:10], str(row["source"] or ""))
            for row in rows
            if str(row["valid_from"])[:10] < str(ends)
        }
    )


def _definitions(rows: Rows) -> str:
    """SHA-256 of the definitions under which the numbers stand."""
    parts = [[row["metric"], row["version"], json.loads(row["definition"])] for row in rows["metrics"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# --- its files --------------------------------------------------------------------------------------------


def _html(says: EditionSays, templates: Environment, style: str) -> str:
    """One file with everything in it; its own policy lets nothing else in."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return templates.get_template("edition.html").render(page=says, style=style, style_digest=digest)


def _data(rows: Rows, says: EditionSays) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "product": says.product,
        "title": says.title,
        "statement": says.statement,
        "period": says.period.name,
        "numbers_of": says.numbers_of.isoformat(),
        "provisional": says.provisional,
        "metrics": [
            {name: row[name] for name in _ABOUT} | {"definition": json.loads(row["definition"])}
            for row in rows["metrics"]
        ],
        "values": [{name: _plain(row, name) for name in _VALUES} for row in rows["values"]],
        "targets": rows["target_progress"],
        "benchmarks": rows["benchmarks"],
        "factors": rows["factor_values"],
        "restated": [msgspec.to_builtins(one) for one in says.restated],
        "not_known": [msgspec.to_builtins(one) for one in says.unknown],
    }


def _manifest(
    rows: Rows, says: EditionSays, earlier: Earlier | None, content: Mapping[str, bytes]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "product": says.product,
        "period": says.period.name,
        "stakeholder": says.stakeholder or None,
        "numbers_of": says.numbers_of.isoformat(),
        "made_with": says.made_with,
        "catalog_sha256": says.definitions,
        "log_positions": {
            f"{row['topic']}-{row['partition']}": int(row["next_offset"]) for row in rows["log_positions"]
        },
        "factor_editions": [
            dict(zip(("factor", "version", "valid_from"), one[:3], strict=True)) for one in says.factors
        ],
        "compared_with": earlier and {"period": earlier.period.name, "sha256sums": earlier.sums},
        "files": {name: hashlib.sha256(body).hexdigest() for name, body in content.items()},
    }


def _csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    return csv_text.written(columns, [[_plain(row, name) for name in columns] for row in rows])


def _json(document: object) -> str:
    return msgspec.json.format(_encoder.encode(document), indent=2).decode() + "\n"


def _plain(row: Row, name: str) -> object:
    value = row[name]
    if name == "closed":
        return bool(value)
    return value.isoformat() if isinstance(value, date) else value
