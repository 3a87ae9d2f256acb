"""Duolingo: revenue grows, and those who learn for free grow fewer.

More than 100 million people learn in a month, nine in ten of them for free: the public figures; here one
learner stands for fifty thousand. In June lessons begin to cost energy, which those who pay have without end:
revenue rises, learners with low incomes break off more lessons, and free learners leave, until their share is
below what was promised. A course for refugees works, and classrooms get energy back only at the end.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from examples.story import Event, Story, course, days, moved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["COUNT", "TITLE", "events", "moved"]

TITLE = "Duolingo, a year of lessons (one learner stands for fifty thousand)"
COUNT = 46_834

LANGUAGES = {"en": 38, "es": 22, "pt": 14, "hi": 12, "ar": 8, None: 6}
INCOMES = {"low": 25, "middle": 40, "high": 35}
REFUGEES = 0.05
EVERY_DAYS = 18  # so that in 28 days everybody who learns is seen
FREE = course({"2025-11-22": 1_900, "2026-06-15": 2_060, "2026-08-20": 2_030, "2026-11-21": 1_690})
PAYING = course({"2025-11-22": 150, "2026-06-15": 185, "2026-11-21": 270})
FINISHED = {
    "low": course({"2026-06-15": 0.80, "2026-11-21": 0.58}),
    "middle": course({"2026-06-15": 0.82, "2026-11-21": 0.93}),
    "high": course({"2026-06-15": 0.84, "2026-11-21": 0.96}),
}
REFUGEES_FINISH = course({"2026-03-15": 0.60, "2026-05-01": 0.80})
ENERGY = date(2026, 6, 15)
FIRST_WORDS = date(2026, 3, 15)
ENERGY_SHARE = course({"2026-06-15": 0.0, "2026-11-21": 0.35})  # of the revenue
REVENUE_USD = course({"2025-11-22": 52, "2026-06-15": 60, "2026-11-21": 84})
REGIONS = {"americas": 0.5, "europe": 0.3, "asia": 0.2}
WAIVERS_A_WEEK = course({"2025-11-22": 60, "2026-03-01": 85, "2026-11-21": 80})
TEST_SCORES = {"low": 98, "middle": 108, "high": 118}  # means on the scale of the test, 10 to 160


class Learner(NamedTuple):
    """Somebody who learns."""

    name: str
    language: str | None
    income: str
    refugee: bool


def events(now: datetime) -> Iterator[Event]:
    """The year up to `now`."""
    story = Story("duolingo", now, seed=113)
    free, paying = list[Learner](), list[Learner]()
    joined = 0
    for day in days():
        for plan, learners, wanted in (("free", free, FREE), ("super", paying, PAYING)):
            while len(learners) < round(wanted(day)):
                joined += 1
                learners.append(_join(story, joined, plan))
            while len(learners) > round(wanted(day)):
                learners.pop(story.some(range(len(learners)), 1)[0])
            for learner in learners:
                if (day.toordinal() + int(learner.name.removeprefix("learner-"))) % EVERY_DAYS == 0:
                    yield _lesson(story, day, learner, plan)
        yield from _money(story, day)
        yield from _tests(story, day)
    yield from _annotations(story)


def _join(story: Story, number: int, plan: str) -> Learner:
    income = story.one_of(INCOMES if plan == "free" else {"low": 3, "middle": 27, "high": 70})
    refugee = plan == "free" and story.chance(REFUGEES)
    return Learner(f"learner-{number}", story.one_of(LANGUAGES), "low" if refugee else income, refugee)


def _lesson(story: Story, day: date, learner: Learner, plan: str) -> Event:
    finished = REFUGEES_FINISH(day) if learner.refugee else FINISHED[learner.income](day)
    data: dict[str, object] = {"plan": plan, "income": learner.income, "refugee": learner.refugee}
    if learner.language is not None:
        data["language"] = learner.language
    data["finished"] = story.chance(finished)
    if learner.refugee and day >= FIRST_WORDS:
        data["feature"] = "first_words"
    else:
        data["feature"] = "energy" if plan == "free" and day >= ENERGY else "path"
    return story.event("lesson", day, data, by="app", subject=learner.name)


def _money(story: Story, day: date) -> Iterator[Event]:
    for region, share in REGIONS.items():
        usd = round(REVENUE_USD(day) * share * max(0.3, story.near(1, 0.15)), 2)
        of_energy = round(usd * ENERGY_SHARE(day), 2)
        paid = {"path": round(usd - of_energy, 2), "energy": of_energy}
        for feature, part in paid.items():
            if part:
                data = {"region": region, "usd": part, "feature": feature}
                yield story.event("revenue", day, data, by="shop")


def _tests(story: Story, day: date) -> Iterator[Event]:
    """English tests, and once a week the fees that were waived."""
    for _ in range(story.whole(4)):
        income = story.one_of(INCOMES)
        score = min(160, max(10, 5 * round(story.near(TEST_SCORES[income], 18) / 5)))
        yield story.event("test", day, {"income": income, "score": score}, by="english_test")
    if day.toordinal() % 7 == 0:
        for refugees, share in ((True, 0.3), (False, 0.7)):
            waivers = story.whole(WAIVERS_A_WEEK(day) * share)
            yield story.event("waivers", day, {"refugees": refugees, "waivers": waivers}, by="english_test")
            if day == date(2026, 9, 13) and not refugees:
                copy = story.event(
                    "waivers", day, {"refugees": refugees, "waivers": waivers}, by="english_test"
                )
                yield copy
                yield story.retraction(copy, date(2026, 9, 21), "the week was sent twice")


def _annotations(story: Story) -> Iterator[Event]:
    yield story.annotation(
        "launch", "2026-03-15", "First words for refugees", ["completion_rate"], "first_words"
    )
    yield story.annotation(
        "launch", "2026-06-15", "Lessons cost energy", ["free_learners", "revenue"], "energy"
    )
    yield story.annotation(
        "decision",
        "2026-11-02",
        "Energy stays off in schools and camps until the free share is back",
        ["free_share"],
    )
    yield story.annotation(
        "launch", "2026-11-09", "Free classrooms without energy", ["free_learners"], "free_classrooms"
    )
