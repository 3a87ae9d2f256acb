"""`impact catalog init`: what it writes passes the check and takes the events that it was inferred from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_cli import catalog_starter, trial
from impact_schemas.catalog import catalog_warnings, parse_catalogs
from tests.cli.in_process import impact

if TYPE_CHECKING:
    from pathlib import Path

    from impact_schemas.catalog import Catalog


def an_event(number: int, data: Any, event_type: str = "water.pumped.v1", **attributes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": str(number),
        "source": "/water/pumps",
        "type": event_type,
        "data": data,
    }
    return json.dumps(event | attributes).encode()


def inferred(*events: bytes, product: str | None = None) -> Catalog:
    (catalog,) = parse_catalogs({"new.yaml": catalog_starter.inferred(events, product)}).values()
    return catalog


def test_the_starter_passes_the_check_as_it_stands_and_with_what_it_comments_out() -> None:
    text = catalog_starter.starter("water")
    (catalog,) = parse_catalogs({"water.yaml": text}).values()
    assert catalog.product == "water"
    options = [line for line in text.splitlines() if line.lstrip().startswith("# ") and ":" in line]
    assert len(options) > 8
    uncommented = text.replace("\n#   ", "\n  ")
    for section in ("mission", "needs", "bets", "risks"):
        uncommented = uncommented.replace(f"\n# {section}:", f"\n{section}:")
    for option in (
        "windows:",
        "cadence:",
        "evidence:",
        "privacy:",
        "targets:",
        "  - {window",
        "pseudonymous:",
        "leads_to:",
        "visibility:",
        "limits:",
    ):
        uncommented = uncommented.replace(f"# {option}", option)
    uncommented = uncommented.replace("properties:\n", "properties:\n        household: {type: string}\n")
    everything = parse_catalogs({"water.yaml": uncommented})["water"]
    assert everything.metrics["visits"].targets
    assert everything.metrics["hasty_visits"].limits
    assert everything.bets["vans"].need in everything.needs
    assert everything.risks
    assert catalog_warnings({"water.yaml": text}) == []


def test_types_schemas_dimensions_and_metrics_are_inferred() -> None:
    events = [
        an_event(
            number,
            {
                "litres": number + 0.5,
                "village": ["a", "b"][number % 2],
                "clean": number > 2,
                "note": f"n {number}",
            },
            subject=f"person {number}",
        )
        for number in range(8)
    ]
    catalog = inferred(*events)
    assert (catalog.product, catalog.sources) == ("water", ("/water/pumps",))
    event_type = catalog.events["water.pumped.v1"]
    assert event_type.subject == "required"
    assert event_type.data == {
        "type": "object",
        "required": ["litres", "village", "clean", "note"],
        "properties": {
            "litres": {"type": "number"},
            "village": {"enum": ["a", "b"]},
            "clean": {"type": "boolean"},
            "note": {"type": "string"},
        },
    }
    metrics = catalog.metrics
    assert set(metrics) == {
        *("pumped_events", "pumped_people", "pumped_litres", "pumped_clean", "pumped_clean_share"),
    }
    assert (metrics["pumped_litres"].aggregate, metrics["pumped_litres"].unit) == ("sum", "L")
    assert set(metrics["pumped_events"].dimensions) == {"village"}


def test_what_is_not_in_every_event_is_not_required() -> None:
    catalog = inferred(
        an_event(1, {"a": 1, "b": None}), an_event(2, {"a": 2.5}), an_event(3, {"a": 3, "b": "x"})
    )
    schema = catalog.events["water.pumped.v1"].data
    assert schema["required"] == ["a"]
    assert schema["properties"] == {"a": {"type": "number"}, "b": {"type": ["null", "string"]}}


def test_personal_values_never_stand_in_the_catalog() -> None:
    events = [
        an_event(number, {"phone": "+491701234567", "mother": {"email": "a@b.example"}})
        for number in range(9)
    ]
    text = catalog_starter.inferred(events)
    assert "+4917" not in text
    assert "a@b.example" not in text
    (catalog,) = parse_catalogs({"new.yaml": text}).values()
    assert catalog.events["water.pumped.v1"].pseudonymous == ("data.phone", "data.mother.email")
    assert not catalog.metrics["pumped_events"].dimensions


_names = st.text("abcXYZ_-. é%", min_size=1, max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc é:#{}[],'\"%\\", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)
_objects = st.dictionaries(_names, _values, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a.b.v1", "a.c d", "a.b:c#", "no"]), _objects), min_size=1, max_size=8
    )
)
def test_every_catalog_that_is_inferred_takes_its_own_events(shown: list[tuple[str, Any]]) -> None:
    events = [an_event(number, data, event_type) for number, (event_type, data) in enumerate(shown)]
    if not any(event_type != "a.c d" for event_type, _ in shown):
        with pytest.raises(catalog_starter.NoEvents):
            catalog_starter.inferred(events)
        return
    text = catalog_starter.inferred(events)
    tried = trial.run(parse_catalogs({"new.yaml": text}), events)
    for (event_type, _), verdict in zip(shown, tried.verdicts, strict=True):
        assert verdict.outcome == "counted" or event_type == "a.c d", (verdict, text)


def test_the_command_writes_a_new_file_only(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"not JSON\n" + an_event(1, {"litres": 1}) + b"\n")
    file = tmp_path / "catalog" / "water.yaml"
    told = impact("catalog", "init", str(file), "--from", str(events))
    assert (told.exit_code, told.stdout) == (0, ""), told.stderr
    assert "1 lines were no CloudEvents" in file.read_text()
    assert impact("catalog", "check", str(file)).exit_code == 0
    again = impact("catalog", "init", str(file))
    assert (again.exit_code, "File exists" in again.stderr) == (2, True)
    printed = impact("catalog", "init", "--product", "clinic")
    assert printed.stdout == catalog_starter.starter("clinic")
    assert impact("catalog", "init", "--product", "My Clinic").exit_code == 2
    events.write_text("{}\n")
    assert impact("catalog", "init", "--from", str(events)).exit_code == 1
