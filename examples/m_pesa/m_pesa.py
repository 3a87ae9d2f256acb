"""M-Pesa: ever more customers, but not more women, and fewer in the countryside.

More than 20 million customers and 247,869 agents are the public figures; here one customer stands for ten
thousand, while agents are all there. Men take up the new app, women do not, so that the gap opens. From
August on agents leave rural counties and their customers stop. A new tariff makes small payments dear, and
will be taken back; saving by text message works.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from examples.story import FIRST_DAY, Event, Story, course, days, moved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["COUNT", "TITLE", "events", "moved"]

TITLE = "M-Pesa, a year of mobile money (one customer stands for ten thousand)"
COUNT = 31_397

# fmt: off
COUNTIES = (  # the 47 of Kenya, the urban ones first
    "nairobi", "mombasa", "kisumu", "nakuru", "kiambu", "uasin_gishu", "machakos", "kajiado", "baringo",
    "bomet", "bungoma", "busia", "elgeyo_marakwet", "embu", "garissa", "homa_bay", "isiolo", "kakamega",
    "kericho", "kilifi", "kirinyaga", "kisii", "kitui", "kwale", "laikipia", "lamu", "makueni", "mandera",
    "marsabit", "meru", "migori", "muranga", "nandi", "narok", "nyamira", "nyandarua", "nyeri", "samburu",
    "siaya", "taita_taveta", "tana_river", "tharaka_nithi", "trans_nzoia", "turkana", "vihiga", "wajir",
    "west_pokot",
)
# fmt: on
URBAN = 8
AGENTS, RURAL_AGENTS = 247_869, 100_000  # at the end of the story, and before they began to leave
RURAL_AGENTS_LEFT = course({"2026-08-01": 1.0, "2026-11-21": 0.78})

MEN = course({"2025-11-22": 1_080, "2026-08-01": 1_200, "2026-11-21": 1_480})
WOMEN = course({"2025-11-22": 985, "2026-11-21": 1_000})
RURAL = {"male": 0.5, "female": 0.55}
RURAL_OF_NEW = 0.1  # the app spreads in towns
RURAL_ACTIVE = course({"2026-08-01": 0.97, "2026-11-21": 0.85})
EVERY_DAYS = 27  # so that 28 days, the last of which is today, have everybody who is active
FIRST_ACCOUNT = {"male": 0.25, "female": 0.4}
SENT_KES = {"male": 14_000, "female": 9_500}
FEE = course({"2026-09-30": 0.012, "2026-10-01": 0.019})
SAVES = {
    "urban": course({"2025-11-22": 0.27}),
    "rural": course({"2026-02-15": 0.13, "2026-05-15": 0.24, "2026-11-21": 0.26}),
}
WOMEN_SAVE = 0.85  # as often as men


class Customer(NamedTuple):
    """Somebody with an account."""

    gender: str
    county: int
    first_account: bool

    @property
    def area(self) -> str:
        return "urban" if self.county < URBAN else "rural"


def events(now: datetime) -> Iterator[Event]:
    """The year up to `now`."""
    story = Story("m_pesa", now, seed=247)
    study = {"households": 194_000}
    yield story.event("study", date(2025, 11, 24), study, by="research")
    customers: list[Customer] = []
    for day in days():
        for gender, wanted in (("male", MEN), ("female", WOMEN)):
            there = sum(one.gender == gender for one in customers)
            customers += [
                _enrol(story, gender, new=day > FIRST_DAY) for _ in range(round(wanted(day)) - there)
            ]
        for number in range(day.toordinal() % EVERY_DAYS, len(customers), EVERY_DAYS):
            customer = customers[number]
            if customer.area == "urban" or story.chance(RURAL_ACTIVE(day)):
                yield _activity(story, day, number, customer)
        if day.toordinal() % 7 == 0:
            yield from _agents(story, day)
    yield from _annotations(story)


def _enrol(story: Story, gender: str, *, new: bool) -> Customer:
    rural = story.chance(RURAL_OF_NEW if new else RURAL[gender])
    places = range(URBAN, len(COUNTIES)) if rural else range(URBAN)
    county = story.one_of({place: 1 / (1 + place % 13) for place in places})
    return Customer(gender, county, story.chance(FIRST_ACCOUNT[gender]))


def _activity(story: Story, day: date, number: int, customer: Customer) -> Event:
    """What a customer did in about four weeks."""
    kes = max(500, round(story.near(SENT_KES[customer.gender], 3_500)))
    saves = SAVES[customer.area](day) * (WOMEN_SAVE if customer.gender == "female" else 1)
    data = {
        "gender": customer.gender,
        "area": customer.area,
        "county": COUNTIES[customer.county],
        "first_account": customer.first_account,
        "kes": kes,
        "fee_kes": round(kes * FEE(day) * max(0.5, story.near(1, 0.1))),
        "saved": story.chance(saves),
    }
    return story.event("activity", day, data, by="wallet", subject=f"customer-{number}")


def _agents(story: Story, day: date) -> Iterator[Event]:
    """How many agents each county has; all of them together come to the public figure."""
    rural_total = RURAL_AGENTS * RURAL_AGENTS_LEFT(day)
    total = AGENTS * course({"2025-11-22": 0.92, "2026-11-14": 1.0})(day)
    left = round(total)
    for place, county in enumerate(COUNTIES):
        last = place == len(COUNTIES) - 1
        share = (total - rural_total) / URBAN if place < URBAN else rural_total / (len(COUNTIES) - URBAN)
        agents = left if last else round(share)
        left -= agents
        data = {"county": county, "area": "urban" if place < URBAN else "rural", "agents": agents}
        yield story.event("agents", day, data, by="agents")


def _annotations(story: Story) -> Iterator[Event]:
    yield story.annotation(
        "launch", "2026-02-15", "Saving by text message", ["saving_share"], "savings_by_text"
    )
    yield story.annotation(
        "launch", "2026-03-08", "Women who explain the wallet to women", ["active_customers"], "ambassadors"
    )
    yield story.annotation("launch", "2026-10-01", "New tariff for small payments", ["fee_share"])
    yield story.annotation(
        "decision",
        "2026-11-18",
        "The tariff for small payments is taken back from December on",
        ["fee_share"],
    )
    yield story.annotation(
        "external",
        "2026-08-05",
        "Banks lend less to agents in rural counties",
        ["agents", "active_customers"],
    )
    yield story.annotation(
        "launch", "2026-11-02", "Cash advances for rural agents", ["active_customers"], "rural_float"
    )
