"""The pages' routes: from a request over one snapshot of the database to HTML."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from impact_reports import metric_cards, metric_page, mission_page, portfolio_page, public, queries
from impact_reports.problems import Problem
from impact_reports.queries import snapshot
from impact_reports.sign_in import COOKIE, READ, same_origin
from impact_reports.templating import ASSETS, asset, asset_path, templates

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_reports.partner_store import PartnerStore
    from impact_reports.queries import Name, Rows, Snapshot
    from impact_reports.sign_in import Access

NOT_FOUND = "There is no such product or metric: the first page has what there is."


def routes(engine: AsyncEngine, access: Access, store: PartnerStore) -> APIRouter:
    """Every page but those under /public/ is for those whom `access` lets in."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def portfolio(request: Request) -> Response:
        viewer = await access.viewer(request)
        async with snapshot(engine) as one:
            rows = await queries.portfolio(one, viewer.product)
            await _add_trends(one, rows, _stars(rows))
        page = portfolio_page.page(rows)
        return _html(request, "portfolio.html", page=page, signed_in=viewer.signed_in)

    @router.get("/products/{product}")
    async def mission(request: Request, product: str) -> Response:
        viewer = await access.viewer(request)
        viewer.require(product)
        async with snapshot(engine) as one:
            rows = await _mission_rows(one, product)
        files = viewer.may_see_files and bool(await store.forms(product))
        return _mission(request, rows, f"/products/{product}", signed_in=viewer.signed_in, files=files)

    @router.get("/products/{product}/metrics/{metric}")
    async def of_metric(
        request: Request,
        product: str,
        metric: str,
        window: Annotated[str | None, Query(max_length=8)] = None,
        after: Annotated[str, Query(max_length=4096)] = "",
    ) -> Response:
        viewer = await access.viewer(request)
        viewer.require(product)
        rows, shown = await _metric_rows(engine, product, metric, window, after)
        base = f"/products/{product}"
        page = _metric(rows, metric, shown)
        return _html(request, "metric.html", page=page, base=base, signed_in=viewer.signed_in)

    @router.get("/public/{product}")
    async def public_mission(request: Request, product: str) -> Response:
        async with snapshot(engine) as one:
            rows = public.only(await _mission_rows(one, product))
        return _mission(request, rows, f"/public/{product}", public=True)

    @router.get("/public/{product}/metrics/{metric}")
    async def public_metric(
        request: Request,
        product: str,
        metric: str,
        window: Annotated[str | None, Query(max_length=8)] = None,
        after: Annotated[str, Query(max_length=4096)] = "",
    ) -> Response:
        rows, shown = await _metric_rows(engine, product, metric, window, after, public_only=True)
        page = _metric(rows, metric, shown)
        return _html(request, "metric.html", page=page, base=f"/public/{product}", public=True)

    @router.get("/sign-in")
    async def sign_in_form(request: Request, next: str = "/") -> Response:  # noqa: A002 (the form's name for it)
        return _html(request, "sign_in.html", next=_local(next), trouble="", live=False)

    @router.post("/sign-in")
    async def sign_in(
        request: Request,
        key: Annotated[str, Form(max_length=200)] = "",
        next: Annotated[str, Form(max_length=2000)] = "/",  # noqa: A002 (the form's name for it)
    ) -> Response:
        same_origin(request)
        answer = RedirectResponse(_local(next), 303)
        forwarded = request.headers.get("x-forwarded-proto", request.url.scheme)
        try:
            viewer = await access.sign_in(key, answer, secure=forwarded == "https")
        except Problem as problem:
            trouble = problem.detail
            page = _html(request, "sign_in.html", next=_local(next), trouble=trouble, live=False)
            page.status_code = problem.status
            return page
        if viewer.scopes is not None and not viewer.scopes & READ and _local(next) == "/":
            answer.headers["location"] = f"/products/{viewer.product}/files"
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        same_origin(request)
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @router.get("/static/{version}/{name}")
    async def static(version: str, name: str) -> Response:
        if name not in ASSETS or asset_path(name) != f"/static/{version}/{name}":
            raise Problem(404, "not_found", "There is no such file.")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(asset(name), headers=headers, media_type=ASSETS[name])

    return router


async def _mission_rows(one: Snapshot, product: str) -> Rows:
    rows = await queries.mission(one, product)
    windows = metric_cards.main_windows(rows)
    stars = _stars(rows)
    others = {name: window for name, window in windows.items() if name not in stars}
    longest = max((metric_cards.window_days(window) for window in others.values()), default=1)
    await _add_trends(one, rows, others, days=metric_cards.SPARK_DAYS + longest)
    await _add_trends(one, rows, stars)
    return rows


def _stars(rows: Rows) -> dict[Name, str]:
    """The windows of the metrics that stand for a mission."""
    windows = metric_cards.main_windows(rows)
    names = [(row["product"], row["north_star"]) for row in rows["products"]]
    return {name: windows[name] for name in names if name in windows}


async def _add_trends(one: Snapshot, rows: Rows, windows: dict[Name, str], days: int | None = None) -> None:
    """Of the last `days`, or of all that are kept."""
    as_of = mission_page.as_of(rows)
    since = None if as_of is None or days is None else as_of - timedelta(days=days)
    rows.setdefault("metric_trends", []).extend(await queries.trends(one, windows, since))


def _mission(
    request: Request,
    rows: Rows,
    base: str,
    *,
    signed_in: bool = False,
    public: bool = False,
    files: bool = False,
) -> Response:
    if not rows["products"]:
        raise Problem(404, "not_found", NOT_FOUND)
    page = mission_page.page(rows)
    return _html(
        request, "product.html", page=page, base=base, signed_in=signed_in, public=public, files=files
    )


async def _metric_rows(
    engine: AsyncEngine,
    product: str,
    name: str,
    window: str | None,
    after: str,
    *,
    public_only: bool = False,
) -> tuple[Rows, str]:
    """The rows of the page and the window that it shows. Raises Problem 404."""
    async with snapshot(engine) as one:
        rows = await queries.metric(one, product, name)
        rows = public.only(rows) if public_only else rows
        found = next((row for row in rows["metrics"] if row["metric"] == name), None)
        if found is None:
            raise Problem(404, "not_found", NOT_FOUND)
        try:
            shown = metric_page.window_of(rows, found, window)
        except LookupError as error:
            raise Problem(404, "not_found", str(error.args[0])) from error
        await _add_trends(one, rows, {(product, name): shown})
        limit = metric_page.SEGMENTS_A_PAGE + 1
        rows["segments"] = await queries.segments(one, product, name, shown, after=after, limit=limit)
    return rows, shown


def _metric(rows: Rows, name: str, window: str) -> metric_page.MetricPage:
    metric = next(row for row in rows["metrics"] if row["metric"] == name)
    return metric_page.page(rows, metric, window)


def _html(request: Request, template: str, **values: Any) -> Response:
    """304 where the browser has the same page already."""
    known = {"live": True, "signed_in": False, "public": False}
    body = templates().get_template(template).render(known | values).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache, private", "Vary": "Cookie, Authorization"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="text/html; charset=utf-8")


def message(problem: Problem) -> Response:
    """A refusal in words."""
    values = {"title": problem.title, "detail": problem.detail, "live": False, "signed_in": False}
    body = templates().get_template("message.html").render(values)
    return Response(body, problem.status, problem.headers, "text/html; charset=utf-8")


def to_sign_in(request: Request) -> Response:
    """The form, and then back to where one wanted to go."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(path, safe='')}", 303)


def _local(path: str) -> str:
    """A path of this site: never another site's address, however it is written."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if fine else "/"
