"""Makes the typed view of every metric in force anew: when a catalog becomes active, and when migrating."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, inspect, select, text

from impact_schemas.metric_views import PREFIX, metric_views
from impact_schemas.tables import metric_dimension, metric_version
from impact_schemas.view import create_statements

if TYPE_CHECKING:
    from sqlalchemy import Connection

READER = "impact_reader"


def drop(connection: Connection) -> None:
    """Drops them: the views that they stand on cannot be made anew before."""
    for name in inspect(connection).get_view_names():
        if name.startswith(PREFIX):
            connection.exec_driver_sql(f'DROP VIEW "{name}"')


def make(connection: Connection) -> None:
    """Makes them, and lets analysts read them where the database has their role."""
    views = metric_views(_dimensions(connection))
    dialect = connection.dialect.name
    statements = [statement for view in views for statement in create_statements(view, dialect)]
    if dialect == "postgresql":
        if views and _has_reader(connection):
            statements.append(f"GRANT SELECT ON {', '.join(view.name for view in views)} TO {READER}")
        statements = [f"DO $views$ BEGIN {'; '.join(statements)}; END $views$"] if statements else []
    for statement in statements:  # on PostgreSQL one: hundreds of round trips would take seconds
        connection.exec_driver_sql(statement)


def remake(connection: Connection) -> None:
    """Drops and makes them."""
    drop(connection)
    make(connection)


def _dimensions(connection: Connection) -> dict[tuple[str, str], list[str]]:
    """Of every metric in force, in a fixed order."""
    metric, split = metric_version.c, metric_dimension.c
    rows = connection.execute(
        select(metric.product, metric.metric, split.dimension)
        .join(
            metric_dimension,
            and_(metric.product == split.product, metric.metric == split.metric),
            isouter=True,
        )
        .where(metric.active)
        .order_by(metric.product, metric.metric, split.position)
    )
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        found.setdefault((row.product, row.metric), []).extend([row.dimension] if row.dimension else [])
    return found


def _has_reader(connection: Connection) -> bool:
    roles = text("SELECT 1 FROM pg_roles WHERE rolname = :name")
    return connection.execute(roles, {"name": READER}).first() is not None
