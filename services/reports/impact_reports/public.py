"""What of a product is for everybody: its mission, and the metrics that its catalog calls public. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impact_reports.queries import Rows

# The team's own: decisions to take, bets and risks. What could not be counted is for everybody to know.
_INTERNAL = ("violations", "needs", "bets", "bet_results", "risks", "annotations")
_PAIR = ("impact_metric", "business_metric")


def only(rows: Rows) -> Rows:
    """The rows of public metrics; no product at all if it has none."""
    public = {row["metric"] for row in rows["metrics"] if row.get("visibility") == "public"}
    if not public:
        return {name: [] for name in rows}
    return {name: [] if name in _INTERNAL else _kept(name, found, public) for name, found in rows.items()}


def _kept(name: str, rows: list[dict[str, object]], public: set[str]) -> list[dict[str, object]]:
    if name == "value_pairs":
        return [row for row in rows if all(row[metric] in public for metric in _PAIR)]
    if name == "products":
        return [
            row | {"north_star": row["north_star"] if row["north_star"] in public else None} for row in rows
        ]
    return [row for row in rows if row.get("metric") is None or row["metric"] in public]
