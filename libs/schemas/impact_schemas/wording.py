"""Numbers, units, windows, segments and days in plain words: the same on pages, in terminals, in alerts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from impact_schemas.catalog import Metric

Value = Decimal | float | int

MINUS = "\u2212"
THIN = "\u00a0"  # a number and its unit stay on one line
SHORT = 5
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))
_FRACTION = 3  # significant digits of what is no whole number

_PLURALS = {
    "person": "people",
    "score": "points",
    "child": "children",
    "woman": "women",
    "man": "men",
    "aircraft": "aircraft",
}
_UNITS = {  # UCUM code: (one, many)
    "t": ("tonne", "tonnes"),
    "min": ("minute", "minutes"),
    "h": ("hour", "hours"),
    "s": ("second", "seconds"),
    "d": ("day", "days"),
    "mo": ("month", "months"),
    "a": ("year", "years"),
    "L": ("litre", "litres"),
    "l": ("litre", "litres"),
    "m3": ("m³", "m³"),
    "m2": ("m²", "m²"),
    "kW.h": ("kWh", "kWh"),
}
_WINDOWS = {"m": "minutes", "h": "hours", "d": "days"}
_MONEY = re.compile(r"[A-Z]{3}")
_ANNOTATED = re.compile(r"(?P<code>[^{}]*)\{(?P<words>[^{}]+)\}")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)

ROLES = {"impact": "Impact", "guardrail": "Guardrail", "business": "Business"}  # in their order
STATUSES = {
    "ok": "up to date",
    "stale": "stale: nothing new for longer than agreed",
    "no_data": "no data",
    "suppressed": "hidden: too few people to show",
}
TARGET_STATUSES = {
    "met": "met",
    "on_track": "on track",
    "at_risk": "at risk",
    "off_track": "off track",
    "no_data": "no data",
    "suppressed": "hidden",
}
BET_STATUSES = {"too_early": "too early to say", "holding": "holding", "proven": "proven", "failed": "failed"}
EVIDENCE = {
    "counted": "counted from events",
    "estimated": "estimated",
    "modelled": "modelled by a factor",
    "compared": "compared with a control",
}


REASONS = {
    "late": "events that came late",
    "retraction": "events that were taken back",
    "correction": "corrections",
    "rebuild": "a new count of history",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """How values of a metric are written; `percent`: a share of like by like."""

    code: str
    percent: bool = False

    @property
    def is_money(self) -> bool:
        """Whether it is an amount of money, not for each of something."""
        return _MONEY.fullmatch(self.code) is not None

    def parts(self, value: Value) -> tuple[str, str, str]:
        """What stands before the number, the number, and what stands after it, with their spaces."""
        if self.percent:
            return "", _hundredths(value), f"{THIN}%"
        money, _, each = self.code.partition("/")
        if _MONEY.fullmatch(money):
            return f"{money}{THIN}", number(value), f" per {_unit_word(each, one=True)}" if each else ""
        words = self.words(one=value == 1)
        gap = THIN if len(words) <= SHORT else " "  # a long word may stand on the next line
        return "", number(value), f"{gap}{words}" if words else ""

    def of(self, value: Value) -> str:
        """The value with its unit: '5.2 million people', 'USD 1.2 million', '12.3 %'."""
        return "".join(self.parts(value))

    def or_unknown(self, value: Value | None) -> str:
        """The value with its unit, or that it is not known."""
        return "not known" if value is None else self.of(value)

    def tick(self, value: Value) -> str:
        """The value without the unit's words, for the scale of a chart."""
        return self.of(value) if self.percent else number(value)

    def change(self, value: Value) -> str:
        """The same of a difference: '+2.1 percentage points'."""
        sign = "+" if value > 0 else ""
        return sign + (f"{_hundredths(value)} percentage points" if self.percent else self.of(value))

    def span(self, low: Value, high: Value) -> str:
        """Two values, the unit said once: '14.7 to 18.1 %'."""
        return f"{self.parts(low)[1]} to {self.of(high)}"

    def change_span(self, low: Value, high: Value) -> str:
        """The same of two differences."""
        return f"{self.parts(low)[1]} to {self.change(high).removeprefix('+')}"

    def change_words(self) -> str:
        """The unit of a difference, for the head of a column of them."""
        return "percentage points" if self.percent else self.words()

    def bare_change(self, value: Value) -> str:
        """A difference under such a head: '+2.1'."""
        return ("+" if value > 0 else "") + self.parts(value)[1]

    def bare_span(self, low: Value, high: Value) -> str:
        """Two differences under such a head: '0.4 to 3.8'."""
        return f"{self.parts(low)[1]} to {self.parts(high)[1]}"

    def words(self, *, one: bool = False) -> str:
        """The unit alone: 'people', 'kg CO₂e', 'kg per garment'; '' for a plain number."""
        if self.percent:
            return "%"
        above, _, below = self.code.partition("/")
        words = _unit_word(above, one=one)
        return f"{words} per {_unit_word(below, one=True)}".strip() if below else words


def unit_of(code: str, ratio_of: Iterable[str] | None) -> Unit:
    """A ratio of like by like is a percentage: kg/kg, or no unit and two parts of the same unit.

    `ratio_of` has the units of both parts, as far as they are known; it is None of what is no ratio.
    """
    above, _, below = code.partition("/")
    return Unit(code, percent=above == below or (code == "1" and _are_alike(ratio_of)))


def _are_alike(units: Iterable[str] | None) -> bool:
    return units is not None and len(set(units)) <= 1


def unit_in(metrics: Mapping[str, Metric], name: str) -> Unit:
    """How the values of one of a catalog's metrics are written."""
    metric = metrics[name]
    parts = [metrics[part].unit for part in metric.derived_from]
    return unit_of(metric.unit, None if metric.ratio is None else parts)


def units_of(metrics: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Unit]:
    """How the values of each metric of the view `metrics` are written, by product and metric."""
    metrics = list(metrics)
    codes = {(row["product"], row["metric"]): row["unit"] for row in metrics}
    return {
        name: unit_of(codes[name], _ratio_of(row, codes)) for name, row in zip(codes, metrics, strict=True)
    }


def _ratio_of(metric: Mapping[str, Any], codes: Mapping[tuple[str, str], str]) -> list[str] | None:
    """Without the units of parts that are not shown here: a public page has no internal metrics."""
    ratio = json.loads(metric["definition"]).get("ratio")
    if not ratio:
        return None
    return [codes[name] for part in ratio.values() if (name := (metric["product"], part)) in codes]


def _unit_word(code: str, *, one: bool) -> str:
    annotated = _ANNOTATED.fullmatch(code)
    if annotated:
        what = annotated["words"].replace("_", " ").replace("CO2", "CO₂")
        if annotated["code"] in ("", "1"):
            return what if one else plural(what)
        return f"{_unit_word(annotated['code'], one=one)} {what}"
    if code in ("", "1"):
        return ""
    return _UNITS.get(code, (code, code))[0 if one else 1]


def plural(word: str) -> str:
    """The plural of an English noun, or of the last word of several."""
    *before, last = word.split(" ")
    if last in _PLURALS:
        last = _PLURALS[last]
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    elif re.search(r"(s|x|ch|sh)$", last):
        last += "es"
    else:
        last += "s"
    return " ".join([*before, last])


def number(value: Value) -> str:
    """For people: whole numbers below a million in full, what is greater in words, fractions in short."""
    exact = Decimal(str(value))
    if exact < 0:
        return MINUS + number(-exact)
    for scale, word in _SCALES:
        if exact >= scale * Decimal("0.9995"):
            return f"{_short(exact / scale)} {word}"
    if exact == exact.to_integral_value() or exact >= 10**_FRACTION - Decimal("0.5"):
        return f"{exact:,.0f}"
    return _short(exact)


def _short(value: Decimal) -> str:
    """Three significant digits, without zeros at the end."""
    decimals = max(0, _FRACTION - 1 - value.adjusted()) if value else 0
    text = f"{value:.{min(decimals, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: Value) -> str:
    """A share of 1 as '12.3 %'."""
    return f"{_hundredths(share)}{THIN}%"


def _hundredths(share: Value) -> str:
    """One decimal; of what is below 1 % two digits; what is nearly everything is not written as 100."""
    exact = Decimal(str(share)) * 100
    size = abs(exact)
    if size >= 10**_FRACTION:
        return number(exact)
    short = size if size < 1 else 100 - size if 99 < size < 100 else Decimal(1)
    text = f"{size:.{min(1 - short.adjusted(), 9) if short else 0}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return MINUS + text if exact < 0 else text


def relative(change: Value) -> str:
    """A relative change as '+12.3 %'."""
    return ("+" if change > 0 else "") + percent(change)


def exact(value: Value | None) -> str:
    """For programs: plain decimal text, '' if it is not known."""
    if value is None:
        return ""
    plain = format(Decimal(str(value)), "f")
    return (plain.rstrip("0").rstrip(".") or "0") if "." in plain else plain


def window(name: str) -> str:
    """'the last 28 days', 'all time'."""
    if name == "all":
        return "all time"
    return f"the last {name[:-1]} {_WINDOWS[name[-1]]}"


def day(moment: date | datetime) -> str:
    """'31 December 2026'."""
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def short_day(moment: date | datetime) -> str:
    """'31 Dec 2026'."""
    return f"{moment.day} {_MONTHS[moment.month - 1][:3]} {moment.year}"


def month(moment: date | datetime, *, full: bool = False) -> str:
    """'Dec 2026', or 'December 2026'."""
    name = _MONTHS[moment.month - 1]
    return f"{name if full else name[:3]} {moment.year}"


def minute(moment: datetime) -> str:
    """'31 December 2026, 14:05 UTC'."""
    return f"{day(moment)}, {moment:%H:%M} UTC"


def segment(text: str) -> str:
    """'language: es, clinic: north'; the total is 'total'."""
    parts: dict[str, Any] = json.loads(text)
    if not parts:
        return "total"
    return ", ".join(f"{name.replace('_', ' ')}: {_segment_value(value)}" for name, value in parts.items())


def segment_value(text: str, dimension: str) -> str:
    """The segment's value of one dimension; the unknown group is 'unknown'."""
    return _segment_value(json.loads(text).get(dimension))


def _segment_value(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def said(words: Mapping[str, str], code: str) -> str:
    """The words for a code; of a new one the code itself."""
    return words.get(code, code.replace("_", " "))


def sentence(text: str) -> str:
    """The text with a capital at its beginning, and nothing else changed."""
    return text[:1].upper() + text[1:]


def count(amount: int, noun: str) -> str:
    """'1 event', '2 events'."""
    return f"{amount:,} {noun if amount == 1 else plural(noun)}"
