"""The JSON Schema that editors use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import impact_schemas.catalog
from impact_schemas.catalog import catalog_json_schema
from impact_schemas.catalog.document import read_document

COMMITTED = Path(impact_schemas.catalog.__file__).parent / "catalog.schema.json"
CAREMESSAGE = (Path(__file__).parent / "caremessage.yaml").read_text()


def valid(text: str) -> bool:
    value: Any = read_document(text).value
    return jsonschema_rs.Draft202012Validator(catalog_json_schema(), offline=True).is_valid(value)


def test_the_committed_copy_is_up_to_date() -> None:
    made = json.dumps(catalog_json_schema(), indent=2, ensure_ascii=False) + "\n"
    assert COMMITTED.read_text() == made, f"write it again: impact catalog check --schema > {COMMITTED}"


def test_it_is_a_json_schema_that_accepts_the_documented_example() -> None:
    jsonschema_rs.meta.validate(catalog_json_schema())
    assert valid(CAREMESSAGE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: CareMessage", "titel: CareMessage"),
        ("product: caremessage", "product: Care"),
        ("role: guardrail", "role: guard"),
        ("windows: [24h, 28d, all]", "windows: [2d]"),
        ("min_cell: 11", "min_cell: 1"),
        ("data.channel: sms", "data.channel: {gtt: 1}"),
        ("data.channel: sms", "channel: sms"),
        ("aggregate: unique", "description: no rule"),
        ("type: object, required", "type: objct, required"),
        ("cadence: 1d", "cadence: daily"),
        ("due: 2026-12-31", "due: 5"),
        ("patients_messaged:  ", "Patients:  "),
    ],
)
def test_it_refuses_a_wrong_form(old: str, new: str) -> None:
    assert old in CAREMESSAGE
    assert not valid(CAREMESSAGE.replace(old, new))


def test_every_field_is_described() -> None:
    schema = catalog_json_schema()
    for part in [schema, *schema["$defs"].values()]:
        for name, field in part.get("properties", {}).items():
            assert field.get("description"), name
