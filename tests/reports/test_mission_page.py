"""What a mission page makes of rows: what comes first, what is left out, and what is not said."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from impact_reports import gaps, metric_cards, mission_page, unknowns
from impact_reports.mission_page import Tally
from impact_schemas.wording import Unit

UNITS = {"care": Unit("{person}"), "fees": Unit("USD"), "rate": Unit("1", percent=True)}
TITLES = {"care": "Cared for", "fees": "Fees", "rate": "Rate"}


def warning(severity: str, answered_by: str | None = None, until: date | None = None) -> dict[str, Any]:
    return {"severity": severity, "answered_by": answered_by, "until": until}


def pair(**changed: Any) -> dict[str, Any]:
    row = {"impact_metric": "care", "business_metric": "fees", "business_value": 900, "business_change": 0.1}
    return row | {"impact_per_business": 0.02, "diverges": False} | changed


def test_open_warnings_are_counted_before_targets_and_what_is_bad_before_what_is_good() -> None:
    rows = [warning("warning"), warning("critical"), warning("warning", until=date(2026, 1, 1))]
    assert mission_page.tally([], rows) == [
        Tally("critical", "1 critical warning"),
        Tally("warning", "1 warning"),
    ]


def test_what_is_critical_and_undecided_comes_first() -> None:
    rows = [warning("warning"), warning("critical", "A decision"), warning("critical")]
    assert sorted(rows, key=mission_page._urgency) == [rows[2], rows[1], rows[0]]


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(0.02, "USD 50 for each person"), (4, "4 people for each USD"), (None, ""), (0, "")],
)
def test_a_small_ratio_is_told_the_other_way_round(ratio: float | None, words: str) -> None:
    row = pair(impact_per_business=ratio)
    assert mission_page._per(row, UNITS).replace("\u00a0", " ") == words


def test_beside_an_impact_metric_stands_what_it_drifts_apart_from_or_else_one() -> None:
    rows = [pair(diverges=True), pair(diverges=True, business_change=0.2), pair()]
    assert mission_page._telling(rows) == rows[:2]
    assert mission_page._telling([pair(), pair(business_change=0.2)]) == [pair()]


def test_a_bet_within_chance_deserves_neither_yes_nor_no() -> None:
    sure = {"quadrant": "both", "ci_low": 0.1, "ci_high": 0.2}
    assert mission_page._quadrant([sure]) == "deserves a yes"
    assert mission_page._quadrant([sure | {"ci_low": -0.1}]) == "impact within chance"
    assert mission_page._quadrant([sure | {"ci_low": None, "ci_high": None}]) == "impact within chance"


def test_groups_without_any_known_gap_are_a_sentence_and_no_table() -> None:
    row = {
        "metric": "rate",
        "time_window": "28d",
        "dimension": "language",
        "segment": '{"language":"es"}',
        "reference_segment": '{"language":"en"}',
        "reference_value": None,
        "value": 0.2,
        "gap": None,
        "ci_low": None,
        "ci_high": None,
        "n": 40,
        "standing": None,
        "status": "ok",
    }
    found = gaps._gap("Rate", "language", [row], UNITS["rate"])
    assert found.groups == ()
    assert found.sentence.startswith("No gap can be told yet: the value of en is hidden")
    found = gaps._gap("Rate", "language", [row | {"reference_value": 0.1, "gap": 0.1}], UNITS["rate"])
    assert [(group.gap, found.change_unit) for group in found.groups] == [("+10", "percentage points")]


def test_an_unknown_group_is_told_once_for_all_metrics_of_a_dimension() -> None:
    rows = [
        {"metric": metric, "dimension": "home_town", "share_unknown": share}
        for metric, share in (("care", 0.02), ("rate", 0.2), ("fees", 0.02), ("other", 0))
    ]
    [found] = unknowns._groups(rows, TITLES)
    assert found.sentence.replace("\u00a0", " ") == (
        "The home town is unknown for 20 % of the events of Rate; 2 % of the events of Cared for, Fees."
        " Differences between the groups may be no more than that."
    )


@pytest.mark.parametrize(("first_day", "is_begun"), [(2, False), (20, True)])
def test_a_month_within_which_events_began_is_no_whole_month(first_day: int, *, is_begun: bool) -> None:
    of = {"product": "clinic", "metric": "care"}
    months = [
        of
        | {"value": 10, "closed": True}
        | {
            "starts_at": datetime(2026, month, 1, tzinfo=UTC),
            "ends_at": datetime(2026, month + 1, 1, tzinfo=UTC),
        }
        for month in (1, 2, 3)
    ]
    trends = [of | {"at": datetime(2026, 1, day, tzinfo=UTC)} for day in range(first_day, 31)]
    rows: dict[str, list[dict[str, Any]]] = {"months": months, "metric_trends": trends}
    series = metric_cards.monthly(of | {"title": "Cared for"}, rows, UNITS["care"])
    assert series is not None
    assert series.chart.count('class="bar open"') == int(is_begun)
    assert ("in which the first events came" in series.says) is is_begun
