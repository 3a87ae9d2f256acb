"""Embrace: warmer babies in all, but the smallest are left behind, and a partner's data come months late.

The infant warmer has helped more than 350,000 babies; this is one year of 48 made-up facilities. Skin-to-skin
training brings fewer episodes of hypothermia to most babies, and none to those under 1,500 g, of whom
ever more are sent to the facilities. The partner in Nepal reports three months late, so that the last quarter
lacks its numbers; earlier ones came in one parcel, and some were corrected.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from examples.story import FIRST_DAY, Event, Story, course, days, moved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["COUNT", "TITLE", "events", "moved"]

TITLE = "Embrace, a year of infant warmers"
COUNT = 17_865

FACILITIES = {"india": 20, "kenya": 12, "nepal": 8, "uganda": 8}
LATE, LATE_FROM = "nepal", date(2026, 8, 1)  # what it has not reported yet
BABIES_A_MONTH = 30
BANDS = {"under_1500": 0.2, "1500_1999": 0.35, "2000_2499": 0.45}
HYPOTHERMIA = {
    "under_1500": course({"2026-05-31": 0.36, "2026-08-01": 0.46, "2026-11-21": 0.56}),
    "1500_1999": course({"2026-04-01": 0.25, "2026-07-01": 0.20, "2026-11-21": 0.09}),
    "2000_2499": course({"2026-04-01": 0.17, "2026-07-01": 0.13, "2026-11-21": 0.05}),
}
WARM = course({"2026-04-01": 0.68, "2026-07-01": 0.80, "2026-11-21": 0.83})  # an hour after admission
COST_USD = course({"2025-11-22": 38, "2026-11-21": 31})
OVERHEATED = course({"2026-08-31": 0.001, "2026-09-30": 0.012})
RECOUNTED = date(2026, 5, 31)  # the month of which a facility counted episodes twice


class Facility(NamedTuple):
    """A place with warmers."""

    name: str
    country: str
    channel: str
    size: float
    warmers: int

    def about(self) -> dict[str, str]:
        """What every event says of it."""
        return {"facility": self.name, "country": self.country, "channel": self.channel}


def events(now: datetime) -> Iterator[Event]:
    """The year up to `now`; what came late comes last."""
    story = Story("embrace", now, seed=350)
    facilities = [
        Facility(
            f"{country}-{number}",
            country,
            story.one_of({"hospital": 5, "clinic": 3, "community": 2}),
            max(0.4, story.near(1, 0.25)),
            story.whole(story.near(6, 1.5)),
        )
        for country, count in FACILITIES.items()
        for number in range(1, count + 1)
    ]
    late: list[Event] = []
    for end in _months():
        for facility in facilities:
            month = list(_month(story, end, facility))
            if facility.country != LATE:
                yield from month
            elif end < LATE_FROM:
                late += month
        yield from _sales(story, end)
    yield from late
    yield from _annotations(story)


def _months() -> Iterator[date]:
    """The last day of each month that is over."""
    return (day for day in days() if day.day == monthrange(day.year, day.month)[1])


def _month(story: Story, end: date, facility: Facility) -> Iterator[Event]:
    """The babies of one facility in one month, and its reports at the end."""
    first = max(end.replace(day=1), FIRST_DAY)
    for band, share in BANDS.items():
        admitted = story.whole(BABIES_A_MONTH * share * facility.size * (end.day - first.day + 1) / end.day)
        for number in range(admitted):
            day = date.fromordinal(first.toordinal() + number * (end.day - first.day) // max(admitted, 1))
            baby = f"{facility.name}-{end:%Y%m}-{band}-{number}"
            data = {**facility.about(), "weight_band": band, "warm": story.chance(WARM(day))}
            yield story.event("baby", day, data, by=facility.country, subject=baby)
        yield from _report(story, end, facility, band, admitted)
    stock = {**facility.about(), "warmers": facility.warmers + (end.month + len(facility.name)) % 2}
    yield story.event("stock", end, stock, by=facility.country)


def _report(story: Story, end: date, facility: Facility, band: str, admitted: int) -> Iterator[Event]:
    episodes = sum(story.chance(HYPOTHERMIA[band](end)) for _ in range(admitted))
    data: dict[str, object] = {
        **facility.about(),
        "weight_band": band,
        "admissions": admitted,
        "episodes": episodes,
        "overheated": sum(story.chance(OVERHEATED(end)) for _ in range(admitted)),
        "cost_usd": round(admitted * max(5, story.near(COST_USD(end), 4)), 2),
    }
    counted_twice = end == RECOUNTED and facility.country == "india"
    if counted_twice:
        data["episodes"] = min(admitted, 2 * episodes)
    report = story.event("report", end, data, by=facility.country)
    yield report
    if counted_twice:
        yield story.correction(report, date(2026, 8, 12), "episodes were counted twice", episodes=episodes)
    if end == RECOUNTED and facility.name == "kenya-3":
        copy = story.event("report", end, data, by=facility.country)
        yield copy
        yield story.retraction(copy, date(2026, 8, 14), "the report was sent twice, under two ids")


def _sales(story: Story, end: date) -> Iterator[Event]:
    for channel, usual in {"hospital": 9_000, "clinic": 4_000, "community": 1_500}.items():
        usd = usual * course({"2025-11-30": 1, "2026-10-31": 1.2})(end) * story.near(1, 0.08)
        yield story.event("sale", end, {"channel": channel, "usd": round(usd, 2)}, by="sales")


def _annotations(story: Story) -> Iterator[Event]:
    yield story.annotation("launch", "2026-02-02", "Warmers for rent", ["warmers_in_use"], "rental")
    yield story.annotation(
        "incident", "2026-09-20", "A batch of wax pouches got too hot", ["overheated_babies"]
    )
    yield story.annotation(
        "decision", "2026-11-10", "The batch is taken back from all facilities", ["overheated_babies"]
    )
    yield story.annotation("launch", "2026-04-01", "Skin-to-skin training", ["warm_share"], "skin_to_skin")
    yield story.annotation(
        "external", "2026-09-10", "Roads in Nepal are closed by landslides", ["facilities_reporting"]
    )
    yield story.annotation(
        "decision", "2026-10-20", "The next sleeve is made for the smallest babies", ["hypothermia_rate"]
    )
    yield story.annotation(
        "launch", "2026-11-05", "Sleeve for babies under 1,500 g", ["hypothermia_rate"], "small_sleeve"
    )
