"""The query API: the views' rows as JSON and CSV, page by page, and clear refusals."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_reports import csv_text

if TYPE_CHECKING:
    from tests.reports.conftest import Clinic

VISITS = "/v1/products/clinic/metrics/visits"
PATIENTS = "/v1/products/clinic/metrics/patients"


async def get(clinic: Clinic, path: str, **query: str | int) -> Any:
    async with clinic.client() as client:
        answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_rolling_values_are_those_of_the_view(clinic: Clinic) -> None:
    found = await get(clinic, PATIENTS, segment="*")
    assert (found["unit"], found["version"], found["next"]) == ("{person}", 1, None)
    rows = await clinic.pipeline.rows(
        "SELECT time_window, segment, value, n, status FROM rolling_metrics WHERE metric = 'patients'"
        " ORDER BY time_window, segment"
    )
    shown = [
        (row["time_window"], row["segment"], row["value"], row["n"], row["status"]) for row in found["rows"]
    ]
    assert shown == [(*row[:2], None if row[2] is None else float(row[2]), *row[3:]) for row in rows]
    assert len(shown) == 2 * 5


async def test_one_window_and_one_segment(clinic: Clinic) -> None:
    found = await get(clinic, PATIENTS, window="all", segment='{ "language": "es" }')
    assert [(row["segment"], row["value"]) for row in found["rows"]] == [('{"language":"es"}', 10)]


async def test_days_between_two_moments(clinic: Clinic) -> None:
    found = await get(
        clinic, VISITS, resolution="1d", **{"from": "2025-12-01", "to": "2025-12-03T12:00:00+00:00"}
    )
    assert [(row["bucket_start"][:10], row["value"]) for row in found["rows"]] == [
        ("2025-12-01", 1),
        ("2025-12-02", 1),
        ("2025-12-03", 1),
    ]


async def test_periods_say_whether_they_are_over(clinic: Clinic) -> None:
    found = await get(clinic, VISITS, period="month")
    assert [(row["starts_at"][:7], row["closed"]) for row in found["rows"]][-2:] == [
        ("2025-12", True),
        ("2026-01", False),
    ]


@pytest.mark.parametrize(
    "query", [{"resolution": "1d", "segment": "*"}, {"period": "month", "segment": "*"}, {"segment": "*"}]
)
async def test_page_by_page_every_row_comes_once(clinic: Clinic, query: dict[str, str]) -> None:
    whole = (await get(clinic, PATIENTS, **query))["rows"]
    pages: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        found = await get(clinic, PATIENTS, limit=7, **query, **cursor)
        pages += found["rows"]
        if found["next"] is None:
            break
        assert len(found["rows"]) == 7
        cursor = {"cursor": found["next"]}
    assert pages == whole
    assert len(whole) > 7


async def test_csv_is_the_same_rows_with_a_link_to_the_next(clinic: Clinic) -> None:
    async with clinic.client() as client:
        answer = await client.get(VISITS, params={"resolution": "1d", "format": "csv", "limit": 2})
        first = list(csv.DictReader(io.StringIO(answer.text)))
        following = answer.links["next"]["url"]
        second = list(csv.DictReader(io.StringIO((await client.get(following)).text)))
    rows = (await get(clinic, VISITS, resolution="1d", limit=4))["rows"]
    assert [row["value"] for row in first + second] == [str(int(row["value"])) for row in rows]


async def test_the_products_and_their_metrics_are_listed(clinic: Clinic) -> None:
    products = (await get(clinic, "/v1/products"))["products"]
    assert [row["product"] for row in products] == ["clinic"]
    metrics = (await get(clinic, "/v1/products/clinic/metrics"))["metrics"]
    assert metrics[0]["metric"] == "dreams"
    assert metrics[0]["definition"]["title"] == "Dreams"


@pytest.mark.parametrize(
    "query",
    [
        "window=2d",
        "window=all&period=month",
        "segment=nonsense",
        "segment=[1]",
        "resolution=1d&from=yesterday",
        "resolution=1d&from=0001-01-01T00:00:00%2B23:59",
        "limit=0",
        "limit=10001",
        "cursor=nonsense",
        "cursor=WyJhIl0=",
        "resolution=1d&cursor=WyJhIiwgImIiLCAiYyJd",
        "format=xml",
    ],
)
async def test_a_query_that_cannot_be_is_refused(small_clinic: Clinic, query: str) -> None:
    async with small_clinic.client() as client:
        answer = await client.get(f"{VISITS}?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "bad_query"


async def test_what_is_not_there_is_404(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        for path in ("/v1/products/clinic/metrics/nothing", "/v1/products/nobody/metrics", "/v1/nowhere"):
            assert (await client.get(path)).json()["code"] == "not_found"
        assert (await client.post(VISITS)).status_code == 405


async def test_the_api_describes_itself(small_clinic: Clinic) -> None:
    async with small_clinic.client() as client:
        document = (await client.get("/api/openapi.json")).json()
    assert sorted(document["paths"]) == [
        "/v1/products",
        "/v1/products/{product}/metrics",
        "/v1/products/{product}/metrics/{metric}",
    ]
    operation = document["paths"]["/v1/products/{product}/metrics/{metric}"]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"window", "period", "resolution", "segment", "from", "to", "limit", "cursor", "format"} <= names
    assert {"200", "400", "401", "403", "404", "503"} <= set(operation["responses"])


@given(st.text())
def test_no_text_in_a_csv_begins_like_a_formula(text: str) -> None:
    assert not csv_text.cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert csv_text.cell(text).removeprefix("'") in (text, text.removeprefix("'"))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**15), max_value=10**15))
def test_numbers_in_a_csv_stay_numbers(value: Decimal) -> None:
    assert Decimal(csv_text.cell(value)) == value
