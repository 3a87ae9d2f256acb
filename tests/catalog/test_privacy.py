"""Warnings about properties that look personal and are not pseudonymous."""

from __future__ import annotations

import pytest

from impact_schemas.catalog import catalog_warnings
from impact_schemas.personal import personal_kind

CATALOG = """\
apiVersion: impact/v1
product: clinic
title: Clinic
events:
  clinic.visit.v1:
    pseudonymous: [data.mobile, data.mother.first_name]
    data:
      type: object
      properties:
        minutes: {type: number}
        phone: {type: string}
        mobile: {type: string}
        clinic_name: {type: string}
        mother: {type: object, properties: {first_name: {type: string}}}
        children: {type: array, items: {type: object, properties: {dateOfBirth: {type: string}}}}
      anyOf:
        - properties: {email: {type: string}}
metrics:
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: guardrail}
"""


def test_each_personal_property_is_named_with_its_place_and_what_to_do() -> None:
    warnings = catalog_warnings({"clinic.yaml": CATALOG})
    lines = CATALOG.splitlines()
    found = [(lines[one.line - 1][one.column - 1 :].partition(":")[0], one.reason) for one in warnings]
    assert [name for name, _ in found] == ["phone", "dateOfBirth", "email"]
    assert found[0][1].startswith("looks like a telephone number")
    assert "add data.children.dateOfBirth to `pseudonymous`" in found[1][1]
    assert warnings[0].path == 'events["clinic.visit.v1"].data.properties.phone'


def test_a_part_of_a_protected_metric_that_is_not_protected_itself_is_named() -> None:
    missed = "  missed: {title: Missed, event: clinic.visit.v1, aggregate: count, role: guardrail}\n"
    rate = (
        "  rate: {title: Rate, ratio: {numerator: missed, denominator: visits}, role: impact,"
        " privacy: {min_cell: 11}}\n"
    )
    text = CATALOG + missed + rate
    reasons = {one.path: one.reason for one in catalog_warnings({"clinic.yaml": text})}
    assert reasons["metrics.missed"].startswith("shows small groups, though rate is protected")
    assert "metrics.visits" in reasons
    assert "metrics.rate" not in reasons


def test_a_catalog_with_faults_has_its_faults_first() -> None:
    assert catalog_warnings({"clinic.yaml": CATALOG.replace("aggregate: count", "aggregate: no")}) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("phone", "a telephone number"),
        ("contactPhone", "a telephone number"),
        ("MSISDN", "a telephone number"),
        ("e_mail", "an e-mail address"),
        ("emailAddress", "an e-mail address"),
        ("name", "a person's name"),
        ("patient_name", "a person's name"),
        ("lastName", "a person's name"),
        ("surname", "a person's name"),
        ("date_of_birth", "a date of birth"),
        ("dob", "a date of birth"),
        ("latitude", "a place on the map"),
        ("gps_position", "a place on the map"),
    ],
)
def test_names_that_are_personal(name: str, kind: str) -> None:
    assert personal_kind(name) == kind


@pytest.mark.parametrize(
    "name",
    [
        "clinic_name",
        "productName",
        "language",
        "births",
        "telemetry",
        "platform",
        "latency",
        "longest",
        "kg",
        "",
        "é",
    ],
)
def test_names_that_are_not(name: str) -> None:
    assert personal_kind(name) is None
