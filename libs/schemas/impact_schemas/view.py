"""What a view is, and the SQL that makes it on both databases, with a comment on every column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column: its name, its SQL, and what it means."""

    name: str
    sql: str
    comment: str
    sqlite_sql: str | None = None  # where it has to differ


@dataclass(frozen=True, slots=True)
class View:
    """One view: what a row is, its columns, and where they come from."""

    name: str
    comment: str
    columns: tuple[ViewColumn, ...]
    source: str
    sqlite_source: str | None = None  # where it has to differ


def number(expression: str) -> str:
    """An exact number as analysts get it."""
    # decimal text on SQLite becomes the nearest double by this; NUMERIC on PostgreSQL stays as it is
    return f"(0.0 + {expression})"


PRODUCT = ("product", "the product's name: the tenant")
METRIC = ("metric", "the metric's name in the product's catalog")
SEGMENT = (
    "segment",
    "JSON with sorted keys: {} is the total; null is the unknown group. Never add values over segments",
)


# Arms of experiments are segments too, of keys that begin with @: only comparisons show them.
OWN_SEGMENT = "s.segment NOT LIKE '{\"@%'"


def columns(*rows: tuple[str, str, str] | tuple[str, str, str, str]) -> tuple[ViewColumn, ...]:
    """Columns from their name, SQL and comment, and the SQL for SQLite where it has to differ."""
    return tuple(ViewColumn(*row) for row in rows)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def select_text(view: View, dialect: str) -> str:
    """The query of `view` on `dialect`; on SQLite with the comments in it."""
    sqlite = dialect == "sqlite"
    lines = [
        (
            f'  {column.sqlite_sql if sqlite and column.sqlite_sql else column.sql} AS "{column.name}"',
            f"  -- {column.comment}" if sqlite else "",
        )
        for column in view.columns
    ]
    body = "\n".join(
        sql + ("," if place < len(lines) - 1 else "") + remark for place, (sql, remark) in enumerate(lines)
    )
    head = f"SELECT  -- {view.comment}" if sqlite else "SELECT"
    source = view.sqlite_source if sqlite and view.sqlite_source else view.source
    return f"{head}\n{body}\n{source}"


def create_statements(view: View, dialect: str) -> Iterator[str]:
    """The SQL that makes `view` on `dialect` ('postgresql' or 'sqlite') with a comment on every column.

    SQLite has no COMMENT: there the comments stand in the view's own text, which `.schema` shows.
    """
    yield f"CREATE VIEW {view.name} AS {select_text(view, dialect)}"
    if dialect == "postgresql":
        yield f"COMMENT ON VIEW {view.name} IS {_quoted(view.comment)}"
        for column in view.columns:
            yield f'COMMENT ON COLUMN {view.name}."{column.name}" IS {_quoted(column.comment)}'
