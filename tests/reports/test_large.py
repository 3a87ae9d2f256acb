"""Pages of a product with 10,000 series: quick, in parts, and still the views' numbers."""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import insert

from impact_schemas.tables import rolling_value, series
from tests.aggregator.conftest import NOON

if TYPE_CHECKING:
    import httpx

    from tests.reports.conftest import Clinic

SERIES = 10_000
WITHIN_S = 0.3
PATIENTS = "/products/clinic/metrics/patients"
ROW = re.compile(r'<tr><th scope="row">village: (\w+)</th><td class="number"><data value="([^"]+)">')


async def add_villages(clinic: Clinic) -> dict[str, int]:
    """Values by village, in two windows each."""
    values = {f"v{number:05}": number * 7 % 1000 + 1 for number in range(SERIES)}
    async with clinic.engine.begin() as connection:
        of_series, of_windows = [], []
        for series_id, (village, value) in enumerate(values.items(), 1_000_000):
            segment = json.dumps({"village": village}, separators=(",", ":"))
            name = {"series_id": series_id, "product": "clinic", "metric": "patients", "version": 1}
            of_series.append(name | {"segment": segment})
            shown = {"value": value * 10**9, "n": value, "status": "ok", "changed_at": NOON}
            of_windows += [
                {"series_id": series_id, "time_window": window} | shown for window in ("28d", "all")
            ]
        await connection.execute(insert(series), of_series)
        await connection.execute(insert(rolling_value), of_windows)
    return values


async def quickest_s(client: httpx.AsyncClient, path: str) -> float:
    """The quickest of a few: other work on the machine is not the page's."""
    quickest = 60.0
    for _ in range(20):
        began = time.perf_counter()
        assert (await client.get(path)).status_code == 200
        quickest = min(quickest, time.perf_counter() - began)
        if quickest < WITHIN_S:
            break
    return quickest


async def test_with_10_000_series_pages_are_quick_and_right(clinic: Clinic) -> None:
    values = await add_villages(clinic)
    async with clinic.client() as client:
        for path in ("/", "/products/clinic", PATIENTS, "/v1/products/clinic/metrics/patients?segment=*"):
            assert await quickest_s(client, path) < WITHIN_S, path
        page = (await client.get(f"{PATIENTS}?window=all&after=%7B%22village%22%3A%22v00499%22%7D")).text
        shown = {village: Decimal(value) for village, value in ROW.findall(page)}
        assert shown == {f"v{number:05}": values[f"v{number:05}"] for number in range(500, 600)}
        assert "100 of 10,004 groups" in page
        following = re.search(r'href="([^"]+)">The next groups', page)
        assert following
        page = (await client.get(following[1].replace("&amp;", "&").partition("#")[0])).text
        assert [village for village, _ in ROW.findall(page)][:2] == ["v00600", "v00601"]
