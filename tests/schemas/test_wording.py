"""Numbers, units and times as people read them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_schemas import wording
from impact_schemas.definitions import rule
from impact_schemas.wording import THIN, Unit, unit_of


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (5_694, "5,694"),
        (999_999, "1 million"),
        (5_694_321, "5.69 million"),
        (Decimal("5255548343.04"), "5.26 billion"),
        (2_500_000_000_000, "2.5 trillion"),
        (Decimal("17.634"), "17.6"),
        (Decimal("0.0186"), "0.0186"),
        (Decimal("1234.5"), "1,234"),
        (Decimal("999.6"), "1,000"),
        (-3, "\u22123"),
        (Decimal("100.0"), "100"),
    ],
)
def test_numbers_are_in_full_below_a_million_and_in_words_above(value: Decimal, words: str) -> None:
    assert wording.number(value) == words


@given(st.decimals(min_value=-(10**15), max_value=10**15, places=9))
def test_a_number_in_words_is_the_value_to_three_digits(value: Decimal) -> None:
    text = wording.number(value).replace(",", "").replace(wording.MINUS, "-")
    figures, _, scale = text.partition(" ")
    read = Decimal(figures) * {"": 1, "million": 10**6, "billion": 10**9, "trillion": 10**12}[scale]
    assert abs(read - value) <= max(abs(value) * Decimal("0.0051"), Decimal("1e-9"))


@given(st.decimals(min_value=-(10**15), max_value=10**15, places=9))
def test_the_exact_value_is_kept(value: Decimal) -> None:
    assert Decimal(wording.exact(value)) == value


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        (Unit("{person}"), 1, f"1{THIN}person"),
        (Unit("{person}"), 5_200_000, "5.2 million people"),
        (Unit("kg{CO2e}"), 8_300_000, "8.3 million kg CO₂e"),
        (Unit("USD"), 1_200_000, f"USD{THIN}1.2 million"),
        (Unit("1", percent=True), Decimal("0.176"), f"17.6{THIN}%"),
        (Unit("USD/{person}"), 25, "USD 25 per person"),
        (Unit("kg/{garment}"), Decimal("3.25"), "3.25 kg per garment"),
        (Unit("{baby}"), 2, "2 babies"),
        (Unit("{aircraft}"), 4_036, "4,036 aircraft"),
        (Unit("t"), 3, "3 tonnes"),
        (Unit("1"), 7, "7"),
    ],
)
def test_units_are_words(unit: Unit, value: Decimal, words: str) -> None:
    assert unit.of(value).replace(THIN, " ") == words.replace(THIN, " ")


@pytest.mark.parametrize(
    ("code", "ratio_of", "is_share"),
    [
        ("1", ["1", "1"], True),
        ("1", ["{person}", "kg"], False),
        ("1", None, False),
        ("kg/kg", ["kg", "kg"], True),
        ("kg/{garment}", ["kg", "{garment}"], False),
        ("1", [], True),  # of parts that are not shown
    ],
)
def test_a_ratio_of_like_by_like_is_a_percentage(
    code: str, ratio_of: list[str] | None, *, is_share: bool
) -> None:
    assert unit_of(code, ratio_of).percent is is_share


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ("0", "0"),
        ("0.280932", "28.1"),
        ("0.2", "20"),
        ("0.044350", "4.4"),
        ("0.0044350", "0.44"),
        ("0.000491", "0.049"),
        ("0.9996", "99.96"),  # not everybody
        ("1", "100"),
        ("12.5", "1,250"),
        ("-0.0666", "\u22126.7"),
    ],
)
def test_a_share_is_written_to_a_tenth_of_a_percent_unless_that_hides_it(share: str, words: str) -> None:
    assert wording.percent(Decimal(share)) == f"{words}{THIN}%"


def test_a_change_of_a_rate_is_in_percentage_points() -> None:
    assert Unit("1", percent=True).change(Decimal("0.021")) == "+2.1 percentage points"
    assert Unit("{person}").change(-3) == "\u22123 people"


def test_groups_windows_and_days() -> None:
    assert wording.segment("{}") == "total"
    assert wording.segment('{"clinic":"north","language":null}') == "clinic: north, language: unknown"
    assert wording.window("28d") == "the last 28 days"
    assert wording.window("all") == "all time"
    assert wording.day(date(2026, 12, 31)) == "31 December 2026"
    assert wording.minute(datetime(2026, 1, 2, 3, 4, tzinfo=UTC)) == "2 January 2026, 03:04 UTC"


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"aggregate": "count", "event": ["a.b.v1"]}, "count over a.b.v1"),
        (
            {
                "aggregate": "sum",
                "of": "data.kg",
                "event": ["a", "b"],
                "where": {"data.new": {"values": [True, None]}},
            },
            "sum of data.kg over a, b, where data.new is true or null",
        ),
        (
            {
                "aggregate": "mean",
                "of": "data.x",
                "event": ["a"],
                "where": {"data.x": {"gt": 1, "lte": 5, "ne": ["z"]}},
            },
            "mean of data.x over a, where data.x > 1 and data.x ≤ 5 and data.x is not z",
        ),
        ({"ratio": {"numerator": "a", "denominator": "b"}}, "a divided by b, each added up first"),
        ({"difference": {"of": "a", "minus": "b"}}, "a less b"),
    ],
)
def test_a_rule_is_one_line(definition: dict[str, Any], words: str) -> None:
    assert rule(definition) == words
