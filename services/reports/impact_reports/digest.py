"""A digest in ten lines: what changed beyond noise, what is at risk, and what is to be decided. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING

from impact_reports import changes, metric_cards
from impact_reports.metric_cards import USUAL_WINDOWS
from impact_schemas import wording
from impact_schemas.wording import Unit, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from impact_reports.changes import Change
    from impact_reports.queries import Row, Rows

LINES_A_PART = 3  # of three parts; with the title: ten
TOTAL = "{}"
_ROLES = ("impact", "guardrail", "business")
_OF_THE_TEAM = ("violations", "bets", "bet_results", "risks", "annotations")


class NoSuchStakeholder(Exception):
    """The catalog names no such stakeholder; the message says whom it names."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What is said of one product from the day `since` to the day `until`; each sentence stands alone.

    `changed` is None while it is too early to tell; `to_decide` where that is not for this reader.
    """

    product: str
    title: str
    reader: str
    since: date
    until: date
    changed: Sequence[str] | None
    at_risk: Sequence[str]
    to_decide: Sequence[str] | None

    @property
    def markdown(self) -> str:
        """At most ten lines; what is left out of a part is counted in its last."""
        title = f"## {_plain(self.title)}, {wording.day(self.since)} to {wording.day(self.until)}"
        if self.reader:
            title += f", for {_plain(self.reader)}"
        quiet = "It is too early to tell change from noise."
        if self.changed is not None:
            quiet = "Nothing changed beyond noise."
        lines = [title, *_part("Changed", self.changed or (), quiet)]
        lines += _part("At risk", self.at_risk, "Nothing is known to be at risk.")
        if self.to_decide is not None:
            lines += _part("To decide", self.to_decide, "Nothing needs a decision.")
        return "\n".join(lines)


def digest(rows: Rows, days: int, stakeholder: str | None = None) -> Digest | None:
    """Of the one product in `rows` (see `queries.digest`); None if nothing is known that is for this reader.

    The public is told of public metrics alone, and never of what is the team's own: warnings, bets, risks.
    Raises NoSuchStakeholder.
    """
    [product] = rows["products"]
    reader = None if stakeholder is None else _reader(rows, stakeholder)
    is_public = reader is not None and reader["audience"] == "public"
    if reader is not None:
        rows = _for(rows, reader, is_public=is_public)
    moments = [row["at"] for row in rows["metric_trends"]]
    if not moments:
        return None
    end = max(moments).date()  # the midnight that ended the last whole day
    names = _Names.of(rows["metrics"])
    return Digest(
        product=product["product"],
        title=product["title"],
        reader="" if reader is None else reader["title"],
        since=end - timedelta(days=days),
        until=end - timedelta(days=1),
        changed=_changed(rows, names, days),
        at_risk=_in_turn(_off_track(rows, names), _answered(rows, names), _gaps(rows, names)),
        to_decide=None
        if is_public
        else _in_turn(_unanswered(rows, names), _bets(rows, names), _reviews(rows)),
    )


def _reader(rows: Rows, stakeholder: str) -> Row:
    named = {row["stakeholder"]: row for row in rows["stakeholders"]}
    if stakeholder not in named:
        known = ", ".join(sorted(named)) or "none"
        raise NoSuchStakeholder(f"the catalog names no stakeholder {stakeholder!r}: there are {known}")
    return named[stakeholder]


def _for(rows: Rows, reader: Row, *, is_public: bool) -> Rows:
    """Only the metrics that concern them."""
    wanted = set(json.loads(reader["metrics"] or "[]")) or {row["metric"] for row in rows["metrics"]}
    if is_public:
        wanted &= {row["metric"] for row in rows["metrics"] if row["visibility"] == "public"}
        rows = rows | {view: [] for view in _OF_THE_TEAM}
    return {
        view: [row for row in found if "metric" not in row or row["metric"] in wanted]
        for view, found in rows.items()
    }


@dataclass(frozen=True, slots=True)
class _Names:
    """How metrics are called, and how their values are written."""

    titles: dict[str, str]
    units: dict[str, Unit]
    metrics: dict[str, Row]

    @classmethod
    def of(cls, metrics: Sequence[Row]) -> _Names:
        return cls(
            {row["metric"]: row["title"] for row in metrics},
            {name: unit for (_, name), unit in units_of(metrics).items()},
            {row["metric"]: row for row in metrics},
        )

    def of_segment(self, row: Row) -> str:
        """'No-show rate', or 'No-show rate (language: es)'."""
        title = self.titles.get(row["metric"], row["metric"] or "")
        return title if row["segment"] in (None, TOTAL) else f"{title} ({wording.segment(row['segment'])})"

    def unit(self, row: Row) -> Unit:
        return self.units.get(row["metric"], Unit("1"))


# --- what changed -----------------------------------------------------------------------------------------


def _changed(rows: Rows, names: _Names, days: int) -> list[str] | None:
    """Impact first, then the surest."""
    found = changes.beyond_noise(rows, days)
    if found is None:
        return None
    ordered = sorted(found, key=lambda one: _ROLES.index(names.metrics[one.metric]["role"]))
    return [_change(one, names, days) for one in ordered]


def _change(one: Change, names: _Names, days: int) -> str:
    unit, metric = names.units[one.metric], names.metrics[one.metric]
    word = "better" if (one.after > one.before) == (metric["direction"] == "up") else "worse"
    judged = "" if metric["role"] == "business" else f", for the {word}"
    span = wording.count(days, "day")
    after, before = unit.of(one.after), unit.of(one.before)
    if one.window is None:
        return f"{metric['title']}: {after} in {span}, {before} in the {span} before{judged}."
    return f"{metric['title']} over {wording.window(one.window)}: {after}, {before} {span} ago{judged}."


# --- what is at risk --------------------------------------------------------------------------------------


def _off_track(rows: Rows, names: _Names) -> Iterator[str]:
    """Those that will be missed before those that may be."""
    for status in ("off_track", "at_risk"):
        for row in rows["target_progress"]:
            if row["status"] == status:
                [says] = metric_cards.targets_say([row], names.unit(row))
                yield f"{names.of_segment(row)} is {says.status_words}. {says.sentence}"


def _answered(rows: Rows, names: _Names) -> Iterator[str]:
    for row in _open(rows):
        if row["answered_by"]:
            unit, moved = names.unit(row), ""
            if row["value_at_answer"] is not None and row["value_now"] is not None:
                moved = f": {unit.of(row['value_at_answer'])} then, {unit.of(row['value_now'])} now"
            yield f"{warning(row, names)} Answered by {row['answered_by']!r}{moved}."


def _gaps(rows: Rows, names: _Names) -> Iterator[str]:
    """The worst group of each metric and dimension that is behind, unless a warning names it."""
    warned = {(row["metric"], row["segment"]) for row in _open(rows)}
    behind: dict[tuple[str, str], list[Row]] = {}
    for row in rows["equity_gaps"]:
        if row["standing"] == "worse" and (row["metric"], row["segment"]) not in warned:
            behind.setdefault((row["metric"], row["dimension"]), []).append(row)
    for found in behind.values():
        first = min(USUAL_WINDOWS.index(row["time_window"]) for row in found)
        row = max(
            (one for one in found if USUAL_WINDOWS.index(one["time_window"]) == first),
            key=lambda one: abs(one["gap"]),
        )
        unit, other = names.unit(row), wording.segment(row["reference_segment"])
        yield (
            f"{names.of_segment(row)} is behind over {wording.window(row['time_window'])}:"
            f" {unit.of(row['value'])}, and {unit.of(row['reference_value'])} for {other}."
        )


# --- what is to be decided --------------------------------------------------------------------------------


def _unanswered(rows: Rows, names: _Names) -> Iterator[str]:
    for row in _open(rows):
        if not row["answered_by"]:
            yield f"{warning(row, names)} No decision answers it."


_TO_DO = {
    "proven": "Keep it, and spread it?",
    "failed": "Stop it, or change it?",
    "holding": "Its day is over, and nothing excludes chance: extend it, or stop?",
}


def _bets(rows: Rows, names: _Names) -> Iterator[str]:
    """Those of which the result is there and no decision is."""
    bets = {row["bet"]: row for row in rows["bets"]}
    order = ("failed", "holding", "proven")
    found = [row for row in rows["bet_results"] if row["status"] in order]
    for row in sorted(found, key=lambda row: (order.index(row["status"]), row["bet"], row["by"])):
        bet, unit = bets[row["bet"]], names.unit(row)
        is_over = row["by"] < max(one["at"] for one in rows["metric_trends"]).date()
        if _is_decided(row, bet, rows, is_over=is_over) or (row["status"] == "holding" and not is_over):
            continue
        yield (
            f"Bet {bet['title']!r} {'has ' if row['status'] == 'failed' else 'is '}{row['status']}:"
            f" {names.of_segment(row)} {unit.change(row['measured'])},"
            f" hoped for {unit.change(row['expected'])}. {_TO_DO[row['status']]}"
        )


def _is_decided(row: Row, bet: Row, rows: Rows, *, is_over: bool) -> bool:
    """Whether a decision names the bet since its day, or, before that, since its launch."""
    since = row["by"] if is_over else bet["launched"]
    return any(
        one["kind"] == "decision" and one["bet"] == row["bet"] and _day(one["at"]) >= since
        for one in rows["annotations"]
    )


def _reviews(rows: Rows) -> Iterator[str]:
    for row in rows["risks"]:
        if row["overdue"]:
            when = f"was due on {wording.day(row['due'])}" if row["due"] else "has never been done"
            whose = f" ({row['owner']})" if row["owner"] else ""
            yield f"The review of the risk {row['statement'].rstrip('.')!r} {when}{whose}."


# --- words ------------------------------------------------------------------------------------------------


def warning(row: Row, names: _Names) -> str:
    """A violation in a sentence."""
    since = f", since {wording.day(row['since'])}"
    if row["kind"] == "guardrail" and row["observed"] is not None and row["expected"] is not None:
        unit = names.unit(row)
        text = (
            f"{names.of_segment(row)} is {unit.of(row['observed'])}; the limit is {unit.of(row['expected'])}"
        )
    else:
        text = (row["detail"] or names.of_segment(row)).rstrip(".")
    return f"{text}{since}."


def _open(rows: Rows) -> list[Row]:
    """Violations that go on, critical ones first, then the newest."""
    found = [row for row in rows["violations"] if row["until"] is None]
    newest = sorted(found, key=lambda row: row["since"], reverse=True)
    return sorted(newest, key=lambda row: row["severity"] != "critical")


def _day(moment: date | datetime) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


def _in_turn(*kinds: Iterable[str]) -> list[str]:
    """The first of each kind, then the second: three lines show what kinds there are."""
    return [one for turn in zip_longest(*kinds) for one in turn if one is not None]


def _part(head: str, sentences: Iterable[str], none: str) -> list[str]:
    all_of_it = [_plain(one) for one in sentences] or [none]
    shown = all_of_it[:LINES_A_PART]
    if len(all_of_it) > LINES_A_PART:
        shown[-1] += f" And {len(all_of_it) - LINES_A_PART} more."
    return [f"- **{head}**: {one}" for one in shown]


def _plain(sentence: str) -> str:
    """One line of Markdown: titles may hold anything."""
    text = " ".join(sentence.splitlines())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>" else sign for sign in text)
