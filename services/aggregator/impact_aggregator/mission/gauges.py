"""What the numbers mean as gauges: progress and state of targets, violations, gaps. The leader's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from impact_aggregator.mission.equity import GapRow
from impact_aggregator.mission.segments import label_of, split_of
from impact_aggregator.mission.targets import TargetRow
from impact_aggregator.mission.violations import ViolationRow
from impact_aggregator.rules import TOTAL
from impact_schemas import numbers, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Table

TARGET_STATES = ("met", "on_track", "at_risk", "off_track", "no_data", "suppressed")


class MissionGauges(Collector):
    """Rows of the mission layer's tables as samples."""

    def __init__(self, rows: Callable[[Table], Iterable[tuple[object, ...]]]) -> None:
        """`rows` gives those of a table, and nothing where this process does not lead."""
        self._rows = rows

    def describe(self) -> list[Family]:
        """Nothing: asking for the rows before there are any would be in vain."""
        return []

    def collect(self) -> Iterator[Family]:
        """Families of targets, violations and gaps."""
        yield from self._targets()
        yield self._violations()
        yield self._gaps()

    def _targets(self) -> Iterator[Family]:
        """Of a window's targets for the total the next one that is due, else the last."""
        progress = Family(
            "impact_target_progress_ratio",
            "Share of the way to the target; 1 is there, below 0 backwards.",
            "gauge",
        )
        states = Family("impact_target_state", "1 for the state that a target is in.", "gauge")
        for row in _next_due(TargetRow(*row) for row in self._rows(tables.target_state)):  # type: ignore[arg-type]  # columns are its fields
            labels = {"product": row.product, "metric": row.metric, "window": row.time_window}
            if row.progress is not None:
                progress.samples.append(Sample(progress.name, labels, row.progress / numbers.ONE))
            states.samples += [
                Sample(states.name, {**labels, "status": status}, row.status == status)
                for status in TARGET_STATES
            ]
        yield progress
        yield states

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

    def _gaps(self) -> Family:
        family = Family("impact_equity_gap", "A group's value minus the reference group's.", "gauge")
        for found in self._rows(tables.equity_gap):
            row = GapRow(*found)  # type: ignore[arg-type]  # columns are its fields
            if row.gap is not None:
                labels = {
                    "product": row.product,
                    "metric": row.metric,
                    "window": row.time_window,
                    "dimension": row.dimension,
                    "segment": label_of(split_of(row.segment)[row.dimension]),
                }
                family.samples.append(Sample(family.name, labels, row.gap / numbers.ONE))
        return family


def _next_due(rows: Iterable[TargetRow]) -> list[TargetRow]:
    chosen: dict[tuple[str, str, str], TargetRow] = {}
    for row in sorted(rows, key=lambda row: row.due):
        place = (row.product, row.metric, row.time_window)
        if row.segment == TOTAL and (place not in chosen or _is_over(chosen[place])):
            chosen[place] = row
    return list(chosen.values())


def _is_over(row: TargetRow) -> bool:
    """Once the due day is over nothing is foreseen and the target is met or missed."""
    return row.status in ("met", "off_track") and row.forecast is None
