"""The example stories: catalogs without a fault, and events that anybody can make again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.story import FIRST_DAY, TOLD_ON, course, days, moved
from impact_cli import catalogs, examples
from tests.cli.in_process import impact

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("caremessage", "duolingo", "embrace", "help_us_green", "m_pesa", "patagonia")
FOLDER = Path(__file__).resolve().parents[2] / "examples"
NOW = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)


def events(name: str, now: datetime) -> Iterator[dict[str, Any]]:
    (example,) = examples.load(name, now)
    return example.events()


@pytest.mark.parametrize("name", NAMES)
def test_a_catalog_has_no_fault_and_no_warning(name: str) -> None:
    checked = impact("catalog", "check", str(FOLDER / name))
    assert checked.exit_code == 0, checked.output
    assert checked.output.count("\n") == 1, checked.output
    assert "no fault" in checked.output


@pytest.mark.parametrize("name", NAMES)
def test_a_story_is_a_year_that_ends_now(name: str) -> None:
    told = list(events(name, NOW))
    (example,) = examples.load(name, NOW)
    assert 10_000 <= len(told) == len({event["id"] for event in told}) == example.count <= 60_000
    times = [_time(event) for event in told]
    assert NOW - timedelta(days=366) < min(times) < NOW - timedelta(days=360)
    assert max(times) < NOW
    last_report = timedelta(days=31 if name == "embrace" else 2)  # its facilities report by the month
    assert max(_time(one) for one in told if not one["type"].startswith("impact.")) > NOW - last_report


@pytest.mark.parametrize("name", NAMES)
def test_a_story_can_be_told_again(name: str) -> None:
    """The same at another hour of the day; on another day the same, that much later."""
    first = list(islice(events(name, NOW), 5_000))
    assert list(islice(events(name, NOW.replace(hour=1)), 5_000)) == first
    later = list(islice(events(name, NOW + timedelta(days=40)), 5_000))
    assert [{**event, "time": None} for event in later] == [{**event, "time": None} for event in first]
    ahead = {_time(one) - _time(other) for one, other in zip(later, first, strict=True)}
    assert ahead == {timedelta(days=40)}


@pytest.mark.parametrize("name", NAMES)
def test_a_story_says_what_was_launched_and_decided(name: str) -> None:
    """Each bet of the catalog is launched by an event; what events name is in the catalog."""
    (catalog,) = catalogs.load(FOLDER / name).values()
    notes = [one["data"] for one in events(name, NOW) if one["type"] == "impact.annotation.v1"]
    assert {"launch", "decision"} <= {note["kind"] for note in notes}
    assert {note["bet"] for note in notes if "bet" in note} == set(catalog.bets)
    assert {metric for note in notes for metric in note["metrics"]} <= set(catalog.metrics)


@pytest.mark.parametrize("name", NAMES)
def test_a_story_has_all_that_a_product_manager_needs(name: str) -> None:
    (catalog,) = catalogs.load(FOLDER / name).values()
    assert catalog.needs
    assert len(catalog.bets) >= 3
    assert catalog.risks
    assert catalog.stakeholders
    metrics = catalog.metrics.values()
    assert {metric.role for metric in metrics} == {"impact", "business", "guardrail"}
    assert any(metric.targets for metric in metrics)
    assert any(metric.equity for metric in metrics)
    assert any(metric.limits for metric in metrics)
    assert {metric.visibility for metric in metrics} == {"public", "internal"}


def test_the_days_of_a_catalog_move_with_its_story() -> None:
    (today,) = examples.load("caremessage", NOW)
    (later,) = examples.load("caremessage", NOW + timedelta(days=40))
    assert "due: 2026-12-31" in today.files["catalog.yaml"]
    assert "due: 2027-02-09" in later.files["catalog.yaml"]
    assert today.files["catalog.yaml"] == (FOLDER / "caremessage" / "catalog.yaml").read_text("utf-8")


def test_the_catalogs_of_all_stories_stand_in_one_folder(tmp_path: Path) -> None:
    examples.write_catalogs(examples.load(examples.ALL, NOW), tmp_path)
    assert set(catalogs.load(tmp_path)) == set(NAMES)


@given(st.dates(date(2020, 1, 1), date(2035, 1, 1)), st.dates(date(2020, 1, 1), date(2035, 1, 1)))
def test_days_move_as_far_as_today_is_from_the_day_of_the_telling(day: date, today: date) -> None:
    assert moved(f"due: {day}, or so", today) == f"due: {day + (today - TOLD_ON)}, or so"


@given(st.dates(date(2025, 1, 1), date(2027, 12, 31)))
def test_a_course_goes_straight_from_point_to_point(day: date) -> None:
    at = course({"2026-01-01": 10, "2026-01-11": 20, "2026-02-10": -10})
    first, second, third = date(2026, 1, 1), date(2026, 1, 11), date(2026, 2, 10)
    if day <= first:
        assert at(day) == 10
    elif day <= second:
        assert at(day) == pytest.approx(10 + (day - first).days)
    elif day <= third:
        assert at(day) == pytest.approx(20 - (day - second).days)
    else:
        assert at(day) == -10


def test_the_days_of_a_story_are_a_year() -> None:
    told = list(days())
    assert told[0] == FIRST_DAY
    assert told[-1] == TOLD_ON - timedelta(days=1)
    assert len(told) == 365


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])
