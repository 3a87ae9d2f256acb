"""Values of events as text, numbers and times: written for this recomputation alone. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any

import msgspec

_WIDE = Context(prec=600)
_NINE_PLACES = Decimal("1e-9")
_FINE_PLACES = Decimal("1e-18")
_FINE_LIMIT = Decimal(10) ** 19  # DECIMAL(38, 18) holds 20 digits before the point
_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):?(\d{2}))", re.ASCII
)
_FRACTION = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)

_json = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def looks_fractional(text: str) -> bool:
    """Whether a text could be a decimal number that JSON writes with a point or an exponent."""
    return _FRACTION.fullmatch(text) is not None and not text.lstrip("-").isdigit()


def label(value: Any) -> str:
    """A value as JSON text: the same for equal values, 1.50 and 1.5 too."""
    if type(value) is Decimal:
        return _number_label(value)
    return _text_label(value) if type(value) is str else _json(value).decode()


@lru_cache(maxsize=1 << 14)
def _text_label(text: str) -> str:
    return _json(text).decode()


@lru_cache(maxsize=1 << 14)
def _number_label(number: Decimal) -> str:
    if not number:
        return "0"
    if number.adjusted() < 20 and number == int(number) and int(number) in _INT64:
        return str(int(number))
    return str(number.normalize(_WIDE))


@lru_cache(maxsize=1 << 14)
def nanos(number: int | Decimal) -> str | None:
    """A number in units of 10^-9, rounded half to even, as text; None if it is far out of range."""
    if not -_FINE_LIMIT < number < _FINE_LIMIT:
        return None  # such an event stands in quarantine
    if isinstance(number, int):
        return f"{number}000000000" if number else "0"
    return str(int(number.quantize(_NINE_PLACES, ROUND_HALF_EVEN, _WIDE).scaleb(9, _WIDE)))


@lru_cache(maxsize=1 << 14)
def bracket(number: int | Decimal) -> tuple[str, bool]:
    """The number cut down to 18 decimals, and whether it lies above that: exact for any comparison."""
    exact = Decimal(number)
    if abs(exact) >= _FINE_LIMIT:
        return format(_FINE_LIMIT.copy_sign(exact), "f"), False
    below = exact.quantize(_FINE_PLACES, ROUND_FLOOR, _WIDE)
    return format(below, "f"), below != exact


def is_number(value: Any) -> bool:
    """Whether a decoded JSON value is a number; a boolean is none."""
    return type(value) is int or type(value) is Decimal


def micros(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time, rounded half up. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 time with a zone")
    day, clock, fraction, sign, hours, minutes = match.groups()
    whole = datetime.fromisoformat(f"{day}T{clock}+00:00") - _EPOCH
    offset = 60 * (60 * int(hours) + int(minutes)) if sign else 0
    seconds = whole.days * 86_400 + whole.seconds - (-offset if sign == "-" else offset)
    parts = fraction or ""
    rounded = int(parts[:6].ljust(6, "0")) + (parts[6:7] >= "5")
    return seconds * 1_000_000 + rounded


def shown_time(moment: int) -> str:
    """Microseconds since 1970 as UTC text, which SQL on both databases compares with its times."""
    return (_EPOCH + timedelta(microseconds=moment)).replace(tzinfo=None).isoformat(" ")
