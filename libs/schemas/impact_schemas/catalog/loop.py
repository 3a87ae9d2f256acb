"""Why the product is there and what it tries: mission, needs, bets, risks, stakeholders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from impact_schemas.catalog.forms import NAME, SLUG, UNIT, Day, Duration, Number, Part, Segment, Text

if TYPE_CHECKING:
    from datetime import date


class Mission(Part):
    """What the product is for, and for whom."""

    statement: Text
    """what shall change for people or the planet, in one sentence"""
    beneficiaries: Text
    """the people, or the part of nature, that it is for"""
    north_star: str | None = None
    """the metric that stands for the mission"""


class Need(Part):
    """What people lack, and how many of them."""

    statement: Text
    """what they lack, in one sentence"""
    people: Annotated[int, Field(strict=True, ge=0)] | None = None
    """how many people have this need"""
    source: str | None = None
    """how that is known"""


class Money(Part):
    """An amount of money."""

    value: Number
    """the amount"""
    unit: Annotated[str, UNIT]
    """ISO 4217: USD"""


class Expectation(Part):
    """What a bet shall change."""

    metric: str
    """the metric that shall change"""
    segment: Segment = Field(default_factory=dict)
    """in one segment instead of the total: {language: es}"""
    change: Number
    """by how much, in the metric's unit: -0.05"""
    by: Day
    """the day by which it shall have changed"""


class Bet(Part):
    """Something that is built for a need, and what it is expected to change."""

    title: Text | None = None
    """the name that people read"""
    need: str
    """a need of this file"""
    hypothesis: Text
    """why it should help, in one sentence"""
    feature: str | None = None
    """the feature as events name it"""
    launched: Day | None = None
    """the day of the launch; none yet: not launched"""
    cost: Money | None = None
    """what it cost: {value, unit}"""
    business_metric: str | None = None
    """the business metric that it may move too"""
    expects: tuple[Expectation, ...] = ()
    """what it shall change: {metric, segment, change, by}"""


class Risk(Part):
    """A harm to people or the planet that the product could do."""

    id: Annotated[str, SLUG]
    """its name"""
    statement: Text
    """what could go wrong, in one sentence"""
    who: str | None = None
    """who would be harmed"""
    metric: str | None = None
    """the guardrail that would show it"""
    review_every: Duration | None = None
    """how often it is looked at again: 90d"""
    reviewed: Day | None = None
    """the day of the last review"""
    owner: str | None = None
    """who answers for it"""

    def is_overdue(self, today: date) -> bool:
        """Whether the day of its next review is over; never of one that is not to be reviewed."""
        if self.review_every is None:
            return False
        return self.reviewed is None or self.reviewed + self.review_every < today


class Stakeholder(Part):
    """Someone who is told what concerns them."""

    name: Annotated[str, NAME]
    """the name in links and files"""
    title: Text | None = None
    """the name that people read"""
    audience: Literal["public", "funder", "board", "partner"]
    """who they are: public, funder, board or partner"""
    metrics: tuple[str, ...] = ()
    """the metrics that concern them; none named: all that they may see"""
    period: Literal["month", "quarter", "year"] = "quarter"
    """how often they are told"""
