"""Units, factors, scales and consent in the fold: exact, at the event's own time, or refused."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_aggregator.fold import Folded, fold
from impact_aggregator.rules import Rules, Series
from impact_aggregator.windows import DAY
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import NOON, Clock, correction, retraction, visit
from tests.aggregator.pipeline import pipeline
from tests.aggregator.test_rebuild import rebuild, take_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_aggregator.events import Event

_EVENT = "event: clinic.visit.v1, role: impact, windows: [all]"
TEXT = f"""
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic"]
events:
  clinic.visit.v1:
    data:
      type: object
      properties:
        amount: {{type: number}}
        unit: {{type: string}}
        km: {{type: number}}
        haul: {{type: string}}
        score: {{type: number}}
        consent: {{type: boolean}}
        kind: {{type: string}}
metrics:
  waste: {{title: Waste, {_EVENT}, aggregate: sum, of: data.amount, unit: kg, unit_path: data.unit,
    where: {{data.kind: waste}}}}
  emissions: {{title: Emissions, {_EVENT}, aggregate: sum, of: data.km, unit: kg,
    factor: {{set: kg_per_km, key: data.haul}}}}
  tonnes: {{title: Tonnes, {_EVENT}, aggregate: sum, of: data.amount, unit: t, unit_path: data.unit,
    factor: plain, where: {{data.kind: leg}}}}
  well_being: {{title: Well-being, {_EVENT}, aggregate: mean, of: data.score, consent: data.consent,
    scale: {{instrument: WHO-5, min: 0, max: 25, top_box: 20}}}}
factors:
  kg_per_km:
    unit: kg/km
    editions:
      - {{version: "2026", valid_from: 2026-01-01, values: {{short: 0.14, long: 0.11}}}}
      - {{version: "2024", valid_from: 2024-01-01, values: {{short: 0.15, long: 0.111111111111}}}}
  plain: {{unit: kg/km, editions: [{{version: one, valid_from: 2000-01-01, value: 0.5}}]}}
"""
NEW_YEAR = NOON - DAY // 2  # 2026-01-01


def rules_of(text: str = TEXT) -> Rules:
    catalog = parse_catalog(text, "clinic.yaml")
    return Rules({"clinic": catalog}, {("clinic", name): 1 for name in catalog.metrics})


RULES = rules_of()


def total(folded: Folded, metric: str) -> int | None:
    """The sum of all time, in nanos."""
    series_id = Series("clinic", metric, 1, "{}").series_id
    sums = [partial.sum for key, partial in folded.buckets.items() if key[:2] == (series_id, "all")]
    return sums[0] if sums else None


def refused(events: Sequence[Event]) -> list[tuple[str | None, str, str | None]]:
    return [(one.event_id, one.code, one.pointer) for one in fold(events, RULES, {}).quarantined]


def test_values_are_converted_to_the_metrics_unit_and_the_event_stays_as_it_was() -> None:
    events = [
        visit("a", kind="waste", amount=Decimal("1.5"), unit="t"),
        visit("b", kind="waste", amount=250, unit="g{flowers}"),
        visit("c", kind="waste", amount=1, unit="[lb_av]"),
        visit("d", kind="waste", amount=7, unit="kg"),
    ]
    raw = [event.raw for event in events]
    folded = fold(events, RULES, {})
    assert total(folded, "waste") == 1_507_703_592_370
    assert [event.raw for event in events] == raw


@pytest.mark.parametrize("unit", ["L", "kgCO2eq", "USD", "", None, 5, ["kg"]])
def test_a_unit_of_another_kind_is_quarantined_where_the_event_belongs_to_the_metric(unit: Any) -> None:
    event = visit("a", kind="waste", amount=1, unit=unit)
    assert refused([event]) == [("a", "unit_mismatch", "/data/unit")]
    assert not fold([event], RULES, {}).identities
    other = visit("a", kind="milk", amount=1, unit=unit)
    assert refused([other]) == []


def test_a_missing_unit_is_no_unit() -> None:
    assert refused([visit("a", kind="waste", amount=1)]) == [("a", "unit_mismatch", "/data/unit")]


def test_the_factor_is_the_one_valid_at_the_events_time() -> None:
    before = visit("a", NEW_YEAR - 1, km=100, haul="short")
    after = visit("b", NEW_YEAR, km=100, haul="short")
    assert total(fold([before], RULES, {}), "emissions") == 15_000_000_000
    assert total(fold([after], RULES, {}), "emissions") == 14_000_000_000
    assert total(fold([before, after], RULES, {}), "emissions") == 29_000_000_000


@pytest.mark.parametrize(
    ("time", "data"),
    [
        (NEW_YEAR - 800 * DAY, {"haul": "short"}),  # before the first edition
        (NEW_YEAR, {"haul": "middle"}),
        (NEW_YEAR, {"haul": None}),
        (NEW_YEAR, {"haul": 5}),
        (NEW_YEAR, {}),
    ],
)
def test_without_a_factor_an_event_waits_in_quarantine(time: int, data: dict[str, Any]) -> None:
    assert refused([visit("a", time, km=1, **data)]) == [("a", "factor_missing", "/data/haul")]


def test_unit_and_factor_work_together() -> None:
    events = [visit("a", kind="leg", amount=3000, unit="m"), visit("b", kind="leg", amount=10, unit="km")]
    assert total(fold(events, RULES, {}), "tonnes") == 6_500_000  # 6.5 kg in t
    assert refused([visit("c", kind="leg", amount=1, unit="kg")]) == [("c", "unit_mismatch", "/data/unit")]


def test_what_is_too_large_after_the_conversion_is_out_of_range() -> None:
    event = visit("a", kind="waste", amount=999_999_999_999_999, unit="t")
    assert refused([event]) == [("a", "value_out_of_range", "/data/amount")]


def test_scores_need_consent_and_the_bounds_of_their_instrument() -> None:
    scored = [visit(str(n), score=n, consent=True) for n in (0, 19, 20, 25)]
    silent = [visit("s", score=3), visit("t", score=3, consent=False), visit("u", score=99, consent=False)]
    folded = fold([*scored, *silent], RULES, {})
    assert folded.quarantined == []
    series_id = Series("clinic", "well_being", 1, "{}").series_id
    (partial,) = [one for key, one in folded.buckets.items() if key[:2] == (series_id, "all")]
    assert (partial.count, partial.top_count) == (4, 2)
    assert partial.sum_squares == (19**2 + 20**2 + 25**2) * 10**18
    for score in (-1, Decimal("25.000000001")):
        assert refused([visit("x", score=score, consent=True)]) == [
            ("x", "value_out_of_range", "/data/score")
        ]


_values = st.decimals(-(10**9), 10**9, places=6) | st.integers(-(10**9), 10**9)


@given(st.lists(st.tuples(_values, st.booleans()), min_size=1, max_size=6))
def test_each_product_is_rounded_once_by_itself(legs: list[tuple[Decimal | int, bool]]) -> None:
    events = [
        visit(str(n), NEW_YEAR - (DAY if old else 0), km=value, haul="long")
        for n, (value, old) in enumerate(legs)
    ]
    factors = {True: Fraction("0.111111111111"), False: Fraction("0.11")}
    expected = 0
    with localcontext(prec=100):
        for value, old in legs:
            exact = Fraction(value) * factors[old] * 10**9
            decimal = Decimal(exact.numerator) / Decimal(exact.denominator)
            expected += int(decimal.to_integral_value(ROUND_HALF_EVEN))
    assert total(fold(events, RULES, {}), "emissions") == expected


@given(st.permutations(range(6)), st.integers(1, 5))
def test_order_and_split_change_nothing(order: list[int], cut: int) -> None:
    events = [
        visit(
            str(n),
            NEW_YEAR + (n - 3) * DAY,
            km=n,
            haul="short" if n % 2 else "long",
            kind="waste",
            amount=n,
            unit="g",
        )
        for n in order
    ]
    whole = fold(events, RULES, {})
    first, second = fold(events[:cut], RULES, {}), fold(events[cut:], RULES, {})
    for metric in ("waste", "emissions"):
        parts = [total(folded, metric) or 0 for folded in (first, second)]
        assert sum(parts) == total(whole, metric)


NEW_EDITION = TEXT.replace("short: 0.14, long: 0.11}", "short: 0.13, long: 0.10}")


async def test_a_new_edition_is_counted_again_and_old_and_new_stand_side_by_side(
    database_url: str, clock: Clock
) -> None:
    async with pipeline(database_url, parse_catalog(TEXT, "clinic.yaml"), clock) as one:
        await one.count([visit("a", km=100, haul="short"), visit("b", NEW_YEAR - 1, km=100, haul="long")])
        await one.rolling.tick()
        old = 100 * Decimal("0.14") + 100 * Decimal("0.111111111111")
        assert await one.rolling_values("emissions", "all") == {"{}": (pytest.approx(float(old)), 2, "ok")}

        changed = parse_catalog(NEW_EDITION, "clinic.yaml")
        await take_up(one, changed)
        await rebuild(one, changed).run()
        await take_up(one, changed)
        await one.rolling.tick()
        new = 100 * Decimal("0.13") + 100 * Decimal("0.111111111111")
        assert await one.rolling_values("emissions", "all") == {"{}": (pytest.approx(float(new)), 2, "ok")}
        revisions = await one.rows(
            "SELECT metric, old_value, new_value, reason, caused_by FROM metric_revisions"
        )
        assert [(metric, float(a), float(b), *why) for metric, a, b, *why in revisions] == [
            ("emissions", 14.0, 13.0, "factor", "kg_per_km 2026")
        ]


async def test_a_correction_with_a_unit_that_does_not_fit_is_refused(sqlite_url: str, clock: Clock) -> None:
    async with pipeline(sqlite_url, parse_catalog(TEXT, "clinic.yaml"), clock) as one:
        await one.count([visit("a", kind="waste", amount=2, unit="kg")])
        await one.count([correction("c1", "a", kind="waste", amount=3, unit="L")])
        await one.count([correction("c2", "a", NOON - 1, kind="waste", amount=4000, unit="g")])
        await one.rolling.tick()
        assert (await one.rolling_values("waste", "all"))["{}"] == (4.0, 1, "ok")
        assert await one.rows("SELECT event_id, code FROM quarantined_events") == [("c1", "unit_mismatch")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_correction_that_cannot_be_counted_leaves_its_event_counted_in_one_batch_and_in_two(
    sqlite_url: str, clock: Clock, *, together: bool
) -> None:
    events = [visit("a", kind="waste", amount=2, unit="kg"), visit("b", kind="waste", amount=1, unit="t")]
    wrong = [
        correction("c1", "a", NOON + 1, kind="waste", amount=3, unit="L"),
        correction("c2", "a", NOON + 2, kind="waste", amount=999_999_999_999_999, unit="t"),
        correction("c3", "a", NOON, kind="waste", amount=4, unit="kg"),
    ]
    async with pipeline(sqlite_url, parse_catalog(TEXT, "clinic.yaml"), clock) as one:
        for batch in [[*events, *wrong]] if together else [events, *([event] for event in wrong)]:
            await one.count(batch)
        await one.rolling.tick()
        assert (await one.rolling_values("waste", "all"))["{}"] == (1004.0, 2, "ok")
        quarantined = await one.rows("SELECT event_id, code FROM quarantined_events ORDER BY event_id")
        assert quarantined == [("c1", "unit_mismatch"), ("c2", "value_out_of_range")]
        assert await one.rows("SELECT received, counted, quarantined FROM ledger") == [(5, 3, 2)]


PLAIN = TEXT.replace(" unit_path: data.unit,\n    where: {data.kind: waste}", " where: {data.kind: waste}")
COUNT = "  visits: {title: Visits, event: clinic.visit.v1, role: impact, windows: [all], aggregate: count}\n"


async def test_what_was_counted_before_the_metric_read_units_stays_in_the_other_metrics(
    sqlite_url: str, clock: Clock
) -> None:
    before, after = (
        parse_catalog(text.replace("factors:", COUNT + "factors:"), "clinic.yaml") for text in (PLAIN, TEXT)
    )
    async with pipeline(sqlite_url, before, clock) as one:
        await one.count([visit("a", kind="waste", amount=2), visit("b", kind="waste", amount=3, unit="g")])
        await take_up(one, after)
        await rebuild(one, after).run()
        await take_up(one, after)
        await one.count([visit("c", kind="waste", amount=1, unit="kg")])
        await one.count([retraction("r", "c")])
        await one.rolling.tick()
        assert (await one.rolling_values("visits", "all"))["{}"] == (2, 2, "ok")
        assert (await one.rolling_values("waste", "all"))["{}"] == (0.003, 1, "ok")
