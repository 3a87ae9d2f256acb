"""The pages for partners' files: template, upload, preview, approval, receipt, undo.

A key is asked for at every deed and goes to the door with it, so that no session and no other site can do
anything here. A file that is looked at stays in the page that its sender has before them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import UploadFile

from impact_reports import partner_page, workbook
from impact_reports.partner_door import DoorUnavailable
from impact_reports.partner_files import MAX_NAME, Approval, PartnerFiles, Upload, can_go_back
from impact_reports.problems import Problem
from impact_reports.queries import snapshot
from impact_reports.sign_in import APPROVE, UPLOAD, same_origin
from impact_reports.templating import templates
from impact_schemas.partner_rows import WrongFile, csv_lines, read_rows
from impact_schemas.partner_template import csv_template

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_reports.partner_files import Outlook
    from impact_reports.partner_store import Form, PartnerStore, Run
    from impact_reports.sign_in import Access, Viewer
    from impact_schemas.catalog.row_mapping import RowMapping

MAX_FILE_BYTES = 2 * 2**20  # 5,000 rows of 20 columns are half a megabyte
MAX_BODY_BYTES = 4 * 2**20  # the same as base64, and the rest of a form
MAX_ROWS = 5_000  # new ones are looked up at the door one by one, about 1 ms each
AT_ONCE = 2  # files in memory, and at the door, of one process

OFF = (
    "Uploads are off: this service does not know the door that events go through. Whoever runs it sets "
    "IMPACT_INGEST_URL to the address of the ingest service, and IMPACT_SESSION_KEY."
)
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

log = structlog.get_logger()


class _Given(NamedTuple):
    """What a form sent."""

    key: str
    name: str
    content: bytes
    replace: bool
    seal: str


class _Read(NamedTuple):
    upload: Upload
    lines: dict[int, list[str]]


def routes(engine: AsyncEngine, access: Access, store: PartnerStore, files: PartnerFiles | None) -> APIRouter:
    """`files` None: there is no door to send them through."""
    router = APIRouter(include_in_schema=False)
    room = asyncio.Semaphore(AT_ONCE)

    @router.get("/products/{product}/files")
    async def overview(request: Request, product: str) -> Response:
        viewer = await _viewer(access, request, product)
        return await _files_page(engine, store, files, product, viewer)

    @router.get("/products/{product}/files/{form}/template.{kind}")
    async def template(request: Request, product: str, form: str, kind: str) -> Response:
        await _viewer(access, request, product)
        found = await _form(store, product, form)
        columns = found.described.columns
        if kind == "csv":
            body, media = csv_template(columns, found.described.row_mapping()), "text/csv; charset=utf-8"
        elif kind == "xlsx":
            body, media = await asyncio.to_thread(workbook.template, columns, found.title), XLSX
        else:
            raise Problem(404, "not_found", "A template is .csv or .xlsx.")
        name = f"{product}-{form}.{kind}"
        return Response(body, headers=_kept_by_nobody(f'attachment; filename="{name}"'), media_type=media)

    @router.post("/products/{product}/files/{form}/preview")
    async def preview(request: Request, product: str, form: str) -> Response:
        same_origin(request)
        viewer = await _viewer(access, request, product)
        given = await _given(request)
        found = await _form(store, product, form)
        try:
            await access.key(given.key, UPLOAD, product)
            async with _turn(room):
                read, outlook = await _look(_on(files), found, given)
        except (Problem, WrongFile, DoorUnavailable) as error:
            trouble = (form, _words(error))
            return await _files_page(engine, store, files, product, viewer, trouble, _status(error))
        return await _preview_page(engine, viewer, found, given, (read, outlook))

    @router.post("/products/{product}/files/{form}/approve")
    async def approve(request: Request, product: str, form: str) -> Response:
        same_origin(request)
        viewer = await _viewer(access, request, product)
        given = await _given(request)
        found = await _form(store, product, form)
        async with _turn(room):
            looked = None
            try:
                key = await access.key(given.key, APPROVE, product)
                looked = await _look(_on(files), found, given)
                approval = Approval(given.key, key.key_id)
                importid = await _on(files).approve(found, looked[1], given.seal, approval)
            except (Problem, WrongFile, DoorUnavailable) as error:
                trouble = (_words(error), _status(error))
                return await _preview_page(engine, viewer, found, given, looked, trouble)
        log.info("import_approved", product=product, importid=importid, key_id=key.key_id)
        return RedirectResponse(f"/products/{quote(product)}/imports/{importid}", 303)

    @router.get("/products/{product}/imports/{importid}")
    async def receipt(request: Request, product: str, importid: str) -> Response:
        viewer = await _viewer(access, request, product)
        run = await _run(store, product, importid)
        return await _receipt_page(engine, store, run, viewer)

    @router.post("/products/{product}/imports/{importid}/undo")
    async def undo(request: Request, product: str, importid: str) -> Response:
        same_origin(request)
        viewer = await _viewer(access, request, product)
        given = await _given(request)
        run = await _run(store, product, importid)
        try:
            found = await _form(store, product, run.form)
            key = await access.key(given.key, APPROVE, product)
            async with _turn(room):
                undone = await _on(files).undo(found, run, Approval(given.key, key.key_id))
        except (Problem, DoorUnavailable) as error:
            return await _receipt_page(engine, store, run, viewer, (_words(error), _status(error)))
        log.info("import_undone", product=product, importid=undone, key_id=key.key_id)
        return RedirectResponse(f"/products/{quote(product)}/imports/{undone}", 303)

    return router


# --- who, what, and what was given --------------------------------------------------------------------


async def _viewer(access: Access, request: Request, product: str) -> Viewer:
    viewer = await access.partner(request)
    viewer.require(product)
    return viewer


async def _form(store: PartnerStore, product: str, name: str) -> Form:
    found = next((one for one in await store.forms(product) if one.name == name), None)
    if found is None:
        raise Problem(404, "not_found", "The catalog of this product describes no such file.")
    return found


async def _run(store: PartnerStore, product: str, importid: str) -> Run:
    run = await store.run(product, importid)
    if run is None:
        raise Problem(404, "not_found", "There is no such import.")
    return run


def _on(files: PartnerFiles | None) -> PartnerFiles:
    if files is None:
        raise Problem(503, "uploads_off", OFF)
    return files


class _turn:  # noqa: N801 (used like a function)
    """A place among the few files that are worked on at once. Raises Problem 503."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room = room

    async def __aenter__(self) -> None:
        if self._room.locked():
            detail = "Other files are being worked on: wait a moment, then send the form again."
            raise Problem(503, "busy", detail, {"Retry-After": "10"})
        await self._room.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._room.release()


async def _given(request: Request) -> _Given:
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:  # the server reads no more than that
        detail = f"A file has at most {MAX_FILE_BYTES // 2**20} MiB: go back, and send it in parts."
        raise Problem(413, "too_large", detail)
    form = await request.form(max_files=1, max_fields=10, max_part_size=MAX_BODY_BYTES)
    file = form.get("file")
    if isinstance(file, UploadFile):
        name, content = file.filename or "", await file.read(MAX_FILE_BYTES + 1)
    else:
        name, content = _text(form.get("name")), _decoded(_text(form.get("content")))
    await form.close()
    printable = "".join(char for char in name.replace("\\", "/").rpartition("/")[2] if char.isprintable())
    return _Given(
        key=_text(form.get("key")).strip(),
        name=printable[:MAX_NAME] or "file",
        content=content,
        replace=_text(form.get("replace")) == "yes",
        seal=_text(form.get("seal")),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, "bad_form", "The form came back damaged: upload the file again.") from error


async def _look(files: PartnerFiles, form: Form, given: _Given) -> tuple[_Read, Outlook]:
    read = await asyncio.to_thread(_read, given, form.described.row_mapping())
    return read, await files.look(form, read.upload, given.key, replace=given.replace)


def _read(given: _Given, mapping: RowMapping) -> _Read:
    """Raises WrongFile."""
    if not given.content:
        raise WrongFile("no file was chosen, or it is empty: choose one, then press the button again")
    if len(given.content) > MAX_FILE_BYTES:
        raise WrongFile(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB: send it in parts")
    is_book = workbook.is_workbook(given.content)
    lines: dict[int, list[str]] = {}
    for number, cells in (workbook.read_lines if is_book else csv_lines)(given.content, mapping):
        lines[number] = list(cells)
        if len(lines) > MAX_ROWS + 2:
            raise WrongFile(f"the file has more than {MAX_ROWS:,} rows: send it in parts")
    rows = read_rows(lines.items(), mapping)
    return _Read(Upload(given.name, hashlib.sha256(given.content).hexdigest(), rows), lines)


def _words(error: Exception) -> str:
    text = error.detail if isinstance(error, Problem) else str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _status(error: Exception) -> int:
    if isinstance(error, Problem):
        return error.status
    return 503 if isinstance(error, DoorUnavailable) else 422


# --- pages ----------------------------------------------------------------------------------------------


async def _files_page(
    engine: AsyncEngine,
    store: PartnerStore,
    files: PartnerFiles | None,
    product: str,
    viewer: Viewer,
    trouble: tuple[str, str] | None = None,
    status: int = 200,
) -> Response:
    return _html(
        "files.html",
        status,
        **await _about(engine, product, viewer),
        forms=await store.forms(product),
        runs=[partner_page.run_line(run) for run in await store.runs(product)],
        off=OFF if files is None else "",
        trouble=trouble,
        max_rows=MAX_ROWS,
        max_mib=MAX_FILE_BYTES // 2**20,
    )


async def _preview_page(
    engine: AsyncEngine,
    viewer: Viewer,
    form: Form,
    given: _Given,
    looked: tuple[_Read, Outlook] | None,
    trouble: tuple[str, int] = ("", 200),
) -> Response:
    """Without a look only what went wrong, and the form to try again with."""
    page = None
    if looked is not None:
        read, outlook = looked
        page = partner_page.preview(outlook, form.described.row_mapping(), read.lines)
    return _html(
        "file_preview.html",
        trouble[1],
        **await _about(engine, form.product, viewer),
        form=form,
        page=page,
        trouble=trouble[0],
        name=given.name,
        replace=given.replace,
        content=base64.b64encode(given.content).decode(),
        seal=given.seal if looked is None else looked[1].seal(),
    )


async def _receipt_page(
    engine: AsyncEngine,
    store: PartnerStore,
    run: Run,
    viewer: Viewer,
    trouble: tuple[str, int] = ("", 200),
) -> Response:
    accepted = await store.steps(run.importid, "accepted")
    rejected = await store.steps(run.importid, "rejected")
    undo = await store.undo_of(run.product, run.importid)
    done = None if undo is None or undo.state == "interrupted" else undo.importid
    return _html(
        "file_receipt.html",
        trouble[1],
        **await _about(engine, run.product, viewer),
        page=partner_page.receipt(run, rejected, [can_go_back(one) for one in accepted], done),
        run=run,
        trouble=trouble[0],
    )


async def _about(engine: AsyncEngine, product: str, viewer: Viewer) -> dict[str, Any]:
    """What all these pages need. Raises Problem 404."""
    async with snapshot(engine) as one:
        rows = await one.rows("products", product=product)
    if not rows:
        raise Problem(404, "not_found", "There is no such product: the first page has what there is.")
    return {"product": product, "title": rows[0]["title"], "signed_in": viewer.signed_in}


def _html(template: str, status: int, **values: Any) -> Response:
    body = templates().get_template(template).render({"live": False, "public": False, **values})
    return Response(body, status, _kept_by_nobody(), "text/html; charset=utf-8")


def _kept_by_nobody(disposition: str | None = None) -> dict[str, str]:
    """A preview holds a partner's rows: no cache keeps it."""
    return {"Cache-Control": "no-store"} | ({"Content-Disposition": disposition} if disposition else {})
