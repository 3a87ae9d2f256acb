"""Every rule of partners' files in a catalog, broken: the place and the reason."""

from __future__ import annotations

import pytest

from impact_schemas.catalog import CatalogFaults, parse_catalog

CATALOG = """
apiVersion: impact/v1
product: clinic
title: Clinic
sources: ["/clinic/*"]
events:
  clinic.visit.v1:
    subject: required
    pseudonymous: [data.house]
    data: {type: object, properties: {day: {type: string}, kept: {type: boolean}, minutes: {type: integer},
      language: {enum: [en, sw]}, house: {type: string}}}
  clinic.month.v1: {subject: none, data: {type: object, properties: {people: {type: number}}}}
metrics:
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: impact}
imports:
  visits:
    title: Visits
    source: /clinic/north
    type: clinic.visit.v1
    key: [patient, day]
    scope: [day]
    subject: patient
    data:
      day: day
      kept: {column: kept, type: boolean}
      minutes: {column: minutes, type: integer}
      language: {column: language, values: {English: en}}
      house: house
"""

CASES = [
    ("visits:\n    title", "Visits:\n    title", "imports.Visits", "as a name"),
    ("    title: Visits\n", "", "imports.visits.title", "is missing: the name that people read"),
    ("/clinic/north", "/clinic/*", "imports.visits.source", "one source"),
    ("/clinic/north", "/other", "imports.visits.source", "none of the catalog's sources"),
    (
        "type: clinic.visit.v1\n    key",
        "type: clinic.visits.v1\n    key",
        "imports.visits.type",
        "event type",
    ),
    ("    subject: patient\n", "", "imports.visits.type", "name their subject"),
    (
        "type: clinic.visit.v1\n    key",
        "type: clinic.month.v1\n    key",
        "imports.visits.subject",
        "no subject",
    ),
    ("scope: [day]", "scope: [patient]", "imports.visits.scope[0]", "is not kept as it is"),
    ("scope: [day]", "scope: [week]", "imports.visits.scope[0]", "no column of `key`"),
    ("day: day", "dey: day", "imports.visits.data.dey", "names no"),
    ("type: integer}\n      language", "type: number}\n      language", "", ""),
    ("type: boolean}\n      minutes", "type: string}\n      minutes", "imports.visits.data.kept", "boolean"),
    ("{English: en}", "{English: de}", "imports.visits.data.language", "cannot stand"),
    ("house: house", "house: {value: 3}", "imports.visits.data.house", "cannot stand"),
    ("house: house", "house: {}", "imports.visits.data.house", "either `column` or `value`"),
    ("scope: [day]", "time: {column: day, zone: Mars}", "imports.visits.time.zone", "no time zone"),
    ("scope: [day]", "csv: {encoding: morse}", "imports.visits.csv.encoding", "no encoding"),
    ("scope: [day]", "csv: {separator: x}", "imports.visits.csv.separator", "unknown field"),
]


def test_a_right_one_has_no_fault() -> None:
    form = parse_catalog(CATALOG, "clinic.yaml").imports["visits"]
    assert form.columns() == ("patient", "day", "kept", "minutes", "language", "house")
    assert form.open_columns(frozenset({"house"})) == {"day", "kept", "minutes", "language"}


@pytest.mark.parametrize(("right", "wrong", "path", "reason"), CASES)
def test_a_fault_has_its_place_and_reason(right: str, wrong: str, path: str, reason: str) -> None:
    text = CATALOG.replace(right, wrong)
    assert text != CATALOG
    if not path:
        parse_catalog(text, "clinic.yaml")
        return
    with pytest.raises(CatalogFaults) as raised:
        parse_catalog(text, "clinic.yaml")
    found = [(fault.path, fault.reason) for fault in raised.value.faults]
    assert any(one == path and reason in said for one, said in found), found
    assert all(fault.line > 1 for fault in raised.value.faults)
