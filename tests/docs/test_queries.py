"""Every query of the documents gives rows, and the same rows on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from impact_aggregator.mission.evaluation import Evaluation
from impact_aggregator.values import Metrics
from impact_schemas.catalog import parse_catalog
from impact_schemas.tables import to_micros
from tests.aggregator.conftest import Clock, correction, retraction, visit
from tests.aggregator.pipeline import pipeline
from tests.docs.documents import Block, blocks, read

if TYPE_CHECKING:
    from impact_schemas.catalog import Catalog

DAY = 86_400_000_000
QUERIES = [
    block
    for document in ("docs/analysts.md", "docs/ops.md", "docs/backends.md", "docs/reports.md")
    for block in blocks(read(document))
    if block.kind.startswith("sql")
]
Rows = list[tuple[Any, ...]]


def clinic() -> Catalog:
    (text,) = [block.text for block in blocks(read("README.md")) if block.kind == "yaml"]
    return parse_catalog(text, "clinic.yaml")


def at(day: int, hour: int = 9) -> int:
    return to_micros(datetime(2026, 3, day, hour, tzinfo=UTC))


async def rows_after_a_fortnight(url: str, queries: list[Block]) -> list[Rows]:
    """What the queries give after two weeks of visits, with everything in them that can happen to events."""
    clock = Clock(at(1))
    async with pipeline(url, clinic(), clock) as one:
        for day in range(1, 15):
            clock.now = at(day, 12)
            data: dict[str, Any] = {"language": ["sw", "en", None][day % 3]}
            await one.count(
                [
                    visit(f"v{day}-{n}", at(day), f"p{n + day % 4}", kept=n > 0, minutes=5 * n, **data)
                    for n in range(4)
                ]
            )
            assert await one.rolling.tick()
        clock.now = at(15)
        late = visit("late", at(3), "p9", received_at=at(15), kept=True, minutes=7, language="sw")
        conflict = visit("v1-1", at(1), "p2", received_at=at(15), kept=False, language="en")
        await one.count([late, conflict])
        await one.count([retraction("r1", "v2-1", at(15)), correction("c1", "v2-2", at(15), kept=False)])
        assert await one.rolling.tick()
        evaluation = Evaluation(one.engine, clock, "one", one.rolling)
        evaluation.use(one.catalogs, Metrics(one.catalogs, one.active.versions), one.active.generation)
        await evaluation.tick()
        return [await one.rows(query.text.rstrip().rstrip(";").replace(":", r"\:")) for query in queries]


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row without what differs between the databases by design: the types of numbers and times."""
    return tuple(map(_plain, row))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal | float):
        return round(float(value), 9)
    return str(value.replace(tzinfo=None)) if isinstance(value, datetime) else value


async def test_every_query_gives_the_same_rows_on_both_databases(
    sqlite_url: str, postgresql_url: str
) -> None:
    found: dict[str, list[Rows]] = {}
    for dialect, url in (("sqlite", sqlite_url), ("postgresql", postgresql_url)):
        queries = [query for query in QUERIES if query.kind in ("sql", f"sql {dialect}")]
        found[dialect] = await rows_after_a_fortnight(url, queries)
        for query, rows in zip(queries, found[dialect], strict=True):
            assert rows, f"line {query.line} gives nothing on {dialect}:\n{query.text}"
    for query, on_sqlite, on_postgresql in zip(queries, *found.values(), strict=True):
        assert list(map(plain, on_sqlite)) == list(map(plain, on_postgresql)), query.text
