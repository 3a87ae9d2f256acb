"""The pages for partners' files in a real browser: signing in, a file, its approval, and taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.partner.test_live import EXAMPLE, FILES, HEADER, ROWS, Warmers, become
from tests.reports.test_browser import WIDTHS, browser, too_wide, troubles, visit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.reports.test_browser import Visit

__all__ = ["browser"]  # a fixture
WRONG = (
    "Busia;2026-13;1;1;1;public;",
    "Busia;2026-05;-4;lots;;state;",
    "Migori;2026-07;9;1;2;public;",
)


class Elsewhere(Warmers):
    """On an address that others reach too: pages need a session."""

    @property
    def arguments(self) -> list[str]:
        return [*super().arguments, "--host", "0.0.0.0"]


@pytest.fixture(scope="module")
def warmers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warmers]:
    service = Elsewhere(tmp_path_factory.mktemp("warmers"))
    service.start()
    try:
        yield service
    finally:
        service.stop()


def file_of(folder: Path, *rows: str) -> str:
    file = folder / "warmers.csv"
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    return str(file)


def sign_in(one: Visit, key: str) -> Page:
    page = one.to(FILES)
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("Partners' files")
    return page


def fits_everybody(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert too_wide(page) == [], width
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert troubles(page) == []
    for details in page.locator("summary").all():
        details.click()
    assert troubles(page) == []


@pytest.mark.parametrize("scripts", [True, False])
def test_a_partner_looks_an_approver_sends_and_takes_back(
    browser: Browser, warmers: Warmers, tmp_path: Path, scripts: bool
) -> None:
    with visit(browser, warmers, java_script_enabled=scripts) as one:
        page = sign_in(one, warmers.partner)
        if scripts:
            fits_everybody(page)
        page.get_by_label("File", exact=True).set_input_files(file_of(tmp_path, *ROWS, *WRONG))
        page.get_by_label("Your key").fill(warmers.partner)
        page.get_by_role("button", name="Look at the file").click()
        expect(page.locator("h1")).to_have_text("What this file would do")
        expect(page.locator("td.wrong")).to_have_count(3)
        if scripts:
            fits_everybody(page)
        approve = page.get_by_role("button", name="Approve and send 6 rows")
        page.get_by_label("Key of who approves").fill(warmers.partner)
        approve.click()
        expect(page.get_by_role("alert")).to_contain_text("--scope admin")
        if scripts:
            fits_everybody(page)
        page.get_by_label("Key of who approves").fill(warmers.approver)
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("h1")).to_have_text("warmers.csv")
        if scripts:
            fits_everybody(page)
        become(warmers, 156, 26)
        page.get_by_label("Key of who takes it back").fill(warmers.approver)
        page.get_by_role("button", name="Take 6 rows back").click()
        expect(page.locator("h1")).to_contain_text("undo of")
        become(warmers, None, None)
        page.get_by_role("link", name="All files").click()
        page.get_by_role("button", name="Sign out").click()
        assert one.elsewhere == []
        assert [said for said in one.complaints if "403" not in said] == []


def test_the_keyboard_alone_does_it(browser: Browser, warmers: Warmers, tmp_path: Path) -> None:
    with visit(browser, warmers) as one:
        page = sign_in(one, warmers.partner)
        page.get_by_label("File", exact=True).set_input_files(file_of(tmp_path, *ROWS[:2]))
        page.get_by_label("File", exact=True).focus()
        page.keyboard.press("Tab")
        page.keyboard.type(warmers.partner)
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.get_by_label("The file is complete").is_checked()
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("What this file would do")
        stops = "a[href], summary, .scroll, input:not([type=hidden]), button"
        wanted = page.locator(f"main :is({stops}):visible").count()
        reached = 0
        page.locator("main").focus()
        for _ in range(wanted):
            page.keyboard.press("Tab")
            reached += page.evaluate("document.activeElement.closest('main') !== null")
        assert reached == wanted


def test_the_template_for_excel_is_uploaded_as_it_is_and_filled_in(
    browser: Browser, warmers: Warmers, tmp_path: Path
) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    with visit(browser, warmers) as one:
        page = sign_in(one, warmers.partner)
        with page.expect_download() as download:
            page.get_by_role("link", name="Template for Excel").click()
        file = tmp_path / "filled.xlsx"
        download.value.save_as(file)
        book = openpyxl.load_workbook(file)
        book.active.append(("Lodwar", "2026-03", 12, 2, None, "church"))
        book.save(file)
        page.get_by_label("File", exact=True).set_input_files(str(file))
        page.get_by_label("Your key").fill(warmers.partner)
        page.get_by_role("button", name="Look at the file").click()
        expect(page.get_by_role("button", name="Approve and send 1 row")).to_be_visible()
        expect(page.get_by_role("row").filter(has_text="Lodwar")).to_be_visible()


def test_the_example_s_mapping_is_the_catalog_s() -> None:
    """`impact send --csv` and the page read the example in the same way."""
    from impact_cli.partner_mapping import read_mapping
    from impact_schemas.catalog import parse_catalog

    catalog = parse_catalog((EXAMPLE / "catalog" / "warmers.yaml").read_text(), "warmers.yaml")
    form = catalog.imports["facility_months"].model_dump(exclude={"title"})
    assert read_mapping(EXAMPLE / "mapping.yaml").model_dump(exclude={"product"}) == form
