"""What the example stories are told with: a calendar that ends today, seeded chance, and stable ids.

A story and its catalog speak of days as seen from TOLD_ON. Whoever plays it moves both by the same number of
days, so that the story always ends today: `on` does it for events, `moved` for the catalog's text.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TOLD_ON = date(2026, 11, 22)
FIRST_DAY = date(2025, 11, 22)  # a year of days, the last of which is the day before TOLD_ON

Event = dict[str, Any]
Choice = TypeVar("Choice")

_DAY = re.compile(r"\b20[0-9]{2}-[01][0-9]-[0-3][0-9]\b")
_NOON_S, _HOUR_S = 12 * 3600, 3600  # UTC; all within an hour, so that a year has few hourly buckets


def moved(text: str, today: date) -> str:
    """`text` with every day in it moved by as much as `today` is after TOLD_ON."""
    ahead = today - TOLD_ON
    return _DAY.sub(lambda found: str(date.fromisoformat(found[0]) + ahead), text)


def course(points: Mapping[str, float]) -> Callable[[date], float]:
    """A value that moves in straight lines between the given days, and stays before and after them."""
    known = [(date.fromisoformat(day), value) for day, value in points.items()]

    def at(day: date) -> float:
        if day <= known[0][0]:
            return known[0][1]
        for (start, low), (end, high) in pairwise(known):
            if day < end:
                return low + (high - low) * ((day - start) / (end - start))
        return known[-1][1]

    return at


def days(first: str | date = FIRST_DAY, last: str | date = TOLD_ON, step: int = 1) -> Iterator[date]:
    """Every `step`th day of the story from `first` on, before `last`."""
    day, end = (date.fromisoformat(one) if isinstance(one, str) else one for one in (first, last))
    while day < end:
        yield day
        day += timedelta(days=step)


class Story:
    """Makes one product's events; the same seed and day give the same events."""

    def __init__(self, product: str, now: datetime, seed: int) -> None:
        self.product = product
        self._ahead = now.astimezone(UTC).date() - TOLD_ON
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 (a story, not a secret)
        self._events = 0

    def event(
        self, kind: str, day: date, data: Mapping[str, Any], *, by: str, subject: str | None = None
    ) -> Event:
        """An event of type `<product>.<kind>.v1` at some hour of `day`, sent `by` a part of the product."""
        event = self._new(f"{self.product}.{kind}.v1", by, day, data)
        if subject is not None:
            event["subject"] = subject
        return event

    def correction(self, event: Event, day: date, reason: str, **changes: Any) -> Event:
        """Replaces data of `event`; `changes` are the values that were wrong."""
        data = {**_target(event, reason), "data": {**event["data"], **changes}}
        return self._new("impact.correction.v1", "corrections", day, data)

    def retraction(self, event: Event, day: date, reason: str) -> Event:
        """Takes `event` back."""
        return self._new("impact.retraction.v1", "corrections", day, _target(event, reason))

    def annotation(
        self, kind: str, day: str, title: str, metrics: Sequence[str] = (), bet: str | None = None
    ) -> Event:
        """Something to know beside the numbers: kind is launch, decision, incident, method or external."""
        data: dict[str, Any] = {"kind": kind, "title": title, "metrics": list(metrics)}
        if bet is not None:
            data["bet"] = bet
        return self._new("impact.annotation.v1", "annotations", date.fromisoformat(day), data)

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self._chance.random() < probability

    def whole(self, expected: float) -> int:
        """`expected` rounded up or down by chance, so that its mean is kept."""
        return int(expected + self._chance.random())

    def near(self, expected: float, spread: float) -> float:
        """A normal number around `expected` with the standard deviation `spread`."""
        return self._chance.gauss(expected, spread)

    def one_of(self, weights: Mapping[Choice, float]) -> Choice:
        """A key, each as often as its weight says."""
        return self._chance.choices(list(weights), list(weights.values()))[0]

    def some(self, among: Sequence[Choice], count: int) -> list[Choice]:
        """`count` of them, none twice."""
        return self._chance.sample(among, min(count, len(among)))

    def _new(self, kind: str, by: str, day: date, data: Mapping[str, Any]) -> Event:
        self._events += 1
        return {
            "specversion": "1.0",
            "id": f"{self._seed}-{self._events:06}",
            "source": f"/{self.product}/{by}",
            "type": kind,
            "time": self._moment(day),
            "data": dict(data),
        }

    def _moment(self, day: date) -> str:
        second = _NOON_S + self._chance.randrange(_HOUR_S)
        midnight = datetime.combine(day + self._ahead, time(), UTC)
        return (midnight + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _target(event: Event, reason: str) -> dict[str, Any]:
    return {"source": event["source"], "id": event["id"], "reason": reason}
