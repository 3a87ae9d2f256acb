"""CareMessage: reminders in English help, and the gap to patients who speak Spanish opens.

CareMessage reached 5.7 million patients in a year; here one patient stands for a thousand. From March on
half of the patients get a reminder that can be answered, in English only. Those who speak English miss
fewer visits, those who speak Spanish more than before, so that the total gets better while they are left
behind. In November reminders in Spanish start.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from examples.story import Event, Story, course, days, moved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["COUNT", "TITLE", "events", "moved"]

TITLE = "CareMessage, a year of messages and visits (one patient stands for a thousand)"
COUNT = 51_680

PATIENTS_A_DAY = 15.7  # new ones: 5,700 in the year
CLINICS = {"north": 30, "south": 27, "east": 23, "west": 20}
LANGUAGES = {"en": 62, "es": 25, "zh": 7, "vi": 3, "ht": 1, None: 2}  # None: the clinic does not know
PAYERS = {"medicaid": 55, "uninsured": 25, "medicare": 20}
ARMS = {"none": 1, "reminder": 1}
TEXTS = {"none": 1, "nutrition": 1}
THEMES = {"thanks": 50, "too_many_messages": 14, "hard_to_read": 12, "reschedule": 16, "other": 8}
SPANISH_THEMES = {"thanks": 30, "wrong_language": 38, "hard_to_read": 14, "reschedule": 12, "other": 6}

EXPERIMENT = date(2026, 3, 2)
NUTRITION_TEXTS = date(2026, 5, 4)
SPANISH_REMINDERS = date(2026, 11, 16)
MISSED = course({"2026-03-01": 0.31, "2026-11-21": 0.17})
MISSED_BY_SPANISH = course({"2026-06-01": 0.2, "2026-11-21": 0.35})
REMINDER_HELPS, ENGLISH_REMINDER_HELPS_SPANISH = 0.105, 0.005
HBA1C_CHANGE, HBA1C_SPREAD = -0.4, 1.1  # percentage points of HbA1c
STORM = (date(2026, 11, 6), date(2026, 11, 13))  # every message was sent twice


class Patient(NamedTuple):
    """Somebody whom a clinic enrolled."""

    name: str
    clinic: str
    language: str | None
    payer: str
    arm: str
    texts: str

    def about(self) -> dict[str, str]:
        """What the events say of the patient."""
        known = {"clinic": self.clinic, "payer": self.payer}
        return known if self.language is None else {**known, "language": self.language}


def events(now: datetime) -> Iterator[Event]:
    """The year up to `now`."""
    story = Story("caremessage", now, seed=57)
    patients: list[Patient] = []
    closed: list[Event] = []  # visits that a clinic wrongly reported as missed
    for day in days():
        enrolled = [_enrol(story, len(patients) + n) for n in range(story.whole(PATIENTS_A_DAY))]
        patients += enrolled
        yield from _messages(story, day, patients, enrolled)
        for patient in story.some(patients, story.whole(80)):
            visit = _visit(story, day, patient)
            yield visit
            if day == date(2026, 7, 3) and not visit["data"]["kept"]:
                closed.append(visit)
        yield from _outcomes(story, day, patients)
        yield from _fees(story, day)
    for place, visit in enumerate(closed):
        if place % 3:
            yield story.retraction(visit, date(2026, 7, 20), "the clinic was closed on that day")
        else:
            yield story.correction(visit, date(2026, 7, 20), "the visit took place by phone", kept=True)
    yield from _annotations(story)


def _enrol(story: Story, number: int) -> Patient:
    about = (story.one_of(CLINICS), story.one_of(LANGUAGES), story.one_of(PAYERS))
    return Patient(f"patient-{number}", *about, story.one_of(ARMS), story.one_of(TEXTS))


def _messages(story: Story, day: date, patients: list[Patient], enrolled: list[Patient]) -> Iterator[Event]:
    """A welcome to each new patient, and a message to some of the others."""
    storm = STORM[0] <= day < STORM[1]
    for patient in (*enrolled, *story.some(patients, story.whole(24))):
        for _ in range(2 if storm else 1):
            yield story.event(
                "message.delivered", day, patient.about(), by=patient.clinic, subject=patient.name
            )
        if story.chance(0.18 if storm else 0.012):
            yield story.event(
                "opt_out", day, {"clinic": patient.clinic}, by=patient.clinic, subject=patient.name
            )


def _visit(story: Story, day: date, patient: Patient) -> Event:
    missed = (MISSED_BY_SPANISH if patient.language == "es" else MISSED)(day)
    data: dict[str, object] = dict(patient.about())
    if day >= EXPERIMENT:
        data["arm"] = patient.arm
        understood = patient.language == "en" or (patient.language == "es" and day >= SPANISH_REMINDERS)
        if patient.arm == "reminder":
            missed -= REMINDER_HELPS if understood else ENGLISH_REMINDER_HELPS_SPANISH
    data["kept"] = not story.chance(missed)
    return story.event("appointment", day, data, by=patient.clinic, subject=patient.name)


def _outcomes(story: Story, day: date, patients: list[Patient]) -> Iterator[Event]:
    """Blood sugar half a year apart, and what people say."""
    for patient in story.some(patients, story.whole(9)):
        data: dict[str, object] = {
            **patient.about(),
            "change": round(story.near(HBA1C_CHANGE, HBA1C_SPREAD), 1),
        }
        if day >= NUTRITION_TEXTS:  # which changed nothing
            data["texts"] = patient.texts
        yield story.event("hba1c", day, data, by=patient.clinic, subject=patient.name)
    for patient in story.some(patients, story.whole(8)):
        spanish = patient.language == "es"
        score = story.one_of(
            {1: 12, 2: 18, 3: 30, 4: 25, 5: 15} if spanish else {1: 3, 2: 5, 3: 14, 4: 38, 5: 40}
        )
        theme = story.one_of(SPANISH_THEMES if spanish else THEMES)
        data = {**patient.about(), "score": score, "theme": theme, "consent": story.chance(0.9)}
        yield story.event("feedback", day, data, by=patient.clinic, subject=patient.name)


def _fees(story: Story, day: date) -> Iterator[Event]:
    """What clinics pay for what they use."""
    growth = course({"2025-11-22": 1.0, "2026-11-21": 1.3})(day)
    for clinic, size in CLINICS.items():
        usd = round(3 * size * growth * max(0.3, story.near(1, 0.1)), 2)
        yield story.event("fee", day, {"clinic": clinic, "usd": usd}, by="billing")


def _annotations(story: Story) -> Iterator[Event]:
    yield story.annotation(
        "launch",
        "2026-03-02",
        "Reminders that can be answered, in English",
        ["no_show_rate"],
        "answered_reminders",
    )
    yield story.annotation(
        "launch", "2026-05-04", "Weekly texts about food and blood sugar", ["hba1c_change"], "nutrition_texts"
    )
    yield story.annotation(
        "incident", "2026-11-06", "For a week every message was sent twice", ["opt_out_rate"]
    )
    yield story.annotation(
        "decision", "2026-11-13", "No patient gets more than one message a day", ["opt_out_rate"]
    )
    yield story.annotation(
        "decision", "2026-10-12", "Reminders in Spanish come before any new feature", ["no_show_rate"]
    )
    yield story.annotation(
        "launch", "2026-11-16", "Reminders in Spanish", ["no_show_rate"], "spanish_reminders"
    )
