"""Reads the views: one snapshot of the database a page, rows as dictionaries."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, column, func, literal, or_, select, table

from impact_database.engine import read_only
from impact_schemas.tables import Instant, to_micros
from impact_schemas.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Select, TableClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_reports.edition import Earlier
    from impact_reports.periods import Period

Row = dict[str, Any]
Rows = dict[str, list[Row]]  # by view
Name = tuple[str, str]  # product and metric

TOTAL = "{}"
NOT_READ = {("quarantined_events", "payload")}  # an analyst's role does not see it either

# Everywhere else in the views these names hold a moment or a day; SQLite gives them as text.
_TIMES = frozenset(
    {
        "as_of",
        "at",
        "baseline_at",
        "best_at",
        "bucket_start",
        "by",
        "changed_at",
        "due",
        "ends_at",
        "found_at",
    }
    | {"launched", "received_at", "replayed_at", "reported_at", "reviewed", "since", "starts_at", "until"}
    | {"updated_at", "valid_from", "window_start"}
)

TABLES: Mapping[str, TableClause] = {
    view.name: table(
        view.name,
        *(column(one.name) for one in view.columns if (view.name, one.name) not in NOT_READ),
    )
    for view in VIEWS
}


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[Snapshot]:
    """One moment of the database. Raises SQLAlchemyError, OSError."""
    async with read_only(engine).connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = await connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        yield Snapshot(connection)


class Snapshot:
    """One moment of the database: everything that is asked of it agrees."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(
        self, view: str, *conditions: ColumnElement[bool], order: Sequence[str] = (), **equal: object
    ) -> list[Row]:
        """The rows of `view` that fulfil all; a list in `equal` stands for any of its values."""
        source = TABLES[view]
        query = (
            select(source).where(*conditions, *_equal(source, equal)).order_by(*(source.c[n] for n in order))
        )
        return await self.select(query)

    async def counts(self, view: str, *by: str, **equal: object) -> list[Row]:
        """How many rows there are of each combination of `by`, as `rows`."""
        source = TABLES[view]
        columns = [source.c[name] for name in by]
        query = select(*columns, func.count().label("rows")).where(*_equal(source, equal)).group_by(*columns)
        return await self.select(query.order_by(*columns))

    async def select(self, query: Select[Any]) -> list[Row]:
        """Any query's rows, with times as datetimes in UTC and days as dates."""
        result = await self._connection.execute(query)
        return [
            {name: _moment(value) if name in _TIMES else value for name, value in row.items()}
            for row in result.mappings()
        ]


def _equal(source: TableClause, equal: Mapping[str, object]) -> list[ColumnElement[bool]]:
    return [
        source.c[name].in_(value)
        if isinstance(value, list | tuple | set | frozenset)
        else source.c[name] == value
        for name, value in equal.items()
    ]


def _moment(value: object) -> object:
    if isinstance(value, str) and len(value) == len("2026-12-31"):
        return date.fromisoformat(value)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


# --- what the pages need --------------------------------------------------------------------------------

_ORDER = {  # by names, so that a page that is asked for again is the same
    "products": ("product",),
    "metrics": ("product", "metric"),
    "ledger": ("product",),
    "coverage": ("metric", "dimension"),
    "violations": ("product", "since", "rule", "segment"),
    "annotations": ("at", "event_id"),
    "needs": ("product", "need"),
    "bets": ("product", "bet"),
    "bet_results": ("bet", "metric", "segment"),
    "risks": ("risk",),
    "benchmarks": ("metric", "label", "year"),
    "metric_records": ("metric", "time_window"),
    "target_progress": ("product", "metric", "time_window", "segment", "due"),
    "value_pairs": ("impact_metric", "business_metric", "time_window"),
    "equity_gaps": ("metric", "dimension", "time_window", "segment"),
    "population_coverage": ("metric", "time_window", "segment"),
    "contributions": ("metric", "time_window", "segment", "arm"),
    "feature_results": ("metric", "time_window", "feature"),
    "net_values": ("metric", "time_window", "segment"),
}
_OF_MISSION = (
    *(
        "products",
        "metrics",
        "ledger",
        "coverage",
        "violations",
        "annotations",
        "needs",
        "bets",
        "bet_results",
    ),
    *("risks", "target_progress", "value_pairs", "equity_gaps"),
)


async def portfolio(one: Snapshot, product: str | None) -> Rows:
    """What the first page needs: of every product, or of one."""
    of = {} if product is None else {"product": product}
    views = ("products", "metrics", "target_progress", "violations", "needs", "bets")
    rows = {name: await one.rows(name, order=_ORDER[name], **of) for name in views}
    rows["rolling_metrics"] = await one.rows("rolling_metrics", segment=TOTAL, **of)
    stars = [row["north_star"] for row in rows["products"] if row["north_star"]]
    of_stars = of | {"segment": TOTAL, "metric": stars}
    rows["months"] = await one.rows("period_metrics", period="month", order=("starts_at",), **of_stars)
    return rows


async def mission(one: Snapshot, product: str) -> Rows:
    """What a product's page needs; `products` is empty if there is no such product."""
    of = {"product": product}
    rows = {name: await one.rows(name, order=_ORDER[name], **of) for name in _OF_MISSION}
    rows["rolling_metrics"] = await one.rows("rolling_metrics", segment=TOTAL, **of)
    rows["months"] = await one.rows(
        "period_metrics", segment=TOTAL, period="month", order=("starts_at",), **of
    )
    rows["intervals"] = await one.rows("intervals", segment=TOTAL, **of)
    rows["statuses"] = await one.counts("rolling_metrics", "metric", "time_window", "status", **of)
    rows["quarantine"] = await one.counts("quarantined_events", "code", replayed_at=None, **of)
    rows["revisions"] = await one.counts("metric_revisions", "metric", "reason", segment=TOTAL, **of)
    rows["log_holes"] = await one.rows("log_holes")
    return rows


async def trends(one: Snapshot, windows: Mapping[Name, str], since: datetime | None) -> list[Row]:
    """The totals of these metrics in these windows at the end of each day, from `since` on."""
    view = TABLES["metric_trends"]
    wanted = [
        and_(view.c.product == product, view.c.metric == metric, view.c.time_window == window)
        for (product, metric), window in windows.items()
    ]
    if not wanted:
        return []
    conditions = [view.c.segment == TOTAL, or_(*wanted)]
    if since is not None:
        conditions.append(view.c.at >= _bound(since))
    columns = [view.c[name] for name in ("product", "metric", "time_window", "at", "value")]
    return await one.select(select(*columns).where(*conditions).order_by(view.c.at))


async def metric(one: Snapshot, product: str, name: str) -> Rows:
    """What a metric's page needs but its segments; `metrics` are all of the product's."""
    of = {"product": product, "metric": name}
    rows: Rows = {"asked": [of], "products": await one.rows("products", product=product)}
    rows["metrics"] = await one.rows("metrics", product=product, order=("metric",))
    for view in _OF_METRIC:
        rows[view] = await one.rows(view, order=_ORDER[view], **of)
    rows["annotations"] = await one.rows("annotations", product=product)
    total = of | {"segment": TOTAL}
    rows["rolling_metrics"] = await one.rows("rolling_metrics", **total)
    rows["intervals"] = await one.rows("intervals", **total)
    rows["periods"] = await one.rows("period_metrics", order=("starts_at", "period"), **total)
    rows["months"] = [row for row in rows["periods"] if row["period"] == "month"]
    rows["statuses"] = await one.counts("rolling_metrics", "time_window", "status", **of)
    rows["quarantine"] = await one.counts(
        "quarantined_events", "event_type", product=product, replayed_at=None
    )
    rows["log_positions"] = await one.rows("log_positions", order=("topic", "partition"))
    rows["revisions"] = await _latest_revisions(one, of)
    return rows


_OF_METRIC = (
    *("target_progress", "equity_gaps", "contributions", "net_values", "population_coverage", "benchmarks"),
    *("metric_records", "coverage", "feature_results"),
)
REVISIONS_SHOWN = 50


async def segments(
    one: Snapshot, product: str, metric: str, window: str, *, after: str, limit: int
) -> list[Row]:
    """At most `limit` segments of one metric and window behind `after`, in the order of their text."""
    source = TABLES["rolling_metrics"]
    of = {"product": product, "metric": metric, "time_window": window}
    query = select(source).where(source.c.segment > after, source.c.segment != TOTAL, *_equal(source, of))
    return await one.select(query.order_by(source.c.segment).limit(limit))


async def _latest_revisions(one: Snapshot, of: Mapping[str, object]) -> list[Row]:
    source = TABLES["metric_revisions"]
    query = select(source).where(*_equal(source, of)).order_by(source.c.reported_at.desc())
    return await one.select(query.limit(REVISIONS_SHOWN))


_OF_DIGEST = (
    *("products", "metrics", "stakeholders", "target_progress", "violations", "equity_gaps"),
    *("bets", "bet_results", "risks", "annotations"),
)


async def digest(one: Snapshot, product: str) -> Rows:
    """What a digest needs; `products` is empty if there is no such product."""
    of = {"product": product}
    rows = {name: await one.rows(name, order=_ORDER.get(name, ()), **of) for name in _OF_DIGEST}
    for name in ("intervals", "metric_trends"):
        rows[name] = await one.rows(name, segment=TOTAL, **of)
    return rows


# --- what editions need ---------------------------------------------------------------------------------


_OF_EDITION = {  # in one order, so that the same state gives the same bytes
    "products": (),
    "stakeholders": ("stakeholder",),
    "target_progress": ("metric", "time_window", "segment", "due"),
    "benchmarks": ("metric", "label", "year"),
    "factor_values": ("factor", "valid_from", "version", "key"),
    "coverage": ("metric", "dimension"),
}


async def edition(one: Snapshot, product: str, period: Period, earlier: Earlier | None) -> Rows:
    """What an edition needs; `products` is empty if there is no such product.

    `values` are the period's, of every segment; `history` are the totals up to it; `reported` are the
    totals of the period of the edition before, as they are now, and `revisions` what changed in it since.
    """
    of = {"product": product}
    rows: Rows = {name: await one.rows(name, order=order, **of) for name, order in _OF_EDITION.items()}
    rows["metrics"] = await one.rows("metrics", order=("metric",), **of)
    view = TABLES["period_metrics"]
    kind = of | {"period": period.kind}
    rows["values"] = await one.rows(
        "period_metrics", view.c.starts_at == _bound(period.starts_at), order=("metric", "segment"), **kind
    )
    rows["history"] = await one.rows(
        "period_metrics",
        view.c.starts_at <= _bound(period.starts_at),
        order=("starts_at", "metric"),
        segment=TOTAL,
        **kind,
    )
    rows["log_positions"] = await one.rows("log_positions", order=("topic", "partition"))
    rows["quarantine"] = await one.counts("quarantined_events", "code", replayed_at=None, **of)
    rows["reported"], rows["revisions"] = [], []
    if earlier is not None:
        before = of | {"period": earlier.period.kind, "segment": TOTAL}
        starts = view.c.starts_at == _bound(earlier.period.starts_at)
        rows["reported"] = await one.rows("period_metrics", starts, order=("metric",), **before)
        rows["revisions"] = await _revisions(one, of, earlier)
    return rows


async def _revisions(one: Snapshot, of: Mapping[str, object], earlier: Earlier) -> list[Row]:
    """How many days of the earlier edition's period changed since, by metric and reason."""
    view = TABLES["metric_revisions"]
    columns = (view.c.metric, view.c.reason)
    query = select(*columns, func.count(view.c.bucket_start.distinct()).label("rows")).where(
        *_equal(view, {**of, "segment": TOTAL}),
        view.c.bucket_start >= _bound(earlier.period.starts_at),
        view.c.bucket_start < _bound(earlier.period.ends_at),
        view.c.reported_at > _bound(earlier.numbers_of),
    )
    return await one.select(query.group_by(*columns).order_by(*columns))


async def numbers_of(one: Snapshot, product: str) -> datetime | None:
    """When the product's numbers of calendar periods last changed; None if there are none."""
    view = TABLES["period_metrics"]
    latest = func.max(view.c.updated_at).label("updated_at")
    [row] = await one.select(select(latest).where(view.c.product == product))
    moment: datetime | None = row["updated_at"]
    return moment


async def as_of(one: Snapshot) -> datetime | None:
    """When the numbers are right; None before the first tick."""
    view = TABLES["rolling_metrics"]
    [row] = await one.select(select(func.max(view.c.as_of).label("as_of")))
    moment: datetime | None = row["as_of"]
    return moment


def _bound(moment: datetime) -> ColumnElement[int]:
    return literal(to_micros(moment), Instant)
