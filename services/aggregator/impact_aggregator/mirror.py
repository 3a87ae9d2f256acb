"""What the catalogs say beside numbers, as tables: needs, bets, risks, dimensions, partners' files."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, insert

from impact_schemas import numbers
from impact_schemas.catalog.families import dimensions_of
from impact_schemas.partner_template import describe
from impact_schemas.tables import bet, factor_value, import_form, metric_dimension, need, risk, stakeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_schemas.catalog import Catalog

_json = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


async def mirror(connection: AsyncConnection, catalogs: Mapping[str, Catalog]) -> None:
    """Makes the rows of all catalogs anew."""
    for table, rows_of in _TABLES.items():
        await connection.execute(delete(table))
        rows = [
            {"product": product, **row} for product, catalog in catalogs.items() for row in rows_of(catalog)
        ]
        if rows:
            await connection.execute(insert(table), rows)


def _needs(catalog: Catalog) -> Iterator[dict[str, object]]:
    for name, one in catalog.needs.items():
        yield {"need": name, "statement": one.statement, "people": one.people, "source": one.source}


def _bets(catalog: Catalog) -> Iterator[dict[str, object]]:
    for name, one in catalog.bets.items():
        expects = [expected.model_dump() for expected in one.expects]
        yield {
            "bet": name,
            "title": one.title,
            "need": one.need,
            "hypothesis": one.hypothesis,
            "feature": one.feature,
            "launched": one.launched,
            "cost": None if one.cost is None else numbers.to_nanos(one.cost.value),
            "cost_unit": None if one.cost is None else one.cost.unit,
            "business_metric": one.business_metric,
            "expects": _json(expects).decode(),
        }


def _risks(catalog: Catalog) -> Iterator[dict[str, object]]:
    for one in catalog.risks:
        yield {
            "risk": one.id,
            "statement": one.statement,
            "who": one.who,
            "metric": one.metric,
            "review_every_days": None if one.review_every is None else one.review_every // timedelta(days=1),
            "reviewed": one.reviewed,
            "owner": one.owner,
        }


def _stakeholders(catalog: Catalog) -> Iterator[dict[str, object]]:
    for one in catalog.stakeholders:
        yield {
            "stakeholder": one.name,
            "title": one.title,
            "audience": one.audience,
            "metrics": _json(one.metrics).decode(),
            "period": one.period,
        }


def _factors(catalog: Catalog) -> Iterator[dict[str, object]]:
    for name, factors in catalog.factors.items():
        for edition in factors.editions:
            for key, value in edition.by_key().items():
                yield {
                    "factor": name,
                    "version": edition.version,
                    "key": key,
                    "valid_from": edition.valid_from,
                    "value": numbers.to_nanos(value),
                    "unit": factors.unit,
                    "source": edition.source or factors.source,
                }


def _dimensions(catalog: Catalog) -> Iterator[dict[str, object]]:
    for metric in catalog.metrics:
        for position, dimension in enumerate(dimensions_of(metric, catalog.metrics)):
            yield {"metric": metric, "dimension": dimension, "position": position}


def _imports(catalog: Catalog) -> Iterator[dict[str, object]]:
    for name, one in catalog.imports.items():
        yield {"form": name, "title": one.title, "definition": describe(catalog, one)}


_TABLES: dict[Table, Callable[[Catalog], Iterator[dict[str, object]]]] = {
    need: _needs,
    bet: _bets,
    risk: _risks,
    stakeholder: _stakeholders,
    factor_value: _factors,
    metric_dimension: _dimensions,
    import_form: _imports,
}
