"""What is not known about a product's numbers, in plain sentences. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from impact_schemas import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from impact_reports.queries import Row, Rows

MUCH = 0.05  # a share of unknown groups from which differences between groups are in doubt


@dataclass(frozen=True, slots=True)
class Unknown:
    """One thing that is not known, and what follows from it."""

    title: str
    sentence: str


def of_product(rows: Rows) -> list[Unknown]:
    """Groups first, then values, then events; empty if all is known."""
    titles = {row["metric"]: row["title"] for row in rows["metrics"]}
    return [
        *_groups(rows["coverage"], titles),
        *_values(rows["statuses"], titles),
        *_late(rows["revisions"], titles),
        *_quarantined(rows["quarantine"]),
        *_lost(rows["log_holes"]),
    ]


def of_edition(rows: Rows) -> list[Unknown]:
    """Of the values of one period."""
    titles = {row["metric"]: row["title"] for row in rows["metrics"]}
    counted: dict[tuple[str, str], int] = {}
    for row in rows["values"]:
        key = (row["metric"], row["status"])
        counted[key] = counted.get(key, 0) + 1
    statuses = [
        {"metric": metric, "status": status, "rows": amount} for (metric, status), amount in counted.items()
    ]
    return [*_groups(rows["coverage"], titles), *_values(statuses, titles), *_quarantined(rows["quarantine"])]


def _groups(rows: Iterable[Row], titles: dict[str, str]) -> list[Unknown]:
    """One for each dimension, with the metrics that are split by it, the largest share first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["share_unknown"]:
            found.setdefault(row["dimension"], []).append(row)
    return [_group(dimension.replace("_", " "), found[dimension], titles) for dimension in found]


def _group(dimension: str, rows: Sequence[Row], titles: dict[str, str]) -> Unknown:
    shares: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda one: one["share_unknown"], reverse=True):
        title = titles.get(row["metric"], str(row["metric"]))
        shares.setdefault(wording.percent(row["share_unknown"]), []).append(title)
    of_each = "; ".join(f"{share} of the events of {', '.join(names)}" for share, names in shares.items())
    is_much = any(row["share_unknown"] >= MUCH for row in rows)
    doubt = " Differences between the groups may be no more than that." if is_much else ""
    return Unknown(f"Whose {dimension} it is", f"The {dimension} is unknown for {of_each}.{doubt}")


_STATUS_SAYS = {
    "suppressed": ("Hidden", "because too few people stand behind each"),
    "stale": ("Stale", "for nothing new has come for longer than agreed"),
    "no_data": ("No data", "for no event has come: nobody knows"),
}


def _values(rows: Iterable[Row], titles: dict[str, str]) -> list[Unknown]:
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["status"] in _STATUS_SAYS:
            metrics = found.setdefault(row["status"], {})
            metrics[row["metric"]] = metrics.get(row["metric"], 0) + int(row["rows"])
    return [_value(status, found[status], titles) for status in _STATUS_SAYS if status in found]


def _value(status: str, metrics: dict[str, int], titles: dict[str, str]) -> Unknown:
    title, reason = _STATUS_SAYS[status]
    amount = wording.count(sum(metrics.values()), "value")
    return Unknown(title, f"{amount}, {reason}: {_each(metrics, titles)}.")


def _late(rows: Iterable[Row], titles: dict[str, str]) -> list[Unknown]:
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["reason"], {})[row["metric"]] = int(row["rows"])
    return [_changed(reason, metrics, titles) for reason, metrics in sorted(found.items())]


def _changed(reason: str, metrics: dict[str, int], titles: dict[str, str]) -> Unknown:
    days = wording.count(sum(metrics.values()), "day value")
    return Unknown(
        f"Changed by {wording.said(wording.REASONS, reason)}",
        f"{days} after their day was over, and more may follow: {_each(metrics, titles)}.",
    )


def _each(metrics: dict[str, int], titles: dict[str, str]) -> str:
    return ", ".join(f"{titles.get(name, name)} ({amount:,})" for name, amount in sorted(metrics.items()))


def _quarantined(rows: Iterable[Row]) -> list[Unknown]:
    codes = {row["code"]: int(row["rows"]) for row in rows}
    if not codes:
        return []
    reasons = ", ".join(f"{code.replace('_', ' ')}: {amount:,}" for code, amount in sorted(codes.items()))
    total = wording.count(sum(codes.values()), "event")
    return [
        Unknown("Quarantine", f"{total} could not be counted ({reasons}) and can be replayed once mended.")
    ]


def _lost(rows: Iterable[Row]) -> list[Unknown]:
    lost = sum(int(row["last_offset"]) - int(row["first_offset"]) + 1 for row in rows)
    if not lost:
        return []
    return [Unknown("Lost by the log", f"{wording.count(lost, 'record')} of the event log cannot be read.")]
