"""Quarantine: what is in it and why, and its replay under another catalog."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from impact_ingest.accept import Judge
from impact_ingest.limits import Limits
from impact_ingest.replay import Entry, NotReplayable, ReplayParts, judge_again
from impact_ingest.rules import Rules
from impact_ingest.verdicts import Refused
from impact_schemas.catalog import parse_catalogs
from impact_schemas.identity import Identities, Pseudonyms
from impact_schemas.tables import to_datetime
from tests.cli.in_process import impact
from tests.cli.service import Service, visit, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from impact_ingest.rules import ProductRules

MASTER = b"the master key of a test"
RECEIVED_AT = 1_790_000_000_000_000

CATALOG = """\
apiVersion: impact/v1
product: clinic
title: A clinic
sources: ["/clinic/*"]
events:
  clinic.visit.v1:
    pseudonymous: [data.household]
    data:
      type: object
      required: [minutes]
      properties: {minutes: {type: number, minimum: LEAST}, household: {type: string, pattern: "^H[0-9]+$"}}
  clinic.call.v1:
    data: {type: object, required: [answered], properties: {answered: {type: boolean}}}
metrics:
  visits: {title: Visits, event: clinic.visit.v1, aggregate: count, role: impact}
  people:
    {title: People, event: [clinic.visit.v1, clinic.call.v1], aggregate: unique, of: subject, role: impact}
  households: {title: Households, event: clinic.visit.v1, aggregate: unique, of: data.household, role: impact}
"""
# as it was when the events came: no calls, and no visit under 5 minutes
CALLS_TYPE = CATALOG[CATALOG.index("  clinic.call.v1:") : CATALOG.index("metrics:")]
STRICT = (
    CATALOG.replace("LEAST", "5")
    .replace(CALLS_TYPE, "")
    .replace("[clinic.visit.v1, clinic.call.v1]", "clinic.visit.v1")
)
PRESENT = CATALOG.replace("LEAST", "0")


def rules_of(text: str) -> ProductRules:
    rules = Rules(parse_catalogs({"clinic.yaml": text})).of("clinic")
    assert rules is not None
    return rules


def judge(text: str, **given: Any) -> Judge:
    latest = to_datetime(RECEIVED_AT)
    limits = {"latest": latest, "max_event_bytes": 10_000, **given}
    return Judge(rules_of(text), Identities(MASTER), Pseudonyms(MASTER), **limits)


def quarantined(event: dict[str, Any], text: str = STRICT, **limits: Any) -> Entry:
    """The event as the door of that time quarantines it."""
    at_the_door = judge(text, **limits)
    copy = json.loads(json.dumps(event))
    with pytest.raises(Refused) as refused:
        at_the_door.accept(json.loads(json.dumps(event)), len(json.dumps(event)))
    item = msgspec.json.decode(at_the_door.quarantine(copy, refused.value).event)
    return Entry(refused.value.code, json.dumps(item["event"]), RECEIVED_AT, from_log=False)


def again(entry: Entry, text: str = PRESENT) -> dict[str, Any]:
    parts = ReplayParts(rules_of(text), Identities(MASTER), MASTER, Limits())
    kept = judge_again(entry, parts)
    event: dict[str, Any] = json.loads(kept.event)
    assert kept.key == Identities(MASTER).of("clinic", event["source"], event["id"])
    return event


def test_a_replayed_event_is_the_one_that_the_door_would_have_kept() -> None:
    event = visit(1, minutes=2)
    event["data"]["household"] = "H12"
    kept = judge(PRESENT).accept(json.loads(json.dumps(event)), 200)
    assert again(quarantined(event)) == json.loads(kept.event)


def test_pseudonyms_are_hashed_once_and_raw_values_of_new_paths_are_hashed_at_the_replay() -> None:
    event = visit(1, minutes=2)
    event["data"]["household"] = "H12"
    unaware = STRICT.replace("    pseudonymous: [data.household]\n", "")
    pseudonym = Pseudonyms(MASTER).of("clinic", "H12")
    for text in (STRICT, unaware):
        entry = quarantined(event, text)
        assert again(entry)["data"]["household"] == pseudonym
        assert again(entry)["subject"] == Pseudonyms(MASTER).of("clinic", "person-1")


def test_a_sender_cannot_claim_that_its_values_are_hashed() -> None:
    event = visit(1, minutes=2) | {"hashedpaths": "data.household"}
    event["data"]["household"] = "H12"
    unaware = STRICT.replace("    pseudonymous: [data.household]\n", "")
    kept = again(quarantined(event, unaware))
    assert kept["data"]["household"] == Pseudonyms(MASTER).of("clinic", "H12")
    assert "hashedpaths" not in kept


def test_an_event_that_still_breaks_the_schema_is_refused_again() -> None:
    with pytest.raises(Refused, match="minimum"):
        again(quarantined(visit(1, minutes=-3)))


def test_what_was_in_the_future_at_its_receipt_stays_so() -> None:
    entry = quarantined(visit(1) | {"time": "2099-01-01T00:00:00Z"})
    assert entry.code == "time_in_future"
    with pytest.raises(Refused, match="later than now"):
        again(entry)


def test_an_event_without_its_data_is_never_counted_without_them() -> None:
    entry = quarantined(visit(1), max_event_bytes=50)
    with pytest.raises(NotReplayable, match="its data were not kept"):
        again(entry)


def test_an_event_that_its_pseudonyms_made_too_large_to_keep_is_never_counted_without_data() -> None:
    event = visit(1, minutes=2) | {"subject": "p"}
    entry = quarantined(event, max_event_bytes=len(json.dumps(event)))
    assert entry.code == "schema_violation"
    with pytest.raises(NotReplayable, match="its data were not kept"):
        again(entry)


@pytest.mark.parametrize(
    ("code", "payload", "said"),
    [
        ("id_conflict", json.dumps(visit(1)), "send a correction"),
        ("invalid_envelope", "[]", "no CloudEvent"),
        ("schema_violation", None, "no longer kept"),
        ("schema_violation", "{", "cannot be read"),
    ],
)
def test_what_cannot_be_replayed_says_what_to_do_instead(code: str, payload: str | None, said: str) -> None:
    with pytest.raises(NotReplayable, match=said):
        again(Entry(code, payload, RECEIVED_AT, from_log=False))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "clinic.yaml").write_text(STRICT)
    running = Service(tmp_path)
    running.start()
    yield running
    if running.process is not None:
        running.stop()


def test_quarantine_from_the_refusal_to_the_number(service: Service) -> None:
    call = visit(9) | {"id": "call-1", "type": "clinic.call.v1", "data": {"answered": True}}
    short = visit(1, minutes=2)
    short["data"]["household"] = "H1"
    answer = service.post(
        [visit(1), visit(1, minutes=50), short | {"id": "short"}, call | {"subject": "caller"}]
    )
    assert [one["code"] for one in answer.json()["rejected"]] == ["schema_violation", "unknown_type"]
    wait_until(lambda: len(service.sql("SELECT 1 FROM quarantined_events")) == 3, "all are there")
    where = ("--data", str(service.data))
    catalog = ("--catalog", str(service.folder / "catalog"))

    listed = json.loads(impact("quarantine", "list", *where, "--json").stdout)
    assert [(one["code"], one["count"]) for one in listed["counts"]] == [
        ("id_conflict", 1),
        ("schema_violation", 1),
        ("unknown_type", 1),
    ]
    names = {one["code"]: one["name"] for one in listed["entries"]}
    shown = json.loads(impact("quarantine", "show", names["schema_violation"], *where, "--json").stdout)
    assert shown["payload"]["data"]["minutes"] == 2
    assert (
        impact("quarantine", "list", *where, "--since", "2999-01-01").stdout == "nothing is in quarantine\n"
    )

    first_receipt = service.sql("SELECT received_at FROM quarantine WHERE code = 'unknown_type'")
    # all of it beside the running service
    (service.folder / "catalog" / "clinic.yaml").write_text(PRESENT)
    planned = impact("quarantine", "replay", *where, *catalog, "--dry-run", "--json")
    done = impact("quarantine", "replay", *where, *catalog, "--json")
    assert (planned.exit_code, done.exit_code) == (1, 1)
    for told in (planned, done):
        outcomes = json.loads(told.stdout)
        assert outcomes["outcomes"] == {"replayed": 2, "not replayable": 1}
        assert "send a correction" in outcomes["others"][0]["detail"]
    repeated = json.loads(impact("quarantine", "replay", *where, *catalog, "--json").stdout)
    assert repeated["outcomes"] == {"not replayable": 1}

    with sqlite3.connect(service.data / "events.db") as log:
        receipts = log.execute("SELECT received_at FROM record WHERE topic = 'impact.events.v1'").fetchall()
    log.close()
    assert len(receipts) == 2  # one at the door, one replayed: both events came in one request
    # the visitor of the short visit is the one who was counted before, under one pseudonym
    wait_until(lambda: service.value("visits") == 2 and service.value("people") == 2, "both are counted")
    assert service.value("households") == 1
    assert service.sql("SELECT received_at FROM quarantine WHERE code = 'unknown_type'") == first_receipt
    assert len(service.sql("SELECT 1 FROM quarantined_events WHERE replayed_at IS NOT NULL")) == 2
