"""Calendar periods by their names: 2026-07, 2026-Q3, 2026. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from impact_schemas import wording

_NAME = re.compile(r"(?P<year>20[0-9]{2})(-(Q(?P<quarter>[1-4])|(?P<month>0[1-9]|1[0-2])))?")
MONTHS = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True, slots=True)
class Period:
    """One month, quarter or year, UTC."""

    kind: str
    starts_at: datetime

    @property
    def ends_at(self) -> datetime:
        """Where the next one starts."""
        return _later(self.starts_at, MONTHS[self.kind])

    @property
    def before(self) -> Period:
        """The one before it."""
        return Period(self.kind, _later(self.starts_at, -MONTHS[self.kind]))

    @property
    def name(self) -> str:
        """As it is written: 2026-Q3."""
        if self.kind == "quarter":
            return f"{self.starts_at.year}-Q{(self.starts_at.month + 2) // 3}"
        return f"{self.starts_at:%Y-%m}" if self.kind == "month" else f"{self.starts_at:%Y}"

    @property
    def words(self) -> str:
        """As it is read: third quarter of 2026."""
        year = self.starts_at.year
        if self.kind == "quarter":
            order = ("first", "second", "third", "fourth")[self.starts_at.month // 3]
            return f"the {order} quarter of {year}"
        return wording.month(self.starts_at, full=True) if self.kind == "month" else f"the year {year}"


def parse(name: str) -> Period:
    """Raises ValueError."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no period: write a month 2026-07, a quarter 2026-Q3 or a year 2026")
    year = int(match["year"])
    if match["quarter"]:
        return Period("quarter", datetime(year, int(match["quarter"]) * 3 - 2, 1, tzinfo=UTC))
    if match["month"]:
        return Period("month", datetime(year, int(match["month"]), 1, tzinfo=UTC))
    return Period("year", datetime(year, 1, 1, tzinfo=UTC))


def last_closed(kind: str, at: datetime) -> Period:
    """The last month, quarter or year that is over at `at`."""
    months = MONTHS[kind]
    first = (at.month - 1) // months * months + 1
    return Period(kind, datetime(at.year, first, 1, tzinfo=UTC)).before


def _later(moment: datetime, months: int) -> datetime:
    count = moment.year * 12 + moment.month - 1 + months
    return moment.replace(year=count // 12, month=count % 12 + 1)
