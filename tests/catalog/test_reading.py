"""What a catalog becomes when it is read."""

from __future__ import annotations

import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from impact_schemas.catalog import (
    CatalogFaults,
    Compare,
    Evidence,
    Metric,
    OneOf,
    parse_catalog,
    parse_catalogs,
)
from impact_schemas.catalog.families import cuts_of, dimensions_of
from impact_schemas.catalog.judging import Codes

CAREMESSAGE = (Path(__file__).parent / "caremessage.yaml").read_text()

MINIMAL = """\
apiVersion: impact/v1
product: shop
title: Shop
events:
  shop.sold.v1:
    data: {type: object, properties: {kg: {type: number}, day: {type: string}, no: {type: string}, gift: {}}}
metrics:
  sales: {title: Sales, event: shop.sold.v1, aggregate: count, role: business%s}
"""


def sales(more: str = "") -> Metric:
    return parse_catalog(MINIMAL % (f", {more}" if more else ""), "shop.yaml").metrics["sales"]


def test_the_documented_example_is_read_exactly() -> None:
    arm = {"enum": ["none", "reminder"]}
    assert parse_catalog(CAREMESSAGE, "caremessage.yaml").model_dump(exclude_defaults=True) == {
        "api_version": "impact/v1",
        "product": "caremessage",
        "title": "CareMessage",
        "mission": {
            "statement": "Help patients with low incomes get the care that they need.",
            "beneficiaries": "patients of safety-net clinics",
            "north_star": "patients_messaged",
        },
        "sources": ("/caremessage/*",),
        "since": date(2015, 1, 1),
        "events": {
            "caremessage.message.delivered.v1": {
                "description": "A text message reached a patient's phone.",
                "subject": "required",
                "pseudonymous": ("data.household",),
                "data": {
                    "type": "object",
                    "required": ["channel", "language"],
                    "properties": {
                        "channel": {"enum": ["sms", "voice"]},
                        "language": {"type": "string"},
                        "household": {"type": "string"},
                        "arm": arm,
                    },
                },
            },
            "caremessage.appointment.v1": {
                "data": {
                    "type": "object",
                    "required": ["kept"],
                    "properties": {"kept": {"type": "boolean"}, "arm": arm},
                }
            },
        },
        "metrics": CAREMESSAGE_METRICS,
    }


CAREMESSAGE_METRICS = {
    "patients_messaged": {
        "title": "Patients messaged",
        "event": ("caremessage.message.delivered.v1",),
        "where": {"data.channel": {"values": ("sms",)}},
        "aggregate": "unique",
        "of": "subject",
        "unit": "{person}",
        "quantity": "people",
        "role": "impact",
        "dimensions": {"language": {"path": "data.language"}},
        "cadence": timedelta(days=1),
        "codes": {"sdg": ("3.8.1",), "iris": ("PI4060",)},
        "privacy": {"min_cell": 11},
        "equity": {"dimension": "language", "reference": "en"},
        "targets": (
            {
                "window": "all",
                "baseline": {"value": 5_000_000, "at": date(2025, 12, 31)},
                "value": 6_000_000,
                "due": date(2026, 12, 31),
            },
        ),
    },
    "appointments": {
        "title": "Appointments",
        "event": ("caremessage.appointment.v1",),
        "aggregate": "count",
        "role": "impact",
    },
    "missed": {
        "title": "Missed",
        "event": ("caremessage.appointment.v1",),
        "where": {"data.kept": {"values": (False,)}},
        "aggregate": "count",
        "role": "guardrail",
        "direction": "down",
    },
    "no_show_rate": {
        "title": "No-show rate",
        "ratio": {"numerator": "missed", "denominator": "appointments"},
        "role": "impact",
        "direction": "down",
        "experiment": {"arm": "data.arm", "control": "none"},
    },
}


def test_everything_but_title_role_and_rule_has_a_default() -> None:
    metric = sales()
    assert (metric.unit, metric.direction, metric.level) == ("1", "up", "output")
    assert metric.windows == ("24h", "28d", "all")
    assert metric.evidence == Evidence(level="counted")
    assert metric.codes == Codes()
    assert (metric.where, metric.dimensions, metric.cuts, metric.targets) == ({}, {}, (), ())
    assert (metric.description, metric.quantity, metric.cadence) == (None, None, None)
    assert (metric.privacy, metric.equity, metric.experiment) == (None, None, None)


def test_a_product_may_leave_out_mission_sources_and_since() -> None:
    catalog = parse_catalog(MINIMAL % "", "shop.yaml")
    assert (catalog.mission, catalog.sources, catalog.since) == (None, ("*",), None)
    assert catalog.events["shop.sold.v1"].subject == "optional"


def test_short_and_long_forms_are_the_same() -> None:
    short = sales("evidence: modelled, dimensions: {day: data.day}, where: {data.day: monday}")
    long = sales(
        "evidence: {level: modelled}, dimensions: {day: {path: data.day}}, where: {data.day: [monday]}"
    )
    assert short == long


def test_event_may_be_a_list() -> None:
    text = (MINIMAL % "").replace("event: shop.sold.v1", "event: [shop.sold.v1]")
    assert parse_catalog(text, "shop.yaml") == parse_catalog(MINIMAL % "", "shop.yaml")


def test_numbers_keep_the_digits_that_were_written() -> None:
    values = sales("where: {data.kg: [0.1, 1e3, 7, 123456789012345678901234567890.5]}").where["data.kg"]
    assert isinstance(values, OneOf)
    assert values.values == (Decimal("0.1"), Decimal("1e3"), 7, Decimal("123456789012345678901234567890.5"))
    assert [type(value) for value in values.values] == [Decimal, Decimal, int, Decimal]


def test_no_and_days_are_text_and_quotes_make_text() -> None:
    condition = sales('where: {data.gift: [no, NO, on, 2015-01-01, "1", true, null, ~]}').where["data.gift"]
    assert condition == OneOf(values=("no", "NO", "on", "2015-01-01", "1", True, None, None))


def test_an_older_yaml_directive_does_not_make_no_a_boolean() -> None:
    text = "%YAML 1.1\n---\n" + MINIMAL % ", where: {data.gift: no}"
    assert parse_catalog(text, "shop.yaml").metrics["sales"].where["data.gift"] == OneOf(values=("no",))


def test_comparisons() -> None:
    condition = sales("where: {data.kg: {gt: 0, lte: 2.5, ne: [1, 2]}}").where["data.kg"]
    assert isinstance(condition, Compare)
    assert (condition.gt, condition.gte, condition.lt) == (0, None, None)
    assert (condition.lte, condition.ne) == (Decimal("2.5"), (1, 2))


def test_an_alias_stands_for_its_value() -> None:
    text = MINIMAL % ", windows: &windows [1h, all]" + (
        "  more: {title: More, event: shop.sold.v1, aggregate: count, role: impact, windows: *windows}\n"
    )
    assert parse_catalog(text, "shop.yaml").metrics["more"].windows == ("1h", "all")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("45s", timedelta(seconds=45)), ("36h", timedelta(hours=36)), ("2w", timedelta(weeks=2))],
)
def test_durations(written: str, meant: timedelta) -> None:
    assert sales(f"cadence: {written}").cadence == meant


def test_a_catalog_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        sales().title = "Other"  # type: ignore[misc]  # that is the point


def test_catalogs_are_keyed_by_product() -> None:
    catalogs = parse_catalogs({"b.yaml": MINIMAL % "", "a.yaml": CAREMESSAGE})
    assert list(catalogs) == ["shop", "caremessage"]


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (
            '{$defs: {box: {properties: {kg: {type: number}}}}, properties: {box: {$ref: "#/$defs/box"}}}',
            "box.kg",
        ),
        ('{allOf: [{properties: {kg: {anyOf: [{type: integer}, {type: "null"}]}}}]}', "kg"),
        ("{oneOf: [{properties: {kg: {type: number}}}, {properties: {kg: {minimum: 0}}}]}", "kg"),
        ("{if: {required: [a]}, then: {properties: {kg: {type: integer}}}}", "kg"),
        ('{properties: {kg: {type: number}, inner: {$ref: "#"}}}', "inner.inner.kg"),
        ("{patternProperties: {^k: {enum: [1, 2.5]}}}", "kg"),
        ("{additionalProperties: {type: [number, 'null']}}", "kg"),
    ],
)
def test_a_path_exists_wherever_the_schema_names_it(schema: str, path: str) -> None:
    text = f"""\
apiVersion: impact/v1
product: shop
title: Shop
events: {{shop.sold.v1: {{data: {schema}}}}}
metrics: {{kg: {{title: Kg, event: shop.sold.v1, aggregate: sum, of: data.{path}, role: impact}}}}
"""
    assert parse_catalog(text, "shop.yaml").metrics["kg"].of == f"data.{path}"


def test_a_value_needs_to_be_possible_in_one_of_the_event_types_only() -> None:
    text = """\
apiVersion: impact/v1
product: shop
title: Shop
events:
  a.v1: {data: {properties: {colour: {enum: [red]}}}}
  b.v1: {data: {properties: {colour: {enum: [blue]}}}}
metrics:
  m: {title: M, event: [a.v1, b.v1], where: {data.colour: [red, blue]}, aggregate: count, role: impact}
"""
    assert parse_catalog(text, "shop.yaml").metrics["m"].event == ("a.v1", "b.v1")
    with pytest.raises(CatalogFaults, match='never "green": the schema allows "red", "blue"'):
        parse_catalog(text.replace("[red, blue]", "green"), "shop.yaml")


def test_a_ratio_may_be_split_as_both_its_metrics_are() -> None:
    split = "event: shop.sold.v1, aggregate: count, role: impact, dimensions: {day: data.day, no: data.no}"
    text = MINIMAL % "" + (
        f"  a: {{title: A, {split}, cuts: [[day, no]]}}\n  b: {{title: B, {split}, cuts: [[no, day]]}}\n"
        "  all_of_them: {title: R, ratio: {numerator: a, denominator: b}, role: impact, "
        "equity: {dimension: day, reference: monday}}\n"
        "  some: {title: R, ratio: {numerator: a, denominator: b}, role: impact, "
        "dimensions: {day: data.day, no: data.no}, cuts: [[day, no]]}\n"
    )
    metrics = parse_catalog(text, "shop.yaml").metrics
    assert dimensions_of("all_of_them", metrics) == dimensions_of("some", metrics) == ("day", "no")
    assert cuts_of("all_of_them", metrics) == cuts_of("some", metrics) == (("day", "no"),)


def test_any_path_will_do_where_unknown_properties_are_kept() -> None:
    text = (MINIMAL % ", dimensions: {x: data.not_named.x}").replace(
        "data: {", "keep_unknown: true, data: {", 1
    )
    text = text.replace("\n    keep_unknown: true, data: {", "\n    keep_unknown: true\n    data: {")
    assert parse_catalog(text, "shop.yaml").metrics["sales"].dimensions["x"].path == "data.not_named.x"


def test_two_hundred_metrics_are_read_quickly() -> None:
    line = (
        "  sales_%d: {title: Sales, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: kg, "
        "role: impact, where: {data.gift: true}, dimensions: {day: data.day}, windows: [24h, 28d, all]}\n"
    )
    text = MINIMAL % "" + "".join(line % number for number in range(200))
    started = time.process_time()
    assert len(parse_catalog(text, "shop.yaml").metrics) == 201
    assert time.process_time() - started < 2  # 0.23 s is usual; the bound leaves room for slow machines
