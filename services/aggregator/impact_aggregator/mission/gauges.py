"""What the numbers mean as gauges, the leader's alone: targets, violations, gaps, and of totals all the rest.

What has a row for each group is in SQL; here it would be as many series as there are groups.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from impact_aggregator.mission.bets import BetRow
from impact_aggregator.mission.comparisons import BenchmarkRow, RecordRow
from impact_aggregator.mission.contributions import ContributionRow, IntervalRow, NetRow
from impact_aggregator.mission.equity import CoverageRow, GapRow, PopulationRow
from impact_aggregator.mission.features import FeatureRow
from impact_aggregator.mission.pairs import PairRow
from impact_aggregator.mission.segments import label_of, split_of
from impact_aggregator.mission.targets import TargetRow
from impact_aggregator.mission.violations import ViolationRow
from impact_aggregator.rules import TOTAL
from impact_schemas import numbers, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Table

BET_STATES = ("failed", "too_early", "holding", "proven")  # of several expectations the first that one is in
TARGET_STATES = ("met", "on_track", "at_risk", "off_track", "no_data")


class _Plain(NamedTuple):
    """A family with a sample for each row of a table that is of a total."""

    name: str
    told: str
    table: Table
    row: Callable[..., Any]
    labels: tuple[str, ...]
    values: dict[str, str]  # the label `bound` and the field; '' for a family without that label


_OF = ("product", "metric", "time_window")
_BOUNDS = {"low": "ci_low", "high": "ci_high"}
PLAIN = (
    _Plain(
        "target_forecast",
        "The value at the due day if the trend goes on, and the bounds of its 95 % prediction interval.",
        tables.target_state,
        TargetRow,
        (*_OF, "due"),
        {"value": "forecast", "low": "forecast_low", "high": "forecast_high"},
    ),
    _Plain(
        "interval",
        "The bounds of the 95 % interval of a rate or a mean.",
        tables.value_interval,
        IntervalRow,
        _OF,
        _BOUNDS,
    ),
    _Plain(
        "arm_difference",
        "An arm's value minus the control's, with the bounds of its 95 % interval.",
        tables.arm_contribution,
        ContributionRow,
        (*_OF, "arm"),
        {"value": "difference", **_BOUNDS},
    ),
    _Plain(
        "feature_difference",
        "A feature's value minus that of the rest, with the bounds of its 95 % interval.",
        tables.feature_result,
        FeatureRow,
        (*_OF, "feature"),
        {"value": "difference", **_BOUNDS},
    ),
    _Plain(
        "feature_share_ratio",
        "A feature's share of the total, of what adds up.",
        tables.feature_result,
        FeatureRow,
        (*_OF, "feature"),
        {"": "share"},
    ),
    _Plain("net_value", "What of it is owed to the product.", tables.net_value, NetRow, _OF, {"": "net"}),
    _Plain(
        "benchmark_ratio",
        "The value as a share of what others reach.",
        tables.benchmark,
        BenchmarkRow,
        (*_OF, "label"),
        {"": "ratio"},
    ),
    _Plain("best", "The best value at the end of a day.", tables.metric_record, RecordRow, _OF, {"": "best"}),
    _Plain(
        "per_business_ratio",
        "An impact metric's value divided by a business metric's.",
        tables.value_pair,
        PairRow,
        ("product", "impact_metric", "business_metric", "time_window"),
        {"": "impact_per_business"},
    ),
    _Plain(
        "unknown_share_ratio",
        "The share of a metric's events of which the group is not known.",
        tables.dimension_coverage,
        CoverageRow,
        ("product", "metric", "dimension"),
        {"": "share_unknown"},
    ),
)
_NAMES = {"time_window": "window"}


class MissionGauges(Collector):
    """Rows of the mission layer's tables as samples."""

    def __init__(self, rows: Callable[[Table], Iterable[tuple[object, ...]]]) -> None:
        """`rows` gives those of a table, and nothing where this process does not lead."""
        self._rows = rows

    def describe(self) -> list[Family]:
        """Nothing: asking for the rows before there are any would be in vain."""
        return []

    def collect(self) -> Iterator[Family]:
        """All families."""
        yield from self._targets()
        yield self._violations()
        yield from self._gaps()
        yield self._bets()
        for one in PLAIN:
            yield self._plain(one)

    def _targets(self) -> Iterator[Family]:
        """Of the targets of a window and segment the next one that is due, else the last."""
        progress = Family(
            "impact_target_progress_ratio",
            "Share of the way to the target; 1 is there, below 0 backwards.",
            "gauge",
        )
        states = Family("impact_target_state", "1 for the state that a target is in.", "gauge")
        of_segments = Family(
            "impact_mission_segment_target_state", "1 for the state that a segment's target is in.", "gauge"
        )
        rows = [TargetRow(*row) for row in self._rows(tables.target_state)]  # type: ignore[arg-type]  # columns are its fields
        for row in _next_due(rows):
            labels = {"product": row.product, "metric": row.metric, "window": row.time_window}
            if row.segment != TOTAL:
                labels["segment"] = segment_label(row.segment)
                of_segments.samples += _states(of_segments.name, labels, TARGET_STATES, row.status)
                continue
            if row.progress is not None:
                progress.samples.append(Sample(progress.name, labels, row.progress / numbers.ONE))
            states.samples += _states(states.name, labels, TARGET_STATES, row.status)
        yield progress
        yield states
        yield of_segments

    def _violations(self) -> Family:
        family = Family(
            "impact_violation", "1 while a rule is violated, 0 once it was and is no more.", "gauge"
        )
        spells: dict[tuple[str, str, str], bool] = {}
        for found in self._rows(tables.violation):
            row = ViolationRow(*found)  # type: ignore[arg-type]  # columns are its fields
            place = (row.product, row.rule, str(row.kind))
            spells[place] = spells.get(place, False) or row.until is None
        for (product, rule, kind), is_open in spells.items():
            labels = {"product": product, "rule": rule, "kind": kind}
            family.samples.append(Sample(family.name, labels, is_open))
        return family

    def _gaps(self) -> Iterator[Family]:
        family = Family("impact_equity_gap", "A group's value minus the reference group's.", "gauge")
        behind = Family(
            "impact_mission_groups_behind",
            "How many groups are worse off than the reference, beyond chance.",
            "gauge",
        )
        shares = Family(
            "impact_mission_population_share_ratio", "The share of a group's people who are reached.", "gauge"
        )
        groups: dict[tuple[str, ...], int] = defaultdict(int)
        for found in self._rows(tables.equity_gap):
            row = GapRow(*found)  # type: ignore[arg-type]  # columns are its fields
            if row.gap is not None:
                family.samples.append(Sample(family.name, _of_group(row), row.gap / numbers.ONE))
            if row.standing is not None:
                groups[row.product, row.metric, row.time_window, row.dimension] += row.standing == "worse"
        names = ("product", "metric", "window", "dimension")
        behind.samples = [
            Sample(behind.name, dict(zip(names, place, strict=True)), count)
            for place, count in groups.items()
        ]
        for found in self._rows(tables.population_share):
            share = PopulationRow(*found)  # type: ignore[arg-type]  # columns are its fields
            if share.share is not None:
                shares.samples.append(Sample(shares.name, _of_group(share), share.share / numbers.ONE))
        yield from (family, behind, shares)

    def _bets(self) -> Family:
        family = Family("impact_mission_bet_state", "1 for the state that a bet is in.", "gauge")
        worst: dict[tuple[str, str], str] = {}
        for found in self._rows(tables.bet_result):
            row = BetRow(*found)  # type: ignore[arg-type]  # columns are its fields
            states = (row.status, worst.get((row.product, row.bet), row.status))
            worst[row.product, row.bet] = min(states, key=BET_STATES.index)
        for (product, bet), status in worst.items():
            family.samples += _states(family.name, {"product": product, "bet": bet}, BET_STATES, status)
        return family

    def _plain(self, told: _Plain) -> Family:
        family = Family(f"impact_mission_{told.name}", told.told, "gauge")
        for found in self._rows(told.table):
            row = told.row(*found)
            if getattr(row, "segment", TOTAL) != TOTAL:
                continue
            labels = {_NAMES.get(name, name): str(getattr(row, name)) for name in told.labels}
            for bound, field in told.values.items():
                value = getattr(row, field)
                if value is not None:
                    own = {**labels, "bound": bound} if bound else labels
                    family.samples.append(Sample(family.name, own, value / numbers.ONE))
        return family


def segment_label(segment: str) -> str:
    """A segment as a label: language=es."""
    return ",".join(f"{name}={label_of(value)}" for name, value in split_of(segment).items())


def _of_group(row: GapRow | PopulationRow) -> dict[str, str]:
    return {
        "product": row.product,
        "metric": row.metric,
        "window": row.time_window,
        "dimension": row.dimension,
        "segment": label_of(split_of(row.segment)[row.dimension]),
    }


def _states(name: str, labels: dict[str, str], states: Iterable[str], now: str) -> list[Sample]:
    return [Sample(name, {**labels, "status": status}, status == now) for status in states]


def _next_due(rows: Iterable[TargetRow]) -> list[TargetRow]:
    chosen: dict[tuple[str, ...], TargetRow] = {}
    for row in sorted(rows, key=lambda row: row.due):
        place = (row.product, row.metric, row.time_window, row.segment)
        if place not in chosen or _is_over(chosen[place]):
            chosen[place] = row
    return list(chosen.values())


def _is_over(row: TargetRow) -> bool:
    """Once the due day is over nothing is foreseen and the target is met or missed."""
    return row.status in ("met", "off_track") and row.forecast is None
