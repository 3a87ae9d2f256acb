"""Editions: the same bytes from the same state, every changed byte found, and what was restated since."""

from __future__ import annotations

import asyncio
import csv
import json
from typing import TYPE_CHECKING

import pytest

from impact_reports import edition_files, periods
from impact_reports.edition import MANIFEST, SUMS, NothingToReport
from impact_reports.edition_files import Order, verify, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.reports.conftest import Clinic

DECEMBER = Order("clinic", periods.parse("2025-12"))


async def made(clinic: Clinic, out: Path, order: Order = DECEMBER) -> Path:
    return (await write(clinic.engine, order, out, "1.2.3")).folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_the_same_state_gives_the_same_bytes(clinic: Clinic, tmp_path: Path) -> None:
    first = await made(clinic, tmp_path / "one")
    clinic.pipeline.clock.now += 3_600_000_000
    await clinic.pipeline.rolling.tick()
    second = await made(clinic, tmp_path / "two")
    assert content(first) == content(second)
    assert not (await write(clinic.engine, DECEMBER, tmp_path / "one", "1.2.3")).new
    assert set(content(first)) == {
        *("report.html", "report.md", "data.json", "values.csv", "definitions.csv", MANIFEST, SUMS)
    }


async def test_its_numbers_are_the_views(clinic: Clinic, tmp_path: Path) -> None:
    folder = await made(clinic, tmp_path)
    rows = await clinic.pipeline.rows(
        "SELECT metric, segment, value FROM period_metrics WHERE period = 'month' AND starts_at >= :first"
        " AND starts_at < :last ORDER BY metric, segment",
        **clinic.days(first="2025-12-01", last="2026-01-01"),
    )
    with (folder / "values.csv").open(encoding="utf-8") as file:
        written = [(row["metric"], row["segment"], row["value"]) for row in csv.DictReader(file)]
    expected = [(metric, segment, None if value is None else float(value)) for metric, segment, value in rows]
    assert [
        (metric, segment, float(value) if value else None) for metric, segment, value in written
    ] == expected
    data = json.loads((folder / "data.json").read_bytes())
    assert [(row["metric"], row["segment"], row["value"]) for row in data["values"]] == expected
    assert len(expected) > 8


async def test_every_changed_byte_is_found(small_clinic: Clinic, tmp_path: Path) -> None:
    folder = await made(small_clinic, tmp_path)
    assert verify(folder) == []
    for path, changed in changes(folder):
        kept = path.read_bytes()
        path.write_bytes(changed)
        assert verify(folder) != [], path.name
        path.write_bytes(kept)
    (folder / "more.txt").write_text("more")
    assert verify(folder) == ["more.txt is not part of the edition"]
    (folder / "more.txt").unlink()
    (folder / "report.md").unlink()
    assert verify(folder) == ["report.md is not there"]
    assert verify(tmp_path / "nothing") != []


def changes(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """A byte changed at the beginning, in the middle and at the end of each file, and one added."""
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        for place in (0, len(body) // 2, len(body) - 1):
            yield path, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        yield path, body + b"\n"


async def test_the_usual_tool_checks_it_too(small_clinic: Clinic, tmp_path: Path) -> None:
    folder = await made(small_clinic, tmp_path)
    command = ("sha256sum", "--check", "--strict", "--quiet", SUMS)
    process = await asyncio.create_subprocess_exec(*command, cwd=folder)
    assert await process.wait() == 0


async def test_what_was_restated_since_the_last_is_said(clinic: Clinic, tmp_path: Path) -> None:
    before = await made(clinic, tmp_path, Order("clinic", periods.parse("2025-11")))
    assert "No earlier edition" in (before / "report.md").read_text()
    clinic.pipeline.clock.now += 60_000_000
    await clinic.late()  # takes back a visit of November
    after = await made(clinic, tmp_path)
    restated = {row["title"]: row for row in json.loads((after / "data.json").read_bytes())["restated"]}
    assert restated["Visits"] == {
        "title": "Visits",
        "then": "30",
        "now": "29",
        "why": "1 day by events that were taken back",
    }
    manifest = json.loads((after / MANIFEST).read_bytes())
    assert manifest["compared_with"]["period"] == "2025-11"
    again = await made(clinic, tmp_path, Order("clinic", periods.parse("2025-11")))
    assert again.parent == before.parent
    assert verify(before) == verify(again) == []


async def test_a_stakeholder_reads_what_concerns_them(small_clinic: Clinic, tmp_path: Path) -> None:
    def metrics(folder: Path) -> set[str]:
        return {row["metric"] for row in json.loads((folder / "data.json").read_bytes())["metrics"]}

    funder = await made(small_clinic, tmp_path, for_stakeholder("funder"))
    everyone = await made(small_clinic, tmp_path, for_stakeholder("everyone"))
    assert metrics(funder) == metrics(everyone) == {"patients", "no_show_rate"}
    assert "For The funder." in (funder / "report.md").read_text()
    with pytest.raises(NothingToReport, match="there are everyone, funder"):
        await made(small_clinic, tmp_path, for_stakeholder("nobody"))


def for_stakeholder(stakeholder: str) -> Order:
    return Order("clinic", DECEMBER.period, stakeholder)


async def test_what_is_due_is_written_once(small_clinic: Clinic, tmp_path: Path) -> None:
    due = await edition_files.due(small_clinic.engine, None, tmp_path)
    assert {(one.stakeholder, one.period.name) for one in due} == {
        ("funder", "2025-12"),
        ("everyone", "2025-Q4"),
    }
    for one in due:
        await made(small_clinic, tmp_path, one)
    assert await edition_files.due(small_clinic.engine, "clinic", tmp_path) == []


async def test_a_running_period_is_provisional(small_clinic: Clinic, tmp_path: Path) -> None:
    folder = await made(small_clinic, tmp_path, Order("clinic", periods.parse("2026")))
    assert json.loads((folder / "data.json").read_bytes())["provisional"] is True
    assert "these numbers are provisional" in (folder / "report.html").read_text()


async def test_nothing_in_it_runs(small_clinic: Clinic, tmp_path: Path) -> None:
    folder = await made(small_clinic, tmp_path)
    page = (folder / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    assert "Clinic &lt;b&gt;" in page
    assert "Clinic \\<b\\>" in (folder / "report.md").read_text()
    with (folder / "definitions.csv").open(encoding="utf-8") as file:
        assert "'=HYPERLINK(1)" in {row["title"] for row in csv.DictReader(file)}


async def test_of_nobody_nothing_is_reported(small_clinic: Clinic, tmp_path: Path) -> None:
    with pytest.raises(NothingToReport, match="nobody"):
        await made(small_clinic, tmp_path, Order("nobody", DECEMBER.period))


@pytest.mark.parametrize(
    ("name", "starts", "ends"),
    [
        ("2026-Q1", "2026-01-01", "2026-04-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026", "2026-01-01", "2027-01-01"),
    ],
)
def test_periods_begin_where_the_one_before_ends(name: str, starts: str, ends: str) -> None:
    period = periods.parse(name)
    assert (f"{period.starts_at:%Y-%m-%d}", f"{period.ends_at:%Y-%m-%d}") == (starts, ends)
    assert period.before.ends_at == period.starts_at
    assert period.name == name
    assert periods.last_closed(period.kind, period.ends_at) == period


@pytest.mark.parametrize("name", ["", "Q3", "2026-Q5", "2026-13", "2026-1", "26", "2026-Q3 "])
def test_what_is_no_period_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="write a month"):
        periods.parse(name)
