"""Patagonia: each garment is made with less carbon, and all of them together with more.

Recycled fabric and cleaner electricity bring the emissions of a garment down; more garments bring the total
up, past its limit. Both numbers are always shown. A new edition of the factors for electricity holds for part
of the year. Repair, resale and recycling grow, but not in Asia. One percent of the sales is given away, as
promised.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from examples.story import Event, Story, course, days, moved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["COUNT", "TITLE", "events", "moved"]

TITLE = "Patagonia, a year of garments made and kept in use (one stands for a thousand)"
COUNT = 27_061

REGIONS = {"americas": 0.5, "europe": 0.3, "asia": 0.2}
MADE = course({"2025-11-22": 100, "2026-06-01": 112, "2026-11-21": 150})  # garments a day
KEPT = {  # garments a day
    "repair": course({"2025-11-22": 14, "2026-05-22": 18, "2026-11-21": 34}),
    "resale": course({"2025-11-22": 7, "2026-11-21": 8}),
    "recycle": course({"2025-11-22": 5, "2026-11-21": 6}),
}
KEPT_IN_ASIA = course({"2026-06-01": 1.0, "2026-11-21": 0.3})  # the workshop there has moved
REPAIRS_A_DAY = 8  # of which the time is known
IN_TIME = course({"2026-03-01": 0.55, "2026-06-01": 0.78, "2026-11-21": 0.82})
KG_A_GARMENT = 0.42
RECYCLED = {
    "polyester": course({"2026-03-01": 0.62, "2026-07-01": 0.88, "2026-11-21": 0.94}),
    "nylon": course({"2025-11-22": 0.55, "2026-11-21": 0.60}),
    "cotton": course({"2025-11-22": 0.10, "2026-11-21": 0.16}),
}
FABRICS = {"polyester": 0.45, "nylon": 0.3, "cotton": 0.25}
ACTIVITIES_A_GARMENT = {  # the scope, and kilowatt-hours or tonne-kilometres
    "gas": (1, 0.4),
    "electricity": (2, 1.9),
    "sea_freight": (3, 6.0),
    "road_freight": (3, 1.1),
    "air_freight": (3, 0.12),
}
USD_A_GARMENT, GIVEN = 61, 0.0106
SENT_TWICE = date(2026, 7, 8)


def events(now: datetime) -> Iterator[Event]:
    """The year up to `now`."""
    story = Story("patagonia", now, seed=1)
    sold = 0.0
    for day in days():
        for region, share in REGIONS.items():
            made = round(MADE(day) * share * max(0.5, story.near(1, 0.08)), 1)
            yield story.event("made", day, {"region": region, "garments": story.whole(made)}, by="factories")
            yield from _fabric(story, day, region, made * KG_A_GARMENT)
            yield from _energy_and_freight(story, day, region, made)
            yield from _kept(story, day, region, share)
            usd = round(made * USD_A_GARMENT * max(0.5, story.near(1, 0.1)), 2)
            sold += usd
            yield story.event("sale", day, {"region": region, "usd": usd}, by="shops")
        if day.toordinal() % 7 == 0:
            yield story.event("gift", day, {"usd": round(sold * GIVEN, 2)}, by="giving")
            sold = 0.0
    yield from _annotations(story)


def _fabric(story: Story, day: date, region: str, kilograms: float) -> Iterator[Event]:
    """Fabric that went into garments, recycled and new, and what it emitted."""
    for fabric, share in FABRICS.items():
        recycled = min(0.98, max(0.02, story.near(RECYCLED[fabric](day), 0.03)))
        for again, part in ((True, recycled), (False, 1 - recycled)):
            used = round(kilograms * share * part, 3)
            data = {"region": region, "fabric": fabric, "recycled": again, "kilograms": used}
            yield story.event("fabric", day, data, by="mills")
            yield _emitting(story, day, region, 3, f"{'recycled' if again else 'new'}_{fabric}", used)


def _energy_and_freight(story: Story, day: date, region: str, made: float) -> Iterator[Event]:
    for activity, (scope, each) in ACTIVITIES_A_GARMENT.items():
        amount = round(made * each * max(0.5, story.near(1, 0.07)), 3)
        key = f"electricity_{region}" if activity == "electricity" else activity
        event = _emitting(story, day, region, scope, key, amount)
        yield event
        if day == SENT_TWICE and activity == "sea_freight":
            copy = _emitting(story, day, region, scope, key, amount)
            yield copy
            yield story.retraction(copy, date(2026, 7, 21), "two systems sent the same shipment")


def _emitting(story: Story, day: date, region: str, scope: int, activity: str, amount: float) -> Event:
    data = {"region": region, "scope": scope, "activity": activity, "amount": amount}
    return story.event("footprint", day, data, by="footprint")


def _kept(story: Story, day: date, region: str, share: float) -> Iterator[Event]:
    for route, usual in KEPT.items():
        expected = usual(day) * share * (KEPT_IN_ASIA(day) if region == "asia" else 1.0)
        garments = story.whole(max(0.0, story.near(expected, expected / 6)))
        yield story.event("kept", day, {"region": region, "route": route, "garments": garments}, by="repair")
    for _ in range(story.whole(REPAIRS_A_DAY * share)):
        data = {"region": region, "in_time": story.chance(IN_TIME(day))}
        yield story.event("repair", day, data, by="repair")


def _annotations(story: Story) -> Iterator[Event]:
    yield story.annotation(
        "launch",
        "2026-03-01",
        "Spare parts for every jacket of ten years",
        ["repairs_in_time_share"],
        "spare_parts",
    )
    yield story.annotation(
        "launch",
        "2026-03-01",
        "Polyester from bottles and old clothes",
        ["recycled_share"],
        "recycled_polyester",
    )
    yield story.annotation("method", "2026-04-01", "Factors for electricity, edition 2026", ["ghg_total"])
    yield story.annotation("launch", "2026-05-04", "Jackets for rent", ["garments_kept"], "rental")
    yield story.annotation("external", "2026-06-01", "The workshop in Asia moves", ["garments_kept"])
    yield story.annotation(
        "decision", "2026-10-28", "No new colours until the total is below its limit", ["ghg_total"]
    )
    yield story.annotation(
        "launch", "2026-11-04", "A repair truck for Asia", ["garments_kept"], "repair_truck"
    )
