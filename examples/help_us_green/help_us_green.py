"""Help Us Green: more flowers become incense, but not in Varanasi.

About eight tonnes of temple flowers a day are collected, which is the public figure. Drying racks in Kanpur
raise the share that is upcycled there. Varanasi collects more and more and cannot dry it, so that the total
gets better while Varanasi gets worse. The number of women with work grows too slowly for its target. A new
laboratory series lowers the factor for pesticides, and a depot writes tonnes where it means kilograms.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from examples.story import Event, Story, course, days, moved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["COUNT", "TITLE", "events", "moved"]

TITLE = "Help Us Green, a year of temple flowers"
COUNT = 25_717

TEMPLES = {
    "kanpur": [1300, 1100, 800, 600, 500, 400, 300, 200],  # kilograms a day of each temple
    "varanasi": [800, 500, 300, 200],
    "unnao": [220, 160, 120],
}
UNITS = {"kanpur": ("kg", 1), "varanasi": ("t", 1_000), "unnao": ("g", 0.001)}  # as the depots write them
COLLECTED = {
    "kanpur": course({"2025-11-22": 1.0}),
    "varanasi": course({"2026-06-01": 1.0, "2026-11-21": 1.35}),
    "unnao": course({"2025-11-22": 1.0}),  # bins at the temples changed nothing
}
UPCYCLED = {
    "kanpur": course({"2026-04-06": 0.62, "2026-07-01": 0.76, "2026-11-21": 0.93}),
    "varanasi": course({"2026-05-15": 0.66, "2026-08-20": 0.60, "2026-11-21": 0.44}),
    "unnao": course({"2025-11-22": 0.58}),
}
LINES = {"incense": 0.6, "compost": 0.3, "leather": 0.1}
FESTIVALS = {date(2026, 3, 4): 2.2, date(2026, 10, 20): 2.0, date(2026, 11, 8): 2.6}
WOMEN = course({"2025-11-22": 1_020, "2026-07-15": 1_235, "2026-11-21": 1_260})
WOMEN_IN = {"kanpur": 70, "varanasi": 22, "unnao": 8}
TO_ACCOUNT = course({"2026-02-01": 0.71, "2026-07-01": 0.9, "2026-11-21": 0.94})
WAGE_INR = 8_200
PAID_EVERY_DAYS = 27  # so that 28 days, the last of which is today, have everybody
INCIDENTS = course({"2026-10-15": 0.11, "2026-10-20": 0.75, "2026-11-10": 0.75, "2026-11-14": 0.11})
SALES_INR = course({"2025-11-22": 310_000, "2026-11-21": 420_000})
MISTYPED = date(2026, 9, 14)


def events(now: datetime) -> Iterator[Event]:
    """The year up to `now`."""
    story = Story("help_us_green", now, seed=8)
    women: list[str] = []
    for day in days():
        for city, temples in TEMPLES.items():
            yield from _flowers(story, day, city, temples)
        while len(women) < WOMEN(day):
            women.append(story.one_of(WOMEN_IN))
        yield from _wages(story, day, women)
        yield from _sales(story, day)
        for _ in range(story.whole(INCIDENTS(day))):
            kind = story.one_of({"injury": 6, "allergy": 2, "heat": 1})
            data = {"city": story.one_of(WOMEN_IN), "kind": kind}
            yield story.event("incident", day, data, by="units")
    yield from _annotations(story)


def _flowers(story: Story, day: date, city: str, temples: list[int]) -> Iterator[Event]:
    """What came in, temple by temple, and what was made of it, line by line."""
    unit, kilograms_each = UNITS[city]
    collected = 0.0
    for number, usual in enumerate(temples, 1):
        kilograms = usual * COLLECTED[city](day) * FESTIVALS.get(day, 1) * max(0.3, story.near(1, 0.12))
        collected += kilograms
        data = {"city": city, "temple": f"{city}-{number}", "mass": round(kilograms / kilograms_each, 4)}
        if day == MISTYPED and city == "varanasi" and number == 1:
            data["mass"] = round(kilograms)
        event = story.event("collection", day, {**data, "unit": unit}, by=city)
        yield event
        if day == MISTYPED and city == "varanasi" and number == 1:
            in_kilograms = "the scale showed kilograms, tonnes were written"
            yield story.correction(event, date(2026, 9, 16), in_kilograms, unit="kg")
    for line, share in LINES.items():
        upcycled = collected * UPCYCLED[city](day) * share
        yield story.event(
            "production", day, {"city": city, "line": line, "kilograms": round(upcycled, 1)}, by=city
        )


def _wages(story: Story, day: date, women: list[str]) -> Iterator[Event]:
    """Each woman is paid about every four weeks, on a day of her own."""
    for number in range(day.toordinal() % PAID_EVERY_DAYS, len(women), PAID_EVERY_DAYS):
        to_account = story.chance(TO_ACCOUNT(day))
        data = {
            "city": women[number],
            "inr": round(story.near(WAGE_INR, 900)),
            "account": to_account,
        }
        yield story.event("wage", day, data, by=women[number], subject=f"worker-{number}")


def _sales(story: Story, day: date) -> Iterator[Event]:
    for line, share in LINES.items():
        inr = round(SALES_INR(day) / 3 * (share + 0.2) * max(0.2, story.near(1, 0.2)))
        yield story.event("sale", day, {"line": line, "inr": inr}, by="shop")


def _annotations(story: Story) -> Iterator[Event]:
    yield story.annotation(
        "launch", "2026-02-01", "Days on which a bank comes to the unit", ["account_share"], "bank_days"
    )
    yield story.annotation("launch", "2026-03-15", "Bins at the temples of Unnao", (), "temple_bins")
    yield story.annotation(
        "launch", "2026-04-06", "Drying racks in Kanpur", ["upcycled_share"], "drying_racks"
    )
    yield story.annotation(
        "method", "2026-07-01", "A new laboratory series for pesticides on flowers", ["pesticide_kept_out"]
    )
    yield story.annotation("decision", "2026-10-26", "Varanasi gets its own drying hall", ["upcycled_share"])
    yield story.annotation(
        "external", "2026-10-20", "The season of festivals, with double shifts", ["incidents"]
    )
    yield story.annotation("decision", "2026-11-10", "No double shifts, whatever the season", ["incidents"])
    yield story.annotation(
        "launch", "2026-11-09", "Drying hall in Varanasi", ["upcycled_share"], "varanasi_hall"
    )
