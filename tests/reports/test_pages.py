"""What people read: the views' numbers, unknowns as unknowns, and nothing that a text could run."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.reports.conftest import Clinic

EVERY_PAGE = ("/", "/products/clinic", "/products/clinic/metrics/patients", "/public/clinic", "/sign-in")


def numbers(page: str) -> list[Decimal]:
    """The exact values of the numbers on it."""
    return [Decimal(value) for value in re.findall(r'<data value="([^"]+)"', page)]


def section(page: str, name: str) -> str:
    found = re.search(rf'<(section|div)[^>]* id="{name}".*?(?=<section|</main>)', page, re.DOTALL)
    assert found, name
    return found[0]


def words(page: str) -> str:
    """The text without markup, on one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


async def read(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_the_numbers_of_the_pages_are_those_of_the_views(clinic: Clinic) -> None:
    rows = await clinic.pipeline.rows(
        "SELECT metric, time_window, segment, value, n FROM rolling_metrics WHERE value IS NOT NULL"
    )
    values = {(metric, window, segment): Decimal(str(value)) for metric, window, segment, value, _ in rows}
    async with clinic.client() as client:
        page = await read(client, "/products/clinic")
        assert numbers(section(page, "mission"))[0] == values["patients", "all", "{}"] == 50
        shown = [values[metric, "28d", "{}"] for metric in ("no_show_rate", "missed", "minutes", "visits")]
        assert numbers(section(page, "numbers")) == shown
        page = await read(client, "/products/clinic/metrics/patients?window=all")
        groups = [
            value
            for key, value in sorted(values.items())
            if key[:2] == ("patients", "all") and key[2] != "{}"
        ]
        table = section(page, "segments").rpartition("<caption>")[2]
        assert numbers(table) == groups
        assert numbers(section(page, "value"))[0] == 50


async def test_the_first_page_has_each_product_its_goals_and_its_needs(clinic: Clinic) -> None:
    async with clinic.client() as client:
        page = await read(client, "/")
    assert numbers(section(page, "products")) == [50]
    assert "3 Good health and well-being Patients of Clinic <b>on wheels</b>: 50 people" in words(page)
    assert "People walk for hours to see a nurse. 120,000 people" in words(section(page, "needs"))
    assert "Mornings" in section(page, "needs")


async def test_the_page_begins_with_the_mission_and_says_where_the_target_stands(clinic: Clinic) -> None:
    async with clinic.client() as client:
        page = await read(client, "/products/clinic")
    text = words(page)
    assert re.search(r"<h1[^>]*>Bring care to people who live far from a hospital.</h1>", page)
    assert "For people in 40 villages." in text
    assert "the target is 100 people" in text
    assert re.search(r"1 target (on|off) track|1 target at risk", text)
    assert "The last 28 days · n 28 · lower is better" in text
    assert "People walk for hours to see a nurse. 120,000 people" in text
    assert "overdue since 30 August 2025" in text
    assert re.search(r"The language is unknown for 20 % of the events of [^.]*Patients", text)


async def test_what_is_not_known_is_never_a_number(clinic: Clinic) -> None:
    async with clinic.client() as client:
        page = await read(client, "/products/clinic/metrics/dreams")
    assert numbers(page) == []
    assert "no data" in words(section(page, "value"))


async def test_a_change_after_its_day_is_shown_with_its_reason(clinic: Clinic) -> None:
    await clinic.late()
    async with clinic.client() as client:
        page = await read(client, "/products/clinic/metrics/visits")
        product = await read(client, "/products/clinic")
    assert "retraction" in words(section(page, "revisions"))
    assert "events that were taken back" in words(section(product, "unknown"))


async def test_a_metric_says_what_it_leads_to_and_which_feature_did_it(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        visits = await read(client, "/products/clinic/metrics/visits")
        patients = await read(client, "/products/clinic/metrics/patients")
    assert "Leads to Patients ." in words(visits)
    assert "Comes of Visits ." in words(patients)
    assert 'href="/products/clinic/metrics/visits">Visits</a>' in patients
    shown = words(section(visits, "features"))
    assert shown.index("van") < shown.index("tent")
    assert "75 %" in shown


async def test_the_public_page_has_the_public_metrics_and_nothing_else(small_clinic: Clinic) -> None:
    async with small_clinic.client(open_to_all=False) as client:
        page = await read(client, "/public/clinic")
        assert {"patients", "no_show_rate"} == set(re.findall(r"/public/clinic/metrics/(\w+)", page))
        assert "/products/" not in page
        assert "Villages depend" not in page
        assert "Mornings" not in page
        await read(client, "/public/clinic/metrics/patients")
        assert (await client.get("/public/clinic/metrics/visits")).status_code == 404
        assert (await client.get("/public/nobody")).status_code == 404


async def test_texts_of_the_catalog_are_text(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        page = await read(client, "/products/clinic")
    assert "<b>" not in page
    assert "Clinic &lt;b&gt;on wheels&lt;/b&gt;" in page


async def test_pages_run_and_load_nothing_but_their_own_files(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        for path in EVERY_PAGE:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", answer.text), path
            loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', answer.text)
            own = [name for name in loaded if name != "data:,"]
            assert own
            for name in own:
                asset = await client.get(name)
                assert asset.status_code == 200
                assert "immutable" in asset.headers["cache-control"]
        assert (await client.get("/static/0000000000000000/style.css")).status_code == 404


async def test_the_same_page_is_not_sent_twice(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        first = await client.get("/products/clinic")
        again = await client.get("/products/clinic", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        await small_clinic.late()
        later = await client.get("/products/clinic", headers={"If-None-Match": first.headers["etag"]})
        assert later.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/products/nobody",
        "/products/clinic/metrics/nothing",
        "/products/clinic/metrics/visits?window=1h",
        "/nowhere",
    ],
)
async def test_what_is_not_there_is_said_in_words(small_clinic: Clinic, path: str) -> None:
    async with small_clinic.client() as client:
        answer = await client.get(path)
        program = await client.get(path, headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert (program.status_code, program.json()["code"]) == (404, "not_found")


async def test_a_database_that_is_away_is_said_in_words(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        await small_clinic.pipeline.rows("SELECT 1")
        async with small_clinic.engine.begin() as connection:
            await connection.exec_driver_sql("DROP VIEW products")
        page, api = await client.get("/"), await client.get("/v1/products")
    assert page.status_code == api.status_code == 503
    assert "does not answer now" in page.text
    assert api.json()["code"] == "database_unavailable"
    assert api.headers["retry-after"]


async def test_a_fault_is_said_in_words_and_guarded_like_a_page(
    small_clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("impact_reports.pages.portfolio_page.page", lambda _rows: 1 / 0)
    async with small_clinic.client() as client:
        answer = await client.get("/")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
