"""Makes a product's alert rules from its catalog: targets, guardrails, drifts, contradictions, silence.

Each alert tells what happened, since when, how sure it is, what it may mean, whom it concerns and what to do
next. `python -m deploy.prometheus.product_alerts CATALOG.yaml ...` writes `rules/<product>.yml` for each;
those of the examples are committed, and a test compares.
"""

# ruff: noqa: S608 (the queries are text for people to run)

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from ruamel.yaml import YAML

from deploy.catalogs import catalogs
from impact_schemas import wording
from impact_schemas.catalog.counting import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impact_schemas.catalog import Catalog, Metric
    from impact_schemas.catalog.loop import Risk

FOLDER = Path(__file__).parent / "rules"
_HEAD = "# Made by deploy/prometheus/product_alerts.py from the catalog; changes here are overwritten.\n"


class Alert(NamedTuple):
    """A rule, and the series that it is about: it fires while that is above 0."""

    name: str
    labels: dict[str, str]  # its own, in addition to those of the series
    selector: str
    series: str  # one that the selector finds
    held_for: str
    annotations: dict[str, str]

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": f"{self.selector} > 0",
            "for": self.held_for,
            "labels": {"audience": "product", **self.labels},
            "annotations": self.annotations,
        }


def alerts(catalog: Catalog) -> Iterator[Alert]:
    """Everything that the people of a product want to be told, in the catalog's order."""
    for name, metric in catalog.metrics.items():
        yield from _targets(catalog, name, metric)
        yield from _guardrails(catalog, name, metric)
        yield from _drifts(catalog, name, metric)
        yield from _silences(catalog, name, metric)
    yield from _bets(catalog)
    yield from _risks(catalog)
    yield from _consistency(catalog)


def _targets(catalog: Catalog, name: str, metric: Metric) -> Iterator[Alert]:
    aims: dict[tuple[str, str], list[str]] = {}
    unit = wording.unit_in(catalog.metrics, name)
    for target in metric.targets:
        segment = ",".join(f"{name}={value}" for name, value in sorted(target.segment.items()))
        aims.setdefault((target.window, segment), []).append(f"{unit.of(target.value)} by {target.due}")
    for (window, segment), told_aims in aims.items():
        whose = f"{metric.title} of {segment}" if segment else metric.title
        aim = f"The target of {whose} over {wording.window(window)}, {', '.join(told_aims)},"
        meanings = {
            "at_risk": "At the present pace the target is missed; only the best case still reaches it.",
            "off_track": "At the present pace the target is missed in the best case too, or its day is over.",
        }
        for status, meaning in meanings.items():
            alert = "TargetAtRisk" if status == "at_risk" else "TargetOffTrack"
            told = (
                f"{aim} is {status.replace('_', ' ')}",
                "The forecast is judged by its 95 % interval.",
                meaning,
                "See which segments and features moved: SELECT * FROM target_progress WHERE product ="
                f" '{catalog.product}' AND metric = '{name}'. Change course while there is time, or agree on"
                " another target and say why.",
            )
            family = "impact_mission_segment_target_state" if segment else "impact_target_state"
            yield _state(catalog, name, (alert, family, window, status), "1h", told, segment)


def _guardrails(catalog: Catalog, name: str, metric: Metric) -> Iterator[Alert]:
    has_target = metric.role == "guardrail" and metric.targets
    if metric.limits is not None or has_target:
        yield _violation(
            catalog,
            name,
            _Spell("GuardrailBroken", "guardrail", f"{name}_(max|min|target.*)", f"{name}_max"),
            f"{metric.title} is beyond its bound ({{{{ $labels.rule }}}})",
            "The harm is greater than what was agreed to be tolerable: somebody is worse off because of us.",
            "Stop or undo what changed before it began; the view annotations has launches and decisions.",
        )


def _drifts(catalog: Catalog, name: str, metric: Metric) -> Iterator[Alert]:
    compared = [
        other
        for other, business in catalog.metrics.items()
        if metric.role == "impact" and business.role == "business" and _are_compared(metric, other, business)
    ]
    if compared:
        yield _violation(
            catalog,
            name,
            _Spell("Divergence", "divergence", f"{name}_against_.+", f"{name}_against_{compared[0]}"),
            f"Business goes up while {metric.title} gets worse ({{{{ $labels.rule }}}})",
            "The growth may come from people whom the mission does not serve, or at their cost.",
            "Compare the segments of both: the view value_pairs, then rolling_metrics by dimension.",
        )
    if metric.equity is not None:
        yield _behind(catalog, name, metric, metric.equity.dimension)
        yield _violation(
            catalog,
            name,
            _Spell("LeftBehind", "left_behind", f"{name}_left_behind", f"{name}_left_behind"),
            f"{metric.title} improves in total while it gets worse for a group",
            "The average hides people who are left behind.",
            "The view violations names the group; talk to people of it before changing anything.",
        )


def _behind(catalog: Catalog, name: str, metric: Metric, dimension: str) -> Alert:
    """Of one window: the longest of a day to 90 days, else the longest that there is."""
    by_length = sorted(metric.windows, key=get_args(Window).index)
    window = max(
        (one for one in by_length if one in ("24h", "7d", "28d", "90d")),
        key=get_args(Window).index,
        default=by_length[-1],
    )
    place = {"product": catalog.product, "metric": name, "window": window, "dimension": dimension}
    selector = _selector("impact_mission_groups_behind", place)
    return Alert(
        "GroupBehind",
        {"metric": name},
        selector,
        selector,
        "1h",
        {
            "summary": f"{catalog.title}: {metric.title} of {{{{ $value }}}} groups by {dimension} is worse"
            " than that of the reference",
            "since": _since(selector),
            "certainty": _certainty(
                catalog,
                name,
                "Chance is ruled out at 95 % where there is an interval, else the gap is above 1 %.",
            ),
            "meaning": "The product serves these groups worse, or the measurement does.",
            "concerns": _concerned(catalog, name),
            "next_step": "Which groups, and how far: SELECT * FROM equity_gaps WHERE product ="
            f" '{catalog.product}' AND metric = '{name}' AND standing = 'worse'. Then coverage: whom nobody"
            " knows may be the reason.",
            "runbook": _runbook("GroupBehind"),
        },
    )


def _bets(catalog: Catalog) -> Iterator[Alert]:
    for name, bet in catalog.bets.items():
        if not bet.expects:
            continue
        place = {"product": catalog.product, "bet": name, "status": "failed"}
        selector = _selector("impact_mission_bet_state", place)
        hoped = ", ".join(f"{one.metric} {one.change:+g} by {one.by}" for one in bet.expects)
        yield Alert(
            "BetFailed",
            {"bet": name},
            selector,
            selector,
            "1h",
            {
                "summary": f"{catalog.title}: the bet '{bet.title or name}' has failed; hoped for: {hoped}",
                "since": _since(selector),
                "certainty": "bet_results has the measured change with its 95 % interval, and whether it is"
                " compared with a control or only before and after.",
                "meaning": f"What it was made for does not happen: {bet.hypothesis}",
                "concerns": _concerned(catalog, bet.expects[0].metric),
                "next_step": "Stop it, or change it, and write the decision down as an annotation that names"
                " the bet. SELECT * FROM bet_results WHERE"
                f" product = '{catalog.product}' AND bet = '{name}'.",
                "runbook": _runbook("BetFailed"),
            },
        )


def _risks(catalog: Catalog) -> Iterator[Alert]:
    for risk in catalog.risks:
        if risk.review_every is None:
            continue
        place = {"product": catalog.product, "risk": risk.id}
        selector = _selector("impact_mission_risk_review_overdue", place)
        owner = f"owner: {risk.owner}" if risk.owner else "nobody in the catalog"
        last = f"the last one was on {risk.reviewed}" if risk.reviewed else "there has been none"
        yield Alert(
            "RiskReviewOverdue",
            {"risk": risk.id},
            selector,
            selector,
            "1h",
            {
                "summary": f"{catalog.title}: the review of the risk '{risk.id}' is overdue",
                "since": f"reviews are due every {risk.review_every.days} days, and {last}",
                "certainty": "That the day is over is certain; whether the harm is done nobody has looked.",
                "meaning": f"Nobody has asked for a while whether this happens: {risk.statement}",
                "concerns": f"{owner}; who would be harmed: {risk.who or 'not said in the catalog'}",
                "next_step": f"{_guardrail_of(risk)}Then write the day of the review into `reviewed` of the"
                " risk in the catalog.",
                "runbook": _runbook("RiskReviewOverdue"),
            },
        )


def _guardrail_of(risk: Risk) -> str:
    return f"Look at {risk.metric} by segment and over time. " if risk.metric else "Ask those concerned. "


def _are_compared(metric: Metric, other: str, business: Metric) -> bool:
    if metric.divergence is not None:
        return metric.divergence.business == other
    return bool(set(metric.windows) & set(business.windows))


def _silences(catalog: Catalog, name: str, metric: Metric) -> Iterator[Alert]:
    if metric.cadence is None:
        return
    told = (
        f"No events for {metric.title} for longer than {metric.cadence.total_seconds() / 86_400:g} days",
        "That no event of its types has come is certain.",
        "A sender has stopped, or nothing happens any more: the number shown is old, not low.",
        "Ask whoever sends these events; events that were kept back may come late and still count.",
    )
    # a shorter window is soon empty, and then has no data
    longest = max(metric.windows, key=get_args(Window).index)
    yield _state(catalog, name, ("Silence", "impact_metric_state", longest, "stale"), "10m", told)


def _consistency(catalog: Catalog) -> Iterator[Alert]:
    yield _violation(
        catalog,
        None,
        _Spell("NumbersContradict", "consistency", ".+", "part_within_whole"),
        "A part is more than its whole ({{ $labels.rule }})",
        "Events are missing, or counted in the wrong metric: do not publish these numbers now.",
        f"impact verify --product {catalog.product} says whether the counting or the events are wrong.",
    )


class _Spell(NamedTuple):
    """The rules of the view `violations` that an alert is about."""

    alert: str
    kind: str
    pattern: str
    example: str  # a rule that the pattern finds


def _violation(
    catalog: Catalog, name: str | None, spell: _Spell, what: str, meaning: str, next_step: str
) -> Alert:
    labels = {"product": catalog.product, "kind": spell.kind}
    view = f"SELECT * FROM violations WHERE product = '{catalog.product}' AND rule = '{{{{ $labels.rule }}}}'"
    sure = (
        "Chance is ruled out at 95 % where the value has an interval; observed and expected are in the view."
    )
    family = "impact_violation"
    return Alert(
        spell.alert,
        {} if name is None else {"metric": name},
        _selector(family, labels, ("rule", spell.pattern)),
        _selector(family, {**labels, "rule": spell.example}),
        "10m",
        {
            "summary": f"{catalog.title}: {what}",
            "since": _since(_selector(family, {**labels, "rule": "%s"}), "$labels.rule"),
            "certainty": _certainty(catalog, name, sure),
            "meaning": meaning,
            "concerns": _concerned(catalog, name),
            "next_step": f"{next_step} First day and values: {view}.",
            "runbook": _runbook(spell.alert),
        },
    )


def _state(
    catalog: Catalog,
    name: str,
    which: tuple[str, str, str, str],
    held_for: str,
    told: tuple[str, str, str, str],
    segment: str = "",
) -> Alert:
    """An alert on a gauge of states: (alert, family, window, status), and what it says."""
    alert, family, window, status = which
    what, sure, meaning, next_step = told
    labels = {"product": catalog.product, "metric": name, "window": window, "status": status}
    if segment:
        labels["segment"] = segment
    selector = _selector(family, labels)
    return Alert(
        alert,
        {"metric": name, "window": window},
        selector,
        selector,
        held_for,
        {
            "summary": f"{catalog.title}: {what}",
            "since": _since(selector),
            "certainty": _certainty(catalog, name, sure),
            "meaning": meaning,
            "concerns": _concerned(catalog, name),
            "next_step": next_step,
            "runbook": _runbook(alert),
        },
    )


def _selector(family: str, labels: dict[str, str], pattern: tuple[str, str] | None = None) -> str:
    parts = [f'{label}="{value}"' for label, value in labels.items()]
    if pattern is not None:
        parts.append('{}=~"{}"'.format(*pattern))
    return f"{family}{{{', '.join(parts)}}}"


def _runbook(alert: str) -> str:
    return f"docs/ops.md, Alerts of products, {alert}"


def _certainty(catalog: Catalog, name: str | None, sure: str) -> str:
    if name is None:
        return sure
    evidence = catalog.metrics[name].evidence
    method = f" ({evidence.method})" if evidence.method else ""
    return f"The number is {evidence.level}{method}. {sure}"


def _since(selector: str, *arguments: str) -> str:
    """When it was last seen to be fine, by Prometheus itself; `%s` in the selector are the arguments."""
    fine = f"max(max_over_time(timestamp({selector} == 0)[30d:1h]))".replace('"', "'")
    asked = f'printf "{fine}" {" ".join(arguments)} | query' if arguments else f'query "{fine}"'
    return (
        f"{{{{ with {asked} }}}}fine until about {{{{ . | first | value | humanizeTimestamp }}}}"
        "{{ else }}not seen fine in the last 30 days{{ end }}"
    )


def _concerned(catalog: Catalog, name: str | None) -> str:
    told = [one.title or one.name for one in catalog.stakeholders if name is None or name in one.metrics]
    owner = catalog.metrics[name].evidence.owner if name else None
    parts = [f"owner: {owner}"] if owner else []
    parts += [f"told about it: {', '.join(told)}"] if told else []
    if catalog.mission is not None:
        parts.append(f"in the end: {catalog.mission.beneficiaries}")
    return "; ".join(parts) or "nobody is named in the catalog"


def rendered(catalog: Catalog) -> str:
    """The product's rules as the text of the file."""
    rules = [alert.rule() for alert in alerts(catalog)]
    text = StringIO()
    yaml = YAML(typ="rt")
    yaml.width = 110
    yaml.dump({"groups": [{"name": f"impact-{catalog.product}", "rules": rules}]}, text)
    return _HEAD + text.getvalue()


def file_of(product: str) -> Path:
    """Where it is committed."""
    return FOLDER / f"{product}.yml"


if __name__ == "__main__":
    for product, each in catalogs(sys.argv[1:]).items():
        file_of(product).write_text(rendered(each), encoding="utf-8")
