"""The query API: `GET /v1/products/{product}/metrics/{metric}` over the views, as JSON or CSV."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from sqlalchemy import literal, select, tuple_

from impact_reports import csv_text
from impact_reports.problems import PROBLEM_JSON, Problem
from impact_reports.queries import TABLES, TOTAL, snapshot
from impact_schemas.tables import Instant, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_reports.queries import Row, Snapshot
    from impact_reports.sign_in import Access

Window = Literal["5m", "1h", "24h", "7d", "28d", "90d", "365d", "all"]
Period = Literal["month", "quarter", "year"]
Resolution = Literal["1m", "1h", "1d"]
EVERY_SEGMENT = "*"
MAX_ROWS = 10_000
MAX_MICROS = 253_402_300_800_000_000  # the year 10000

_ABOUT = (
    "product",
    "metric",
    "version",
    "title",
    "unit",
    "quantity",
    "role",
    "level",
    "direction",
    "evidence",
)
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class _Source:
    """A view, the columns that are answered, and by which they are ordered: the last is the segment."""

    view: str
    columns: tuple[str, ...]
    kind: str  # the column that window, period or resolution choose
    at: str | None  # the column that `from` and `to` are about

    @property
    def order(self) -> tuple[str, ...]:
        return (self.at or self.kind, self.kind, "segment") if self.at else (self.kind, "segment")


_VALUE = ("value", "n", "status")
_NOW = _Source(
    "rolling_metrics", ("time_window", "segment", *_VALUE, "as_of", "window_start"), "time_window", None
)
_THEN = _Source("rolling_history", ("time_window", "at", "segment", *_VALUE), "time_window", "at")
_PERIODS = _Source(
    "period_metrics", ("period", "starts_at", "ends_at", "segment", *_VALUE, "closed"), "period", "starts_at"
)
_BUCKETS = _Source(
    "metric_buckets",
    ("resolution", "bucket_start", "segment", "count", "sum", "mean", "min", "max", "value"),
    "resolution",
    "bucket_start",
)


class Asked:
    """The query parameters of a metric's rows, checked. Raises Problem 400."""

    def __init__(
        self,
        window: Annotated[Window | None, Query(description="Rolling values of this window.")] = None,
        period: Annotated[Period | None, Query(description="Values of calendar periods, UTC.")] = None,
        resolution: Annotated[Resolution | None, Query(description="Buckets of this length.")] = None,
        segment: Annotated[
            str, Query(description='JSON like `{"language":"es"}`; `{}` is the total, `*` every segment.')
        ] = TOTAL,
        begin: Annotated[
            str | None,
            Query(
                alias="from",
                description="Rows at or after this day or time (UTC). With a window: of history.",
            ),
        ] = None,
        end: Annotated[str | None, Query(alias="to", description="Rows before it.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows in one answer.")] = 1000,
        cursor: Annotated[str | None, Query(description="`next` of the answer before.")] = None,
        format: Annotated[Literal["json", "csv"], Query(description="How it is answered.")] = "json",  # noqa: A002 (the contract's name)
    ) -> None:
        chosen = [name for name in (window, period, resolution) if name is not None]
        if len(chosen) > 1:
            raise Problem(400, "bad_query", "Give one of window, period and resolution.")
        self.chosen = chosen[0] if chosen else None
        self.begin, self.end = _moment("from", begin), _moment("to", end)
        if period is not None:
            self.source = _PERIODS
        elif resolution is not None:
            self.source = _BUCKETS
        else:
            self.source = _NOW if begin is None and end is None else _THEN
        self.segment = _segment(segment)
        self.limit = limit
        self.after = None if cursor is None else _position(cursor, len(self.source.order))
        self.format = format

    def query(self, product: str, metric: str) -> Select[Any]:
        """One row more than is answered, in the order of the cursor."""
        view = TABLES[self.source.view]
        order = [view.c[name] for name in self.source.order]
        where: list[ColumnElement[bool]] = [view.c.product == product, view.c.metric == metric]
        if self.chosen is not None:
            where.append(view.c[self.source.kind] == self.chosen)
        if self.segment is not None:
            where.append(view.c.segment == self.segment)
        if self.source.at is not None and self.begin is not None:
            where.append(view.c[self.source.at] >= literal(self.begin, Instant))
        if self.source.at is not None and self.end is not None:
            where.append(view.c[self.source.at] < literal(self.end, Instant))
        if self.after is not None:
            where.append(tuple_(*order) > tuple_(*self._bound(self.after)))
        columns = [view.c[name] for name in self.source.columns]
        return select(*columns).where(*where).order_by(*order).limit(self.limit + 1)

    def _bound(self, after: Sequence[Any]) -> list[Any]:
        if self.source.at is None:
            return list(after)
        if not isinstance(after[0], int):
            raise _bad_cursor()
        return [literal(after[0], Instant), *after[1:]]

    def cursor(self, last: Row) -> str:
        """Where the next answer goes on."""
        values = [last[name] for name in self.source.order]
        position = [to_micros(one) if isinstance(one, datetime) else one for one in values]
        return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def routes(engine: AsyncEngine, access: Access) -> APIRouter:
    """The routes; every request needs a key where the service is not open to all."""
    router = APIRouter(prefix="/v1/products", tags=["numbers"], responses=_REFUSALS)

    @router.get("", summary="The products that the key opens")
    async def products(request: Request) -> Response:
        viewer = await access.viewer(request)
        only = {} if viewer.product is None else {"product": viewer.product}
        async with snapshot(engine) as one:
            return _json({"products": await one.rows("products", order=("product",), **only)})

    @router.get("/{product}/metrics", summary="A product's metrics and their definitions")
    async def metrics(request: Request, product: str) -> Response:
        (await access.viewer(request)).require(product)
        async with snapshot(engine) as one:
            rows = await one.rows("metrics", order=("metric",), product=product)
            if not rows and not await one.rows("products", product=product):
                raise Problem(404, "not_found", "There is no such product.")
        return _json({"metrics": [_defined(row) for row in rows]})

    @router.get("/{product}/metrics/{metric}", summary="A metric's numbers", responses=_NUMBERS)
    async def numbers(
        request: Request, product: str, metric: str, asked: Annotated[Asked, Depends()]
    ) -> Response:
        (await access.viewer(request)).require(product)
        async with snapshot(engine) as one:
            about = await _about(one, product, metric)
            rows = await one.select(asked.query(product, metric))
        following = asked.cursor(rows[asked.limit - 1]) if len(rows) > asked.limit else None
        shown = rows[: asked.limit]
        if asked.format == "csv":
            return _csv(asked, shown, request, following)
        return _json({**about, "rows": [_closed(row) for row in shown], "next": following})

    return router


async def _about(one: Snapshot, product: str, metric: str) -> Row:
    found = await one.rows("metrics", product=product, metric=metric)
    if not found:
        raise Problem(
            404, "not_found", "There is no such metric: GET /v1/products/{product}/metrics lists them."
        )
    return {name: found[0][name] for name in _ABOUT}


def _defined(row: Row) -> Row:
    return {name: row[name] for name in _ABOUT} | {"definition": msgspec.Raw(row["definition"].encode())}


def _closed(row: Row) -> Row:
    return row | {"closed": bool(row["closed"])} if "closed" in row else row


def _json(document: object) -> Response:
    return Response(_encoder.encode(document), media_type="application/json")


def _csv(asked: Asked, rows: Sequence[Row], request: Request, following: str | None) -> Response:
    columns = asked.source.columns
    body = csv_text.written(columns, [[_text(row[name]) for name in columns] for row in rows])
    headers = {}
    if following is not None:
        headers["Link"] = f'<{request.url.include_query_params(cursor=following)}>; rel="next"'
    return Response(body, headers=headers, media_type="text/csv; charset=utf-8; header=present")


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


# --- parameters -----------------------------------------------------------------------------------------


def _moment(name: str, text: str | None) -> int | None:
    """Microseconds of a day or a time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return to_micros(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError) as error:
        raise Problem(
            400, "bad_query", f"`{name}` is a day or a time, like 2026-01-31 or 2026-01-31T08:00:00Z."
        ) from error


def _segment(text: str) -> str | None:
    """As the views write it: compact, with sorted keys; None for every segment."""
    if text == EVERY_SEGMENT:
        return None
    try:
        segment = json.loads(text)
    except (ValueError, RecursionError):
        segment = None
    if not isinstance(segment, dict):
        raise Problem(400, "bad_query", 'The segment is JSON like {"language":"es"}, {} or *.')
    return json.dumps(segment, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _position(cursor: str, length: int) -> list[Any]:
    try:
        position = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (ValueError, RecursionError, binascii.Error) as error:
        raise _bad_cursor() from error
    if not isinstance(position, list) or len(position) != length or not _plain(position):
        raise _bad_cursor()
    return position


def _plain(position: Sequence[Any]) -> bool:
    moments = [one for one in position if isinstance(one, int) and abs(one) < MAX_MICROS]
    names = [one for one in position if isinstance(one, str) and "\0" not in one]
    return len(moments) + len(names) == len(position) and all(isinstance(one, str) for one in position[1:])


def _bad_cursor() -> Problem:
    return Problem(400, "bad_query", "The cursor is not one of this query: begin again without it.")


# --- how it is described --------------------------------------------------------------------------------

_PROBLEM = {
    PROBLEM_JSON: {
        "schema": {
            "type": "object",
            "required": ["type", "title", "status", "code", "detail"],
            "properties": {
                **{name: {"type": "string"} for name in ("type", "title", "code", "detail")},
                "status": {"type": "integer"},
            },
        }
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter is wrong.", "content": _PROBLEM},
    401: {"description": "No valid key.", "content": _PROBLEM},
    403: {"description": "The key may not read, or opens another product.", "content": _PROBLEM},
    404: {"description": "There is no such product or metric.", "content": _PROBLEM},
    503: {"description": "The metrics database does not answer now.", "content": _PROBLEM},
}
_NUMBERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The metric and its rows. `value` is null unless `status` is ok or stale: unknown is"
        " never 0. Never add up values over segments.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": [*_ABOUT, "rows", "next"],
                    "properties": {
                        **{name: {} for name in _ABOUT},
                        "rows": {"type": "array", "items": {"type": "object"}},
                        "next": {
                            "type": ["string", "null"],
                            "description": "The cursor of the next answer; null after the last row.",
                        },
                    },
                }
            },
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}
