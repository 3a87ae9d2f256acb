"""The active catalog as a row in the database: which versions are in force, under which generation.

A process that holds another catalog folds nothing: every commit compares the generation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import insert, select, update

from impact_aggregator.mirror import mirror
from impact_aggregator.rules import TOTAL, Series
from impact_database import bulk, metric_views
from impact_schemas.catalog.protection import family_of
from impact_schemas.tables import catalog_state, changed_series, metric_version, product, series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from impact_schemas.catalog import Catalog

# what decides a metric's numbers: a change in one of these makes a new version
_COUNTING = {"event", "where", "aggregate", "of", "per", "ratio", "unit", "quantity", "dimensions", "cuts"}
# the same, of fields that count only where they are set: a metric without them keeps its version
_COUNTING_IF_SET = {"sum_of", "difference", "unit_path", "factor", "scale", "consent"}


@dataclass(frozen=True, slots=True)
class ActiveCatalog:
    """What is in force: commits are taken under `generation` only."""

    generation: int
    hash: str
    versions: Mapping[tuple[str, str], int]  # (product, metric) -> version


def catalogs_hash(catalogs: Mapping[str, Catalog]) -> str:
    """The same for the same catalogs, whatever the layout of their files."""
    dumps = [catalogs[name].model_dump_json() for name in sorted(catalogs)]
    return hashlib.sha256("\n".join(dumps).encode()).hexdigest()


def counting_hash(catalog: Catalog, name: str) -> str:
    """Of what decides a metric's numbers: where it differs, the numbers are others."""
    metric = catalog.metrics[name]
    include = _COUNTING | {field for field in _COUNTING_IF_SET if getattr(metric, field)}
    text = metric.model_dump_json(include=include)
    if metric.factor is not None:
        text += catalog.factors[metric.factor.set].model_dump_json(exclude={"source", "file"})
    if (family := family_of(catalog, name)) is not None:
        text += family.block  # subjects are kept of what is protected; two grids would show what lies between
    return hashlib.sha256(text.encode()).hexdigest()


def definition(catalog: Catalog, name: str) -> str:
    """The catalog's entry as JSON, with the factor set that it uses as `factor_set`."""
    metric = catalog.metrics[name]
    text = metric.model_dump_json(exclude_none=True)
    if metric.factor is None:
        return text
    factors = catalog.factors[metric.factor.set].model_dump_json(exclude_none=True)
    return f'{text[:-1]},"factor_set":{factors}}}'


def changed_editions(before: str, after: str) -> str | None:
    """Which editions of factors make the numbers of two definitions differ; None if it is not they."""
    old, new = (msgspec.json.decode(text) for text in (before, after))
    if any(old.get(field) != new.get(field) for field in _COUNTING | _COUNTING_IF_SET):
        return None
    known = old.get("factor_set", {}).get("editions", [])
    editions = new.get("factor_set", {}).get("editions", [])
    if known == editions:
        return None
    changed = [edition["version"] for edition in editions if edition not in known]
    return " ".join([new["factor"]["set"], *changed])


async def activate(engine: AsyncEngine, catalogs: Mapping[str, Catalog], now: int) -> ActiveCatalog:
    """Makes `catalogs` the active ones, in one transaction; nothing changes if they are already.

    A metric whose counting changed gets a new version, whose numbers start empty: two versions never mix.
    """
    digest = catalogs_hash(catalogs)
    async with engine.begin() as connection:
        # locks the row: two processes that activate at once do it one after the other
        await connection.execute(update(catalog_state).values(id=1))
        state = (await connection.execute(select(catalog_state))).one()
        generation = state.generation
        if state.hash != digest:
            generation += 1
            await _write(connection, catalogs)
            await connection.execute(
                update(catalog_state).values(generation=generation, hash=digest, activated_at=now)
            )
        rows = await connection.execute(
            select(metric_version.c.product, metric_version.c.metric, metric_version.c.version).where(
                metric_version.c.active
            )
        )
        versions = {(row.product, row.metric): row.version for row in rows}
    return ActiveCatalog(generation, digest, versions)


async def active_state(engine: AsyncEngine) -> tuple[int, str]:
    """Generation and hash of what is active now."""
    async with engine.connect() as connection:
        row = (await connection.execute(select(catalog_state))).one()
    return row.generation, row.hash


async def _write(connection: AsyncConnection, catalogs: Mapping[str, Catalog]) -> None:
    before = await _latest_versions(connection)
    await connection.execute(update(product).values(active=False))
    await connection.execute(update(metric_version).values(active=False))
    columns = tuple(product.c)
    await bulk.upsert(connection, columns, [_product_row(catalog) for catalog in catalogs.values()])
    entries = [
        _version_row(catalog, metric, before) for catalog in catalogs.values() for metric in catalog.metrics
    ]
    names = tuple(column.name for column in metric_version.c)
    await bulk.upsert(
        connection, tuple(metric_version.c), [tuple(entry[name] for name in names) for entry in entries]
    )
    await mirror(connection, catalogs)
    await connection.run_sync(metric_views.remake)
    totals = [Series(str(e["product"]), str(e["metric"]), int(str(e["version"])), TOTAL) for e in entries]
    rows = [(total.series_id, *total) for total in totals]
    await bulk.insert_missing(connection, tuple(series.c), rows)
    if totals:  # a metric without events shows as no_data from the start
        ids = [{"series_id": total.series_id} for total in totals]
        await connection.execute(insert(changed_series), ids)


async def _latest_versions(connection: AsyncConnection) -> dict[tuple[str, str], tuple[int, str]]:
    table = metric_version.c
    rows = await connection.execute(
        select(table.product, table.metric, table.version, table.counting_hash).order_by(table.version)
    )
    return {(row.product, row.metric): (row.version, row.counting_hash) for row in rows}


def _product_row(catalog: Catalog) -> tuple[object, ...]:
    mission = catalog.mission
    texts = (mission.statement, mission.beneficiaries, mission.north_star) if mission else (None, None, None)
    values = dict(zip(("statement", "beneficiaries", "north_star"), texts, strict=True))
    entry = {"product": catalog.product, "title": catalog.title, "active": True, **values}
    return tuple(entry[column.name] for column in product.c)


def _version_row(
    catalog: Catalog, name: str, before: Mapping[tuple[str, str], tuple[int, str]]
) -> dict[str, object]:
    metric = catalog.metrics[name]
    counted_by = counting_hash(catalog, name)
    version, last_hash = before.get((catalog.product, name), (0, ""))
    family = family_of(catalog, name)
    protection = family if family is not None and name in family.protected else None
    return {
        "product": catalog.product,
        "metric": name,
        "version": version if counted_by == last_hash else version + 1,
        "counting_hash": counted_by,
        "active": True,
        "title": metric.title,
        "unit": metric.unit,
        "quantity": metric.quantity,
        "role": metric.role,
        "level": metric.level,
        "direction": metric.direction,
        "aggregate": metric.aggregate or metric.derivation,
        "evidence": metric.evidence.level,
        "method": metric.evidence.method,
        "source": metric.evidence.source,
        "owner": metric.evidence.owner,
        "sdg": _json(metric.codes.sdg),
        "iris": _json(metric.codes.iris),
        "min_cell": protection.min_cell if protection else None,
        "definition": definition(catalog, name),
        "block": protection.block if protection else None,
    }


def _json(codes: tuple[str, ...]) -> str | None:
    return msgspec.json.encode(codes).decode() if codes else None
