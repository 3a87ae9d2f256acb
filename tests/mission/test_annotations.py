"""Annotations in the tables: each once, as corrected, gone once taken back; and what they answer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.windows import DAY, HOUR
from impact_schemas.annotation import ANNOTATION
from tests.aggregator.conftest import correction, retraction
from tests.mission.conftest import NOON, visit

if TYPE_CHECKING:
    from impact_aggregator.events import Event
    from tests.mission.conftest import Mission

ROWS = "SELECT title, kind, metrics, bet, event_id FROM annotations ORDER BY event_id"


def annotation(event_id: str, title: str = "Reminders", time: int = NOON, **data: Any) -> Event:
    content = {"kind": "decision", "title": title} | data
    return visit(event_id, time, None, event_type=ANNOTATION, **content)


async def test_an_annotation_is_there_once_however_often_it_comes(clinic_on_both: Mission) -> None:
    clinic = clinic_on_both.pipeline
    event = annotation("a", metrics=["missed"], bet="texts", url="https://example.org")
    await clinic.count([event, event])
    await clinic.count([event])
    expected = ("Reminders", "decision", '["missed"]', "texts", "a")
    assert await clinic.rows(ROWS) == [expected]
    assert await clinic.rows("SELECT counted, duplicates FROM ledger") == [(1, 2)]
    ((at, url),) = await clinic.rows("SELECT at, url FROM annotations")
    assert (str(at)[:19], url) == ("2026-01-01 12:00:00", "https://example.org")


@pytest.mark.parametrize("seed", range(6))
async def test_in_any_order_what_was_taken_back_is_gone_and_what_was_corrected_is_right(
    clinic: Mission, seed: int
) -> None:
    events = [
        annotation("gone"),
        retraction("r", of="gone"),
        annotation("wrong"),
        correction("c1", of="wrong", time=NOON + 1, kind="launch", title="Almost"),
        correction("c2", of="wrong", time=NOON + 2, kind="launch", title="Right"),
        correction("c3", of="wrong", time=NOON + 3, kind="nonsense", title="Unfit"),
        annotation("plain"),
    ]
    source = random.Random(seed)
    source.shuffle(events)
    while events:
        size = source.randint(1, 4)
        batch, events = events[:size], events[size:]
        await clinic.pipeline.count(batch)
    assert await clinic.pipeline.rows(ROWS) == [
        ("Reminders", "decision", "[]", None, "plain"),
        ("Right", "launch", "[]", None, "wrong"),
    ]
    assert await clinic.pipeline.rows("SELECT code FROM quarantined_events") == [("schema_violation",)]


async def test_what_has_not_the_form_of_an_annotation_is_quarantined(clinic: Mission) -> None:
    event = visit("a", NOON, None, event_type=ANNOTATION, kind="decision")
    await clinic.pipeline.count([event])
    assert await clinic.pipeline.rows(ROWS) == []
    assert await clinic.pipeline.rows("SELECT code, event_id FROM quarantined_events") == [
        ("schema_violation", "a")
    ]


async def test_a_violation_shows_the_first_decision_since_that_names_its_metric(clinic: Mission) -> None:
    await clinic.pipeline.count([visit(f"{n}", NOON, kept=False) for n in range(5)])
    await clinic.pipeline.count([visit("yesterday", NOON - DAY, received_at=NOON, kept=False)])
    await clinic.pipeline.count(
        [
            annotation("before", time=NOON - 9 * DAY, metrics=["missed"]),
            annotation("other", time=NOON, metrics=["missed_calls"]),
            annotation("launch", time=NOON, metrics=["missed"], kind="launch"),
            annotation("late", "Second", time=NOON + 2 * HOUR, metrics=["missed"]),
            annotation("answer", "First", time=NOON + HOUR, metrics=["visits", "missed"]),
        ]
    )
    await clinic.tick()
    ((title, at, before, now),) = await clinic.rows(
        "SELECT answered_by, answered_at, value_at_answer, value_now FROM violations"
        " WHERE rule = 'missed_max'"
    )
    assert (title, str(at)[:19], before, now) == ("First", "2026-01-01 13:00:00", 1, 6)
