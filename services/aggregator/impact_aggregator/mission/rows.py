"""Rows of the mission layer in SQL: what was written is remembered, and only differences are written."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from impact_aggregator.mission.meaning import OF_METRIC, OF_SEGMENT
from impact_database import bulk
from impact_schemas.tables import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.mission.meaning import Row, Rows
    from impact_schemas.catalog import Catalog

Key = tuple[Any, ...]
Scope = tuple[str, str, str]  # product, metric and segment: what is said of more than one has '' there

_BY_NAME: dict[str, Table] = {table.name: table for table in MEANINGS}
_IS_OF_METRIC = {table.name for table in OF_METRIC}
_SEGMENT_AT = {table.name: list(table.c).index(table.c.segment) for table in OF_SEGMENT}


class MeaningRows:
    """The tables of the mission layer as they stand in SQL, and what of them is to be changed."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Scope, dict[Key, Row]]] = {name: {} for name in _BY_NAME}
        self._changed: dict[str, dict[Key, Row]] = defaultdict(dict)
        self._gone: dict[str, set[Key]] = defaultdict(set)

    def of(self, table: str) -> Iterator[Row]:
        """All rows of a table."""
        for rows in self._rows[table].values():
            yield from rows.values()

    def of_product(self, table: str, product: str) -> Iterator[Row]:
        """The rows of a table that speaks of products as a whole."""
        yield from self._rows[table].get((product, "", ""), {}).values()

    def replace(self, scope: Scope, rows: Rows) -> None:
        """The rows of a scope as they shall be, of each of the tables that are given."""
        for name, wanted in rows.items():
            width = len(_BY_NAME[name].primary_key)
            before = self._rows[name].get(scope, {})
            after = {tuple(row[:width]): row for row in wanted}
            self._changed[name].update((key, row) for key, row in after.items() if before.get(key) != row)
            self._gone[name].update(key for key in before if key not in after)
            self._rows[name][scope] = after

    async def read(self, connection: AsyncConnection, catalogs: Mapping[str, Catalog]) -> None:
        """Takes up what is there, and lets go of products and metrics that are in no catalog."""
        for name, table in _BY_NAME.items():
            self._rows[name] = {}
            for row in await bulk.select_rows(connection, select(table), tuple(table.c)):
                scope = _scope_of(name, row)
                self._rows[name].setdefault(scope, {})[tuple(row[: len(table.primary_key)])] = row
            for scope in list(self._rows[name]):
                catalog = catalogs.get(scope[0])
                if catalog is None or (scope[1] and scope[1] not in catalog.metrics):
                    self.replace(scope, {name: []})

    async def write(self, connection: AsyncConnection) -> None:
        """Writes what changed."""
        for name, keys in self._gone.items():
            key = tuple(_BY_NAME[name].primary_key)
            await bulk.delete_by_key(connection, key, sorted(keys - self._changed[name].keys()))
        for name, rows in self._changed.items():
            await bulk.upsert(connection, tuple(_BY_NAME[name].c), list(rows.values()))
        self._gone.clear()
        self._changed.clear()


def _scope_of(name: str, row: Row) -> Scope:
    if name in _SEGMENT_AT:
        return row[0], row[1], row[_SEGMENT_AT[name]]
    return row[0], row[1] if name in _IS_OF_METRIC else "", ""
