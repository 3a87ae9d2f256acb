"""Violations: what a rule says now, and the spells in which it was violated.

A spell's `since` is the start of the first day of the present run of days, from the trends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from impact_aggregator.mission.trends import KEPT_DAYS
from impact_aggregator.windows import DAY, floor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Kind = Literal["guardrail", "divergence", "consistency", "left_behind"]
Severity = Literal["warning", "critical"]
Subject = tuple[str, str, str]  # rule, metric, segment


class ViolationRow(NamedTuple):
    """A row of `violation`; moments in microseconds, numbers in nanos."""

    product: str
    rule: str
    metric: str
    segment: str
    since: int
    kind: Kind
    time_window: str | None
    until: int | None
    observed: int | None
    expected: int | None
    detail: str
    severity: Severity

    @property
    def subject(self) -> Subject:
        """What it is about: rows of one subject are spells of the same violation."""
        return self.rule, self.metric, self.segment


class Judgement(NamedTuple):
    """What a rule says now: `row` if it is violated; without one it holds, or cannot be told."""

    subject: Subject
    is_known: bool
    row: ViolationRow | None = None
    is_traced: bool = False  # whether the trends show the day before the present run


def follow(
    judgements: Iterable[Judgement], before: Iterable[ViolationRow], now: int
) -> Iterator[ViolationRow]:
    """The rows as they are now: spells go on, begin and end; those that ended stay.

    What cannot be told leaves its spell open; a rule that is no longer in the catalog ends.
    """
    judged = {one.subject: one for one in judgements}
    for row in before:
        judgement = judged.get(row.subject)
        if judgement is not None and judgement.row is not None:
            reached = judgement.row.since
            if row.until is None or row.until >= reached:
                since = reached if judgement.is_traced else min(row.since, reached)
                judged[row.subject] = judgement._replace(row=judgement.row._replace(since=since))
                continue
        if row.until is None and (judgement is None or judgement.is_known):
            yield row._replace(until=now)
        else:
            yield row
    for judgement in judged.values():
        if judgement.row is not None:
            yield judgement.row


def since_when(now: int, held: Callable[[int], bool | None]) -> tuple[int, bool]:
    """Start of the first day of the run of days that ends today, and whether the day before is known.

    `held` says whether the rule was violated at the end of the day that a midnight ended; None: not known.
    """
    at = floor(now, DAY)
    for _ in range(KEPT_DAYS):
        found = held(at)
        if not found:
            return at, found is not None
        at -= DAY
    return at, False
