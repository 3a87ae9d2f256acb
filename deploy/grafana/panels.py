"""What all dashboards are made of: queries, panels, and how a page becomes the JSON that Grafana reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders.dashboard import QueryVariable
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh
from grafana_foundation_sdk.models.text import TextMode

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

FOLDER = Path(__file__).parent / "dashboards"
PROMETHEUS = DataSourceRef("prometheus", "impact-prometheus")
DATABASE = DataSourceRef("grafana-postgresql-datasource", "impact-database")


@dataclass
class SqlQuery(variants.Dataquery, Builder[variants.Dataquery]):
    """A query of the PostgreSQL data source, which the SDK has no model of."""

    sql: str
    ref_id: str = "A"

    def build(self) -> variants.Dataquery:
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "refId": self.ref_id,
            "datasource": DATABASE,
            "format": "table",
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": self.sql,
        }


def query(expr: str, legend: str, ref_id: str = "A") -> prometheus.Dataquery:
    """A range query."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref_id).range()


def quantiles(histogram: str) -> list[prometheus.Dataquery]:
    """The median, p95 and p99 of a histogram."""
    return [
        query(
            f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket[$__rate_interval])))",
            legend,
            ref_id,
        )
        for share, legend, ref_id in ((0.5, "median", "A"), (0.95, "p95", "B"), (0.99, "p99", "C"))
    ]


def graph(title: str, why: str, unit: str, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Lines over time of what is never below 0, half the width."""
    return course(title, why, unit, *queries).min(0)


def course(title: str, why: str, unit: str, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Lines over time of what may be anything, half the width."""
    panel = timeseries.Panel().title(title).description(why).datasource(PROMETHEUS).unit(unit)
    for each in queries:
        panel.with_target(each)
    return panel.height(8).span(12)


def figure(title: str, why: str, unit: str, expr: str) -> stat.Panel:
    """One number with its recent course, a quarter of the width."""
    panel = stat.Panel().title(title).description(why).datasource(PROMETHEUS).unit(unit)
    return panel.graph_mode(BigValueGraphMode.AREA).with_target(query(expr, title)).height(4).span(6)


def rows(title: str, why: str, sql: str, width: int) -> table.Panel:
    """The rows of a view."""
    panel = table.Panel().title(title).description(why).datasource(DATABASE)
    return panel.with_target(SqlQuery(sql)).filterable(True).height(9).span(width)


def variable(name: str, label: str, values: str) -> QueryVariable:
    """A choice at the top of the page."""
    found = QueryVariable(name).label(label).datasource(PROMETHEUS).query(values)
    return found.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def words(title: str, markdown: str, width: int) -> text.Panel:
    """Text."""
    return text.Panel().title(title).mode(TextMode.MARKDOWN).content(markdown).height(6).span(width)


def rendered(page: Dashboard, annotations: str | None = None) -> str:
    """The dashboard as the JSON text that is committed; `annotations` is SQL for marks on the time line."""
    made = json.loads(json.dumps(page.build(), cls=JSONEncoder))
    if annotations is not None:  # the SDK has no model of SQL in annotations
        made["annotations"] = {
            "list": [
                {
                    "name": "Launches, decisions, incidents",
                    "datasource": {"type": DATABASE.type_val, "uid": DATABASE.uid},
                    "enable": True,
                    "iconColor": "blue",
                    "target": SqlQuery(annotations, "Anno").to_json(),
                }
            ]
        }
    return json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
