"""`impact try`: the door and the fold over a file, in memory."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from impact_cli import trial
from impact_schemas.catalog import parse_catalogs
from tests.cli.in_process import impact
from tests.cli.service import CATALOG, visit, write_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from impact_cli.trial import Trial

CATALOGS = parse_catalogs({"clinic.yaml": CATALOG.format(product="clinic")})


def try_out(*events: dict[str, Any] | bytes) -> Trial:
    texts = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return trial.run(CATALOGS, texts)


def numbers_of(tried: Trial, window: str = "all") -> dict[str, Decimal | None]:
    return {one.metric: one.value for one in tried.numbers if one.window == window and one.segment == "{}"}


def amendment(kind: str, number: int, **data: Any) -> dict[str, Any]:
    event = visit(number) | {"id": f"{kind}-{number}", "type": f"impact.{kind}.v1"}
    del event["subject"]
    return event | {"data": {"source": "/clinic/north", "id": f"visit-{number}", "reason": "wrong", **data}}


def test_every_event_gets_the_verdict_that_the_services_would_give() -> None:
    tried = try_out(
        visit(1),
        visit(1),
        visit(1, minutes=99),
        visit(2, minutes=-1),
        visit(3) | {"type": "clinic.unknown.v1"},
        b'{"id": "twice", "id": "twice"}',
        visit(4) | {"source": "/elsewhere"},
    )
    assert [one.code or one.outcome for one in tried.verdicts] == [
        "counted",
        "duplicate",
        "id_conflict",
        "schema_violation",
        "unknown_type",
        "unreadable_body",
        "source_not_allowed",
    ]
    assert tried.verdicts[3].pointer == "/data/minutes"
    assert tried.verdicts[0].metrics == ("visits", "minutes", "people")
    assert tried.outcomes == {"counted": 1, "duplicate": 1, "rejected": 5}
    assert tried.refused


def test_the_numbers_are_those_of_the_counted_events() -> None:
    tried = try_out(*(visit(number, minutes=0.1) for number in range(5)))
    assert numbers_of(tried) == {"visits": 5, "minutes": Decimal("0.5"), "people": 3}
    assert numbers_of(tried, "24h") == numbers_of(tried)


def test_an_old_event_is_in_the_long_windows_only() -> None:
    tried = try_out(visit(1) | {"time": "2020-01-01T00:00:00Z"})
    assert numbers_of(tried)["visits"] == 1
    assert numbers_of(tried, "28d")["visits"] is None
    assert {one.status for one in tried.numbers if one.window == "28d"} == {"no_data"}


def test_a_ratio_is_divided_once_and_split_as_its_parts_are() -> None:
    text = CATALOG.format(product="clinic") + (
        "  per_visit: {title: Per visit, ratio: {numerator: minutes, denominator: visits}, role: impact}\n"
    )
    tried = trial.run(
        parse_catalogs({"clinic.yaml": text}), [json.dumps(visit(n, minutes=n)).encode() for n in (1, 2)]
    )
    assert numbers_of(tried)["per_visit"] == Decimal("1.5")


def test_units_factors_and_scales_are_judged_and_arms_are_not_shown() -> None:
    text = CATALOG.format(product="clinic").replace(
        "aggregate: sum, of: data.minutes",
        "aggregate: sum, of: data.minutes, factor: rate, experiment: {arm: data.arm, control: a}",
    )
    text = text.replace("minutes: {", "arm: {type: string}, minutes: {", 1)
    edition = '{version: "1", valid_from: 2024-01-01, value: 0.5}'
    text += f"factors: {{rate: {{unit: kg/min, editions: [{edition}]}}}}\n"
    first = visit(1) | {"data": {"minutes": 3, "arm": "a"}}
    events = [first, visit(2, minutes=4) | {"time": "2023-01-01T00:00:00Z"}]
    tried = trial.run(parse_catalogs({"clinic.yaml": text}), [json.dumps(one).encode() for one in events])
    assert [one.code for one in tried.verdicts] == [None, "factor_missing"]
    assert numbers_of(tried)["minutes"] == Decimal("1.5")
    assert not [one.segment for one in tried.numbers if "@" in one.segment]


@pytest.mark.parametrize("order", [1, -1])
def test_amendments_hold_before_and_after_their_target(order: int) -> None:
    events = [
        visit(1),
        visit(2),
        amendment("retraction", 1),
        amendment("correction", 2, data={"minutes": 7}),
    ]
    tried = try_out(*events[::order])
    assert numbers_of(tried) == {"visits": 1, "minutes": 7, "people": 1}
    outcomes = {one.id: one.outcome for one in tried.verdicts}
    assert outcomes["visit-1"] == "retracted"
    assert set(outcomes.values()) == {"counted", "retracted"}


def test_a_thousand_events_take_well_under_a_second() -> None:
    texts = [json.dumps(visit(number)).encode() for number in range(1_000)]
    began = time.process_time()
    tried = trial.run(CATALOGS, texts)
    assert time.process_time() - began < 1
    assert numbers_of(tried)["visits"] == 1_000


def test_the_command_answers_no_if_an_event_is_rejected(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    file = tmp_path / "visits.ndjson"
    file.write_text(json.dumps(visit(1)) + "\n")
    told = impact("try", str(tmp_path / "catalog"), str(file))
    assert told.exit_code == 0, told.stderr
    assert "1 events: 1 counted" in told.stdout
    assert "visits, minutes, people" in told.stdout
    file.write_text(json.dumps(visit(1, minutes=-1)) + "\n")
    told = impact("try", str(tmp_path / "catalog"), str(file), "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["verdicts"][0]["code"] == "schema_violation"


def test_a_product_without_a_catalog_is_wrong_use(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog")
    told = impact("try", str(tmp_path / "catalog"), "none.ndjson", "--product", "school")
    assert (told.exit_code, "it has clinic" in told.stderr) == (2, True)
