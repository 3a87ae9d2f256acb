"""A partner's file on the pages of `impact up`: looked at, approved, sent again with changes, taken back."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.service import Service, impact, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "partner"
HEADER, *ROWS = (EXAMPLE / "warmers.csv").read_text().splitlines()
FILES = "/products/warmers/files"
FORM = f"{FILES}/facility_months"
NAME = re.compile(r'name="(\w+)" value="([^"]*)"')


class Warmers(Service):
    """`impact up` with the partner's example, and keys of its people."""

    def start(self) -> None:
        shutil.copytree(EXAMPLE / "catalog", self.folder / "catalog")
        super().start()
        self.partner, self.approver = self.make_key("import"), self.make_key("admin")

    def make_key(self, scope: str) -> str:
        told = impact("keys", "create", "warmers", "--scope", scope, "--data", "data", cwd=self.folder)
        assert told.returncode == 0, told.stderr
        return told.stdout.split()[-1]


class Pages:
    """What a partner and an approver do in their browsers."""

    def __init__(self, service: Warmers) -> None:
        self.service = service
        self.client = httpx.Client(base_url=service.url, timeout=60)

    def look(self, *rows: str, name: str = "warmers.csv", replace: bool = False) -> httpx.Response:
        content = "\n".join([HEADER, *rows]) + "\n"
        data = {"key": self.service.partner} | ({"replace": "yes"} if replace else {})
        return self.client.post(f"{FORM}/preview", data=data, files={"file": (name, content.encode())})

    def approve(self, preview: httpx.Response, key: str | None = None) -> httpx.Response:
        fields = {name: unescape(value) for name, value in NAME.findall(preview.text)}
        fields |= {"key": key or self.service.approver}
        return self.client.post(
            f"{FORM}/approve", files={name: (None, value) for name, value in fields.items()}
        )

    def undo(self, importid: str) -> httpx.Response:
        fields = {"key": (None, self.service.approver)}
        return self.client.post(f"/products/warmers/imports/{importid}/undo", files=fields)

    def sent(self, *rows: str, replace: bool = False) -> str:
        """Looked at and approved; the import's id."""
        answer = self.approve(self.look(*rows, replace=replace))
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].rpartition("/")[2]


def counts(page: httpx.Response) -> tuple[int, ...]:
    """new, changed, unchanged, missing, wrong."""
    assert page.status_code == 200, page.text
    return tuple(
        int(one.replace(",", "")) for one in re.findall(r'<span class="count">([\d,]+)</span>', page.text)
    )


@pytest.fixture(scope="module")
def warmers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warmers]:
    service = Warmers(tmp_path_factory.mktemp("warmers"))
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def pages(warmers: Warmers) -> Iterator[Pages]:
    one = Pages(warmers)
    yield one
    one.client.close()


def totals(service: Warmers) -> tuple[float | None, ...]:
    return tuple(service.value(name, "warmers") for name in ("admissions", "hypothermia"))


def become(service: Warmers, *numbers: float | None) -> None:
    wait_until(lambda: totals(service) == numbers, f"the numbers are {numbers}")


def test_a_file_is_approved_sent_again_with_changes_and_taken_back(warmers: Warmers, pages: Pages) -> None:
    assert counts(pages.look(*ROWS)) == (5, 0, 0, 0, 0)
    assert warmers.sql("SELECT COUNT(*) FROM import_run") == [(0,)]
    assert warmers.sql("SELECT SUM(received) FROM ledger") in ([(None,)], [(0,)])
    first = pages.sent(*ROWS)
    become(warmers, 147, 25)

    changed = [
        ROWS[0].replace(";42;", ";50;"),
        ROWS[1],
        ROWS[2].replace(";4;", ";3;"),
        ROWS[3].replace(";21;", ";31;"),
        ROWS[4],
    ]
    again = pages.look(*changed)
    assert counts(again) == (0, 3, 2, 0, 0)
    assert "<del>42</del>" in again.text
    assert "<ins>50</ins>" in again.text
    second = pages.sent(*changed)
    become(warmers, 165, 24)
    assert warmers.sql("SELECT counted, duplicates, quarantined FROM ledger") == [(8, 0, 0)]
    assert "changed since by" in pages.undo(first).text

    assert pages.undo(second).status_code == 303
    become(warmers, 147, 25)
    assert "taken back before" in pages.undo(second).text
    assert counts(pages.look(*ROWS)) == (0, 0, 5, 0, 0)
    assert pages.undo(first).status_code == 303
    become(warmers, None, None)  # no event is left: unknown, and not zero
    assert pages.client.get(FILES).text.count("undo of") == 2
    assert counts(pages.look(*ROWS)) == (5, 0, 0, 0, 0)


def test_a_complete_file_takes_rows_back_that_are_gone(warmers: Warmers, pages: Pages) -> None:
    pages.sent(*ROWS)
    become(warmers, 147, 25)
    assert counts(pages.look(*ROWS[:2])) == (0, 0, 2, 3, 0)  # of both months
    assert counts(pages.look(ROWS[0])) == (0, 0, 1, 1, 0)  # of June alone
    wrong = pages.look(ROWS[0].replace(";42;", ";many;"), ROWS[1], replace=True)
    assert "must have no wrong row" in wrong.text
    gone = pages.sent(*ROWS[:2], replace=True)
    become(warmers, 81, 12)
    assert pages.undo(gone).status_code == 303
    become(warmers, 147, 25)
    assert counts(pages.look(*ROWS)) == (0, 0, 5, 0, 0)


def test_wrong_cells_are_named_and_the_right_rows_are_sent(pages: Pages) -> None:
    rows = [
        "Busia;2026-13;1;1;1;public;",
        "Busia;2026-05;-4;0;;public;",
        "Busia;2026-04;3;1;2;state;",
        "Busia;2026-03;9;1;2;public;",
    ]
    page = pages.look(*rows)
    assert counts(page) == (1, 0, 0, 0, 3)
    for reason in (
        "is not a time written like 2026-01",
        "schema_violation",
        "is none of public, church, private",
    ):
        assert reason in unescape(page.text)
    assert page.text.count('<td class="wrong">') == 3
    receipt = pages.client.get(f"/products/warmers/imports/{pages.sent(*rows)}").text
    for said in ("line 2, month", "line 3, admissions", "line 4, run by"):
        assert said in receipt
    assert "state" not in re.findall(r"line 4[^<]*", receipt)[0]


def test_it_goes_on_over_a_restart(warmers: Warmers, pages: Pages) -> None:
    before = counts(pages.look(*ROWS))
    assert before == (0, 0, 5, 0, 0)
    warmers.stop()
    Service.start(warmers)
    assert counts(pages.look(*ROWS)) == before


def test_what_the_command_line_sent_is_known(warmers: Warmers, pages: Pages) -> None:
    mapping = warmers.folder / "mapping.yaml"
    shutil.copy(EXAMPLE / "mapping.yaml", mapping)
    rows = warmers.folder / "rows.csv"
    rows.write_text(f"{HEADER}\nMigori;2026-01;5;1;1;public;\n")
    told = impact(
        *("send", "--csv", "rows.csv", "--map", "mapping.yaml", "--url", warmers.url),
        *("--key", warmers.key("warmers")),
        cwd=warmers.folder,
    )
    assert told.returncode == 0, told.stderr
    page = pages.look("Migori;2026-01;6;1;1;public;")
    assert counts(page) == (0, 1, 0, 0, 0)
    assert (
        "Take 0 rows"
        not in pages.client.get(
            f"/products/warmers/imports/{pages.sent('Migori;2026-01;6;1;1;public;')}"
        ).text
    )


def test_keys_decide_who_may_do_what(warmers: Warmers, pages: Pages) -> None:
    preview = pages.look("Lodwar;2026-02;1;0;1;public;")
    refused = pages.approve(preview, warmers.partner)
    assert refused.status_code == 403
    assert "--scope admin" in refused.text
    assert pages.approve(preview, "imp_00000000_" + "a" * 43).status_code == 401
    other = warmers.make_key("read")
    warmers.partner, kept = other, warmers.partner
    try:
        assert pages.look("Lodwar;2026-02;1;0;1;public;").status_code == 403
    finally:
        warmers.partner = kept
    assert counts(pages.look("Lodwar;2026-02;1;0;1;public;")) == (1, 0, 0, 0, 0)
