"""The pages for partners' files on both databases: what they say, who may do what, and what is kept."""

from __future__ import annotations

import asyncio
import base64
from html import unescape
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from impact_cli.erasure import _forget_rows
from impact_reports import partner_files, partner_routes
from impact_reports.partner_store import SILENT_US
from tests.partner.conftest import FORM, HEADER, Clinic, Pages, counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FILES = "/products/clinic/files"
ANNA = "+254-700-000-001"
BEN = "+254-700-000-002"
HOUSE = "Kibera-house-17"
ROWS = (f"{ANNA},2025-12-01,30,en,{HOUSE}", f"{ANNA},2025-12-02,20,en,{HOUSE}", f"{BEN},2025-12-01,10,sw,")


async def test_a_file_is_sent_again_with_changes_and_taken_back(clinic: Clinic, pages: Pages) -> None:
    assert counts(await pages.look(*ROWS)) == (3, 0, 0, 0, 0)
    assert clinic.door.events == {}
    assert await clinic.everything_kept() == ""
    first = await pages.sent(*ROWS)
    assert clinic.door.counted() == [
        (ANNA, "2025-12-01", 30),
        (ANNA, "2025-12-02", 20),
        (BEN, "2025-12-01", 10),
    ]
    changed = (ROWS[0], ROWS[1], ROWS[2].replace(",10,", ",15.5,"))
    page = await pages.look(*changed)
    assert counts(page) == (0, 1, 2, 0, 0)
    assert "<del>10</del>" in page.text
    assert "<ins>15.5</ins>" in page.text
    second = await pages.sent(*changed)
    assert (BEN, "2025-12-01", 15.5) in clinic.door.counted()
    assert len(clinic.door.data) == 1
    assert (await pages.undo(first)).status_code == 409
    assert (await pages.undo(second)).status_code == 303
    assert (BEN, "2025-12-01", 10) in clinic.door.counted()
    assert (await pages.undo(first)).status_code == 303
    assert clinic.door.counted() == []
    assert counts(await pages.look(*ROWS)) == (3, 0, 0, 0, 0)
    await pages.sent(*ROWS)
    assert len(clinic.door.counted()) == 3


async def test_nothing_personal_is_kept(clinic: Clinic, pages: Pages) -> None:
    await pages.sent(*ROWS)
    bad = f"{BEN},2025-12-03,666,sw,{HOUSE}"  # rejected when it is sent
    worse = f"{BEN},2025-12-04,many,sw,{HOUSE}"  # never sent
    importid = await pages.sent(ROWS[0].replace(",30,", ",31,"), ROWS[2].replace(",sw,", ",en,"), bad, worse)
    said = await pages.receipt(importid) + (await pages.client.get(FILES)).text
    kept = await clinic.everything_kept()
    assert "666 is too much" in said
    assert "line 5, minutes" in said
    for personal in (ANNA, BEN, HOUSE, "many"):
        assert personal not in kept
        assert personal not in said
    for key in (clinic.approver, clinic.partner):
        assert key not in kept
    assert "2025-12-01" in kept  # what the log has as it is may be kept


async def test_an_erased_person_is_in_the_journal_no_more(clinic: Clinic, pages: Pages) -> None:
    rows = (f"{ANNA},2025-12-01,4711,en,", f"{BEN},2025-12-01,10,sw,")
    first = await pages.sent(*rows)
    await pages.sent(rows[0].replace(",4711,", ",4712,"), rows[1])
    of_anna = {name for name, event in clinic.door.events.items() if event["subject"] == ANNA}
    async with clinic.engine.begin() as connection:
        await _forget_rows(connection, "bakery", of_anna)
    assert "4711" in await clinic.everything_kept()
    async with clinic.engine.begin() as connection:
        await _forget_rows(connection, "clinic", of_anna)
    kept = await clinic.everything_kept()
    assert "4711" not in kept
    assert "4712" not in kept
    assert counts(await pages.look(rows[1])) == (0, 0, 1, 0, 0)
    assert (await pages.undo(first)).status_code == 303
    assert (BEN, "2025-12-01", 10) not in clinic.door.counted()


async def test_an_undo_says_what_it_cannot_put_back(clinic: Clinic, pages: Pages) -> None:
    await pages.sent(*ROWS)
    gone = await pages.sent(ROWS[0], ROWS[1], replace=True)
    assert len(clinic.door.counted()) == 2
    receipt = await pages.receipt(gone)
    assert "1 row stays as it is" in receipt
    assert "Take 0 rows" not in receipt
    moved = await pages.sent(ROWS[0].replace(",30,", ",40,"), ROWS[1].replace(HOUSE, "another"))
    assert "1 row stays as it is" not in await pages.receipt(moved)  # both corrections lack the household
    assert "2 rows stay as they are" in await pages.receipt(moved)
    assert counts(await pages.look(*ROWS)) == (1, 2, 0, 0, 0)
    await pages.sent(*ROWS)  # the earlier file does it
    assert clinic.door.counted()[0] == (ANNA, "2025-12-01", 30)


async def test_who_is_missing_is_not_named(clinic: Clinic, pages: Pages) -> None:
    await pages.sent(*ROWS)
    page = await pages.look(ROWS[0])
    assert counts(page) == (0, 0, 1, 2, 0)
    assert page.text.count("(hidden)") == 2
    assert BEN not in page.text
    await pages.sent(ROWS[0], replace=True)
    assert clinic.door.counted() == [(ANNA, "2025-12-01", 30)]


async def test_wrong_cells_are_marked_with_their_reasons(pages: Pages) -> None:
    page = await pages.look(
        f"{ANNA},2025-12-01,-1,en,", f"{ANNA},yesterday,1,en,", ",2025-12-02,1,en,", f"{ANNA},2025-12-02"
    )
    assert counts(page) == (0, 0, 0, 0, 4)
    said = unescape(page.text)
    assert page.text.count('<td class="wrong">') == 3
    assert "schema_violation: -1 is less than the minimum of 0" in said
    assert "'yesterday' is not a time written like 2026-01-31" in said
    assert "it has 2 cells, the header has 5" in said
    assert "No row can be sent as it is" in said
    assert 'name="seal"' not in page.text


async def test_what_was_interrupted_goes_on_with_the_same_file(
    clinic: Clinic, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_files, "CHUNK", 2)
    rows = [f"{ANNA},2025-12-{day:02},{day},en," for day in range(1, 8)]
    await pages.sent(*rows)
    changed = [row.replace(",en,", ",sw,") for row in rows]
    clinic.door.breaks_after = 3
    preview = await pages.look(*changed)
    broken = await pages.approve(preview)
    assert broken.status_code == 503
    assert "does not answer" in broken.text
    clinic.door.breaks_after = None
    again = await pages.look(*changed)
    assert counts(again) == (0, 5, 2, 0, 0)
    assert "was interrupted" in again.text
    done = await pages.sent(*changed)
    assert f"import {done} of this file was interrupted" in again.text
    assert "Take 7 rows back" in await pages.receipt(done)
    assert {one["language"] for _, one in clinic.door.data.values()} == {"sw"}
    assert (await pages.undo(done)).status_code == 303
    assert {one["language"] for _, one in clinic.door.data.values()} == {"en"}


async def test_another_file_after_an_interruption_is_right_too(
    clinic: Clinic, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_files, "CHUNK", 2)
    clinic.door.breaks_after = 3  # two rows are settled, of the next two one has arrived and nobody knows
    rows = [f"{ANNA},2025-12-0{day},{day},en," for day in range(1, 6)]
    assert (await pages.approve(await pages.look(*rows))).status_code == 503
    clinic.door.breaks_after = None
    other = [row.replace(",en,", ",sw,") for row in rows]
    await pages.sent(*other)
    assert len(clinic.door.counted()) == 5
    door = clinic.door
    said = [door.data.get(name, ("", one["data"]))[1] for name, one in door.events.items()]
    assert {one["language"] for one in said} == {"sw"}
    assert counts(await pages.look(*other)) == (0, 0, 5, 0, 0)


async def test_an_undo_that_was_interrupted_goes_on(
    clinic: Clinic, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_files, "CHUNK", 2)
    importid = await pages.sent(*[f"{ANNA},2025-12-0{day},{day},en," for day in range(1, 6)])
    clinic.door.breaks_after = 3
    assert (await pages.undo(importid)).status_code == 503
    clinic.door.breaks_after = None
    assert (await pages.undo(importid)).status_code == 303
    assert clinic.door.counted() == []
    assert (await pages.undo(importid)).status_code == 409


async def test_what_has_changed_since_the_look_is_looked_at_again(clinic: Clinic, pages: Pages) -> None:
    first, second = await pages.look(*ROWS), await pages.look(ROWS[0].replace(",30,", ",31,"))
    assert (await pages.approve(second)).status_code == 303
    stale = await pages.approve(first)
    assert stale.status_code == 409
    assert "has changed since you looked" in stale.text
    assert "<del>31</del>" in stale.text
    assert (await pages.approve(stale)).status_code == 303
    assert len(clinic.door.counted()) == 3


async def test_one_import_of_a_source_runs_at_a_time(clinic: Clinic, pages: Pages) -> None:
    await pages.sent(f"{BEN},2025-11-01,1,en,")
    preview = await pages.look(*ROWS)
    async with clinic.engine.begin() as connection:
        await connection.execute(text("UPDATE import_run SET state = 'running'"))
    refused = await pages.approve(preview)
    assert refused.status_code == 409
    assert "Another import" in refused.text
    clinic.now += SILENT_US + 2_000_000  # its process is gone
    assert "interrupted" in (await pages.client.get(FILES)).text
    assert (await pages.approve(await pages.look(*ROWS))).status_code == 303


async def test_what_was_sent_from_elsewhere_becomes_a_correction(clinic: Clinic, pages: Pages) -> None:
    await pages.sent(*ROWS)
    async with clinic.engine.begin() as connection:  # a lost database
        for table in ("import_run", "import_row", "import_step"):
            await connection.execute(text(f"DELETE FROM {table}"))
    assert counts(await pages.look(*ROWS)) == (0, 3, 0, 0, 0)
    importid = await pages.sent(*ROWS)
    assert len(clinic.door.counted()) == 3
    assert "3 rows stay as they are" in await pages.receipt(importid)


async def test_under_another_key_of_the_journal_the_numbers_stay_right(clinic: Clinic, pages: Pages) -> None:
    await pages.sent(*ROWS)
    before = clinic.door.counted()
    async with clinic.client(secret=b"another secret of the sessions..") as client:
        other = Pages(clinic, client)
        assert counts(await other.look(*ROWS)) == (0, 3, 0, 0, 0)
        await other.sent(*ROWS)
    assert clinic.door.counted() == before


# --- who may do what ------------------------------------------------------------------------------------


async def test_the_approver_s_key_goes_to_the_door(clinic: Clinic, pages: Pages) -> None:
    page = await pages.look(*ROWS)
    assert set(clinic.door.keys) == {clinic.partner}
    clinic.door.keys.clear()
    assert (await pages.approve(page)).status_code == 303
    assert set(clinic.door.keys) == {clinic.approver}


@pytest.mark.parametrize(
    ("scope", "look", "approve"), [("read", 403, 403), ("write", 200, 403), ("admin", 200, 303)]
)
async def test_scopes(clinic: Clinic, pages: Pages, scope: str, look: int, approve: int) -> None:
    key, foreign = await clinic.key(scope), await clinic.key(scope, "bakery")
    assert (await pages.look(*ROWS, key=key)).status_code == look
    assert (await pages.look(*ROWS, key=foreign)).status_code == 403
    preview = await pages.look(*ROWS)
    assert (await pages.approve(preview, foreign)).status_code == 403
    answer = await pages.approve(preview, key)
    assert answer.status_code == approve
    if approve == 403:
        assert "impact keys create clinic --scope admin" in answer.text
        assert clinic.door.counted() == []
        assert (await pages.approve(answer)).status_code == 303  # the file is still in the form


@pytest.fixture
async def elsewhere(clinic: Clinic) -> AsyncIterator[Pages]:
    """The pages where a session is needed."""
    async with clinic.client(open_to_all=False) as client:
        yield Pages(clinic, client)


async def test_off_this_machine_one_signs_in_first(clinic: Clinic, elsewhere: Pages) -> None:
    assert (await elsewhere.client.get(FILES)).status_code == 303
    assert (await elsewhere.look(*ROWS)).status_code == 401
    assert clinic.door.keys == []
    answer = await elsewhere.client.post("/sign-in", data={"key": clinic.partner})
    assert answer.headers["location"] == FILES
    assert counts(await elsewhere.look(*ROWS)) == (3, 0, 0, 0, 0)
    assert (await elsewhere.client.get("/products/clinic")).status_code == 403
    assert (await elsewhere.client.get("/products/bakery/files")).status_code == 403


async def test_who_reads_numbers_does_not_see_files(clinic: Clinic, elsewhere: Pages) -> None:
    await elsewhere.client.post("/sign-in", data={"key": await clinic.key("read")})
    assert (await elsewhere.client.get(FILES)).status_code == 403
    assert "/files" not in (await elsewhere.client.get("/products/clinic")).text
    await elsewhere.client.post("/sign-in", data={"key": clinic.approver})
    assert f'href="{FILES}"' in (await elsewhere.client.get("/products/clinic")).text


async def test_another_site_s_form_does_nothing(clinic: Clinic, pages: Pages) -> None:
    there = {"Origin": "https://elsewhere.example"}
    importid = await pages.sent(*ROWS)
    preview = await pages.look(*ROWS)
    clinic.door.keys.clear()
    assert (await pages.look(*ROWS, headers=there)).status_code == 403
    assert (await pages.approve(preview, headers=there)).status_code == 403
    assert (await pages.undo(importid, headers=there)).status_code == 403
    assert clinic.door.keys == []


# --- limits, faults and the rest --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "choose one"),
        (b"a,b\n1,2\n", "the file has no column"),
        (b"x" * (partner_routes.MAX_FILE_BYTES + 1), "larger than 2 MiB"),
        ("patient,day\nB\xe4r,x".encode("latin-1"), "csv.encoding"),
        (b"PK\x03\x04 and no more", "no .xlsx workbook"),
        (f"{HEADER}\n{'a,2026-01-01,1,en,h' + chr(10):s}".encode() * 5_010, "more than 5,000 rows"),
        (f'{HEADER}\n"'.encode(), "line"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(pages: Pages, content: bytes, said: str) -> None:
    answer = await pages.look(content=content)
    assert answer.status_code == 422
    assert said.lower() in unescape(answer.text).lower()
    assert 'role="alert"' in answer.text


async def test_a_body_beyond_all_bounds_is_refused(pages: Pages) -> None:
    answer = await pages.look(content=b"x" * (partner_routes.MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "at most 2 MiB" in answer.text


async def test_a_file_of_the_largest_size_comes_back_with_the_form(clinic: Clinic, pages: Pages) -> None:
    row = f"{ANNA},2025-12-01,1,en,{'x' * 300_000}"
    content = "\n".join([HEADER + ",a,b,c,d", *[f"{row},,,,"] * 1]).encode().ljust(2 * 2**20 - 10, b"\n")
    page = await pages.look(content=content)
    assert page.status_code == 422  # a cell of CSV has at most 128 KiB
    content = "\n".join([HEADER + ",rest", *[f"{ANNA},2025-12-01,1,en,,{'x' * 1_000}"] * 2_000]).encode()
    page = await pages.look(content=content)
    assert counts(page)[0] == 1
    assert (await pages.approve(page)).status_code == 303
    assert len(clinic.door.events) == 1


async def test_a_form_that_came_back_damaged_is_refused(pages: Pages) -> None:
    fields = {"key": (None, pages.clinic.approver), "content": (None, "no base64!"), "name": (None, "f")}
    answer = await pages.client.post(f"{FORM}/approve", files=fields)
    assert answer.status_code == 400


async def test_few_files_are_worked_on_at_once(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def judge(_key: str, _events: object) -> list[object]:
        begun.set()
        await go_on.wait()
        return []

    monkeypatch.setattr(pages.clinic.door, "judge", judge)
    waiting = [asyncio.create_task(pages.look(*ROWS)) for _ in range(partner_routes.AT_ONCE)]
    await begun.wait()
    await asyncio.sleep(0.5)
    answer = await pages.look(*ROWS)
    assert answer.status_code == 503
    assert "Other files are being worked on" in answer.text
    go_on.set()
    assert [counts(await one)[0] for one in waiting] == [3, 3]


async def test_without_a_door_uploads_are_off_and_it_says_what_to_set(clinic: Clinic) -> None:
    async with clinic.client(off=True) as client:
        page = await client.get(FILES)
        assert "IMPACT_INGEST_URL" in page.text
        answer = await Pages(clinic, client).look(*ROWS)
        assert answer.status_code == 503
        assert "IMPACT_INGEST_URL" in answer.text
        assert (await client.get(f"{FORM}/template.csv")).status_code == 200


async def test_the_template_can_be_filled_in_and_uploaded(pages: Pages) -> None:
    answer = await pages.client.get(f"{FORM}/template.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="clinic-visits.csv"'
    lines = answer.content.decode("utf-8-sig").splitlines()
    assert lines[0] == HEADER
    assert "number (min), 0 or more, how long it took, may be empty" in lines[1]
    assert "one of en, sw, may be empty" in lines[1]
    assert "time, written like 2026-01-31, needed" in lines[1]
    filled = "\r\n".join([*lines, ROWS[0]]).encode("utf-8-sig")
    assert counts(await pages.look(content=filled)) == (1, 0, 0, 0, 0)


async def test_what_is_not_there_is_404(pages: Pages) -> None:
    for path in (
        "/products/nobody/files",
        f"{FILES}/nothing/template.csv",
        f"{FORM}/template.pdf",
        "/products/clinic/imports/none",
    ):
        assert (await pages.client.get(path)).status_code == 404, path


async def test_pages_with_rows_are_kept_by_no_cache_and_escape_what_they_show(pages: Pages) -> None:
    page = await pages.look(f"{ANNA},2025-12-01,<script>,en,", name='<img src=x>".csv')
    assert page.headers["cache-control"] == "no-store"
    assert "<script>" not in page.text
    assert "<img" not in page.text
    assert base64.b64encode(HEADER.encode())[:20].decode() not in page.text  # nothing to approve, no copy
