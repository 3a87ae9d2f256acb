"""Reads and writes many rows in one statement: arrays on PostgreSQL, VALUES and executemany on SQLite.

SQLAlchemy's own executemany takes 10 to 25 microseconds a row; this takes a tenth of it. Rows are tuples
with a value for each of the given columns of one table, in Python types (see `impact_schemas.tables`).
"""

# ruff: noqa: S608 (every name in these statements comes from the tables' own definitions)

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, LargeBinary, TypeDecorator, select, type_coerce
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.types import NullType

from impact_database.copy_format import copy_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Column, Dialect, FromClause, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

Row = tuple[Any, ...]
Columns = tuple["Column[Any]", ...]

_SQLITE_MAX_PARAMETERS = 32_766
_INTEGRITY = "23"  # the class of SQL states that say so
_COPY_FROM = 200  # rows; below that three more statements cost more than they save


async def insert(connection: AsyncConnection, columns: Columns, rows: Collection[Row]) -> None:
    """Inserts rows. Raises sqlalchemy.exc.IntegrityError if a key is there already."""
    await _write(connection, columns, rows, "")


async def insert_missing(connection: AsyncConnection, columns: Columns, rows: Collection[Row]) -> None:
    """Inserts the rows whose key is not there yet; the others stay as they are."""
    await _write(connection, columns, rows, "ON CONFLICT DO NOTHING")


async def upsert(
    connection: AsyncConnection,
    columns: Columns,
    rows: Collection[Row],
    *,
    add: Collection[str] = (),
) -> None:
    """Inserts rows, or overwrites all but the key where it is there; columns named in `add` are added up.

    Keys must differ within one call.
    """
    table = columns[0].table
    keys = {column.name for column in table.primary_key}
    changes = ", ".join(
        f'"{name}" = {table.description}."{name}" + excluded."{name}"'
        if name in add
        else f'"{name}" = excluded."{name}"'
        for name in (column.name for column in columns)
        if name not in keys
    )
    names = ", ".join(f'"{key}"' for key in sorted(keys))
    await _write(connection, columns, rows, f"ON CONFLICT ({names}) DO UPDATE SET {changes}")


async def delete_by_key(connection: AsyncConnection, key: Columns, unwanted: Sequence[Row]) -> None:
    """Deletes the rows whose `key` columns equal one of `unwanted`."""
    if not unwanted:
        return
    dialect = connection.dialect
    converted = _to_driver(key, unwanted, dialect)
    table = key[0].table.description
    if dialect.name == "postgresql":
        names = ", ".join(f'"{column.name}"' for column in key)
        match = " AND ".join(f't."{column.name}" = k."{column.name}"' for column in key)
        source = f"unnest({_arrays(key, dialect)}) AS k ({names})"
        arrays = tuple(list(values) for values in zip(*converted, strict=True))
        await connection.exec_driver_sql(f"DELETE FROM {table} t USING {source} WHERE {match}", arrays)
    else:
        match = " AND ".join(f'"{column.name}" = ?' for column in key)
        await connection.exec_driver_sql(f"DELETE FROM {table} WHERE {match}", converted)


async def select_by_key(
    connection: AsyncConnection,
    columns: Columns,
    key: Columns,
    wanted: Sequence[Row],
    folded: Mapping[str, str] | None = None,
) -> list[Row]:
    """The rows whose `key` columns equal one of `wanted`; those that are not there are left out.

    With `folded` PostgreSQL makes one row of those that agree in the key: see `select_range`.
    """
    dialect = connection.dialect
    if dialect.name == "postgresql" and len(key) == 1 and isinstance(key[0].type, LargeBinary) and wanted:
        return await _select_by_bytes(connection, columns, key[0], [row[0] for row in wanted])
    found: list[Row] = []
    for rows in _chunks(wanted, dialect, len(key)):
        converted = _to_driver(key, rows, dialect)
        if dialect.name == "postgresql":
            parameters = tuple(list(values) for values in zip(*converted, strict=True))
        else:
            parameters = tuple(value for row in converted for value in row)
        statement = _select_statement(columns, key, len(rows), dialect, tuple((folded or {}).items()))
        result = await connection.exec_driver_sql(statement, parameters)
        found += _from_driver(columns, result.all(), dialect)
    return found


async def _select_by_bytes(
    connection: AsyncConnection, columns: Columns, key: Column[Any], wanted: list[bytes]
) -> list[Row]:
    """Keys of one width as one packed value: the driver looks at each element of an array, at length."""
    width = len(wanted[0])
    names = ", ".join(f't."{column.name}"' for column in columns)
    packed = "substring($1::bytea FROM n * $2::int + 1 FOR $2::int)"
    keys = f"SELECT {packed} AS wanted FROM generate_series(0, $3::int - 1) n"
    statement = f'SELECT {names} FROM ({keys}) k JOIN {key.table.description} t ON t."{key.name}" = k.wanted'
    result = await connection.exec_driver_sql(statement, (b"".join(wanted), width, len(wanted)))
    return _from_driver(columns, result.all(), connection.dialect)


async def select_range(
    connection: AsyncConnection,
    columns: Columns,
    ids: tuple[Column[int], Sequence[int]],
    equal: tuple[Column[Any], Any],
    between: tuple[Column[Any], Any, Any],
    folded: Mapping[str, str] | None = None,
) -> list[Row]:
    """The rows of any of many ids, with one column equal to a value and one in a range, ends included.

    With `folded` PostgreSQL makes one row of those that agree in these three columns: each column named in it
    by that aggregate function, the others NULL. SQLite gives the rows as they are.
    """
    id_column, wanted = ids
    one, value = equal
    ranged, first, last = between
    if connection.dialect.name != "postgresql":
        condition = id_column.in_(wanted) & (one == value) & (ranged >= first) & (ranged <= last)
        return await select_rows(connection, select(*columns).where(condition), columns)
    table = id_column.table.description
    kept = {id_column.name, one.name, ranged.name}
    names = ", ".join(_folded(column, kept, folded) for column in columns)
    found = (
        f'SELECT * FROM {table} t WHERE t."{id_column.name}" = k.id AND t."{one.name}" = k.one'
        f' AND t."{ranged.name}" BETWEEN $3 AND $4 OFFSET 0'
    )
    # the value as a column: as a constant it would let the planner take a partial index in place of the key
    statement = f"SELECT {names} FROM unnest($1::bigint[], $2::text[]) AS k (id, one), LATERAL ({found}) AS t"
    if folded is not None:
        statement += " GROUP BY " + ", ".join(f't."{name}"' for name in sorted(kept))
    ((low,), (high,)) = _to_driver((ranged,), [(first,), (last,)], connection.dialect)
    result = await connection.exec_driver_sql(statement, (list(wanted), [value] * len(wanted), low, high))
    return _from_driver(columns, result.all(), connection.dialect)


def _folded(column: Column[Any], kept: Collection[str], folded: Mapping[str, str] | None) -> str:
    if folded is None or column.name in kept:
        return f't."{column.name}"'
    if column.name not in folded:
        return f'NULL AS "{column.name}"'
    value = f'{folded[column.name]}(t."{column.name}")'
    # the sum of integers is a decimal in PostgreSQL
    return f"CAST({value} AS bigint)" if isinstance(column.type, BigInteger) else value


async def _write(
    connection: AsyncConnection, columns: Columns, rows: Collection[Row], on_conflict: str
) -> None:
    if not rows:
        return
    dialect = connection.dialect
    if dialect.name == "postgresql" and len(rows) >= _COPY_FROM:
        await _copy(connection, columns, rows, on_conflict)
        return
    converted: Any = _to_driver(columns, rows, dialect)
    if dialect.name == "postgresql":
        converted = tuple(list(values) for values in zip(*converted, strict=True))
    await connection.exec_driver_sql(f"{_insert_statement(columns, dialect)} {on_conflict}", converted)


async def _copy(
    connection: AsyncConnection, columns: Columns, rows: Collection[Row], on_conflict: str
) -> None:
    """Many rows to PostgreSQL by COPY: where keys may be there already, by way of a temporary table."""
    table = columns[0].table.description
    if not on_conflict:
        await connection.exec_driver_sql("SELECT 1")  # begins the transaction, if it has not begun yet
        await _copy_into(connection, table, columns, rows)
        return
    names = ", ".join(f'"{column.name}"' for column in columns)
    incoming = f"incoming_{table}"
    # lives as long as the connection; the statement also begins the transaction that COPY needs
    await connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ON COMMIT DELETE ROWS"
        f" AS SELECT {names} FROM {table} WITH NO DATA"
    )
    await connection.exec_driver_sql(f"TRUNCATE {incoming}")
    await _copy_into(connection, incoming, columns, rows)
    await connection.exec_driver_sql(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {incoming} {on_conflict}"
    )


async def _copy_into(
    connection: AsyncConnection, table: str, columns: Columns, rows: Collection[Row]
) -> None:
    raw: Any = (await connection.get_raw_connection()).driver_connection
    names = [column.name for column in columns]
    try:
        if any(map(_own_kind, columns)):
            source = BytesIO(copy_rows(columns, rows))
            await raw.copy_to_table(table, source=source, columns=names, format="binary")
        else:  # the driver encodes these as quickly as it can be done
            await raw.copy_records_to_table(table, records=rows, columns=names)
    except Exception as error:  # the driver's own, which SQLAlchemy has not seen
        state = getattr(error, "sqlstate", None) or ""
        kind = IntegrityError if state.startswith(_INTEGRITY) else OperationalError
        raise kind(f"COPY {table}", None, error) from error


@lru_cache(maxsize=64)
def _insert_statement(columns: Columns, dialect: Dialect) -> str:
    table = columns[0].table
    names = ", ".join(f'"{column.name}"' for column in columns)
    if dialect.name == "postgresql":
        values = f"SELECT * FROM unnest({_arrays(columns, dialect)})"
    else:
        values = f"VALUES ({', '.join('?' for _ in columns)})"
    return f"INSERT INTO {table.description} ({names}) {values}"


@lru_cache(maxsize=64)
def _select_statement(
    columns: Columns, key: Columns, count: int, dialect: Dialect, folded: tuple[tuple[str, str], ...]
) -> str:
    table: FromClause = columns[0].table
    wanted = ", ".join(f'"{column.name}"' for column in key)
    match = " AND ".join(f't."{column.name}" = k."{column.name}"' for column in key)
    if dialect.name == "postgresql":
        # LATERAL with OFFSET says the same to PostgreSQL
        found = f"SELECT * FROM {table.description} t WHERE {match} OFFSET 0"
        kept = [column.name for column in key]
        names = ", ".join(_folded(column, kept, dict(folded) or None) for column in columns)
        source = f"unnest({_arrays(key, dialect)}) AS k ({wanted}), LATERAL ({found}) AS t"
        group = ", ".join(f't."{name}"' for name in kept)
        return f"SELECT {names} FROM {source}{f' GROUP BY {group}' if folded else ''}"
    names = ", ".join(f't."{column.name}"' for column in columns)
    row = f"({', '.join('?' for _ in key)})"
    rows = ", ".join(row for _ in range(count))
    # CROSS JOIN is SQLite's way to say: loop over the wanted keys, look each up
    return (
        f"WITH k ({wanted}) AS (VALUES {rows}) SELECT {names} FROM k"
        f" CROSS JOIN {table.description} t WHERE {match}"
    )


def _arrays(columns: Columns, dialect: Dialect) -> str:
    return ", ".join(f"${place}::{column.type.compile(dialect)}[]" for place, column in enumerate(columns, 1))


def _chunks(rows: Sequence[Row], dialect: Dialect, width: int) -> Iterator[Sequence[Row]]:
    size = len(rows) if dialect.name == "postgresql" else _SQLITE_MAX_PARAMETERS // width
    for start in range(0, len(rows), max(size, 1)):
        yield rows[start : start + size]


def _to_driver(columns: Columns, rows: Collection[Row], dialect: Dialect) -> list[Row]:
    kinds = [_own_kind(column) for column in columns]
    return _convert([kind.process_bind_param if kind else None for kind in kinds], rows, dialect)


def _from_driver(columns: Columns, rows: Iterable[Any], dialect: Dialect) -> list[Row]:
    kinds = [_own_kind(column) for column in columns]
    return _convert(
        [kind.process_result_value if kind else None for kind in kinds], [*map(tuple, rows)], dialect
    )


def _own_kind(column: Column[Any]) -> TypeDecorator[Any] | None:
    kind = column.type  # the drivers take and give all other types as they are
    return kind if isinstance(kind, TypeDecorator) else None


def _convert(
    converters: Sequence[Callable[[Any, Dialect], Any] | None], rows: Collection[Row], dialect: Dialect
) -> list[Row]:
    if not rows or not any(converters):
        return list(rows)
    by_column = [
        values
        if convert is None
        else [None if value is None else convert(value, dialect) for value in values]
        for convert, values in zip(converters, zip(*rows, strict=True), strict=True)
    ]
    return list(zip(*by_column, strict=True))


async def select_rows(connection: AsyncConnection, statement: Select[Any], columns: Columns) -> list[Row]:
    """Runs a select of just these columns; several times as quick as through SQLAlchemy's own types."""
    untyped = statement.with_only_columns(*(type_coerce(column, NullType()) for column in columns))
    result = await connection.execute(untyped)
    return _from_driver(columns, result.all(), connection.dialect)
