"""Exact numbers: a value is its decimal text, rounded once by itself to 9 decimals, half to even.

Inside the fold a number is an integer of 10^-9 ("nanos"), so that sums do not depend on their order.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

SCALE = 9
ONE: int = 10**SCALE
LIMIT: int = 10**15  # |x| must stay below: a sum of 10^14 such values still fits NUMERIC(38, 9)

# wide enough that no JSON number within the door's limits is rounded before the one rounding that counts
EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN)


class OutOfRangeError(ValueError):
    """|x| >= 10^15."""


_ONE, _LEAST, _GREATEST = Decimal(ONE), Decimal(-LIMIT), Decimal(LIMIT)  # an int would be made one each time


def to_nanos(value: int | Decimal) -> int:
    """`value` in units of 10^-9. Raises OutOfRangeError."""
    if isinstance(value, int):
        if -LIMIT < value < LIMIT:
            return value * ONE
    elif _LEAST < value < _GREATEST:
        return _rounded(value)
    raise OutOfRangeError(f"{value} is not between -10^15 and 10^15")


@lru_cache(maxsize=1 << 14)  # prices, weights and durations come again and again
def _rounded(value: Decimal) -> int:
    return int(EXACT.to_integral_value(EXACT.multiply(value, _ONE)))  # half to even, by the context


def from_nanos(nanos: int) -> Decimal:
    """The exact decimal of `nanos` units of 10^-9."""
    return Decimal(nanos).scaleb(-SCALE, EXACT)


def to_text(nanos: int) -> str:
    """The decimal text of `nanos` units of 10^-9, always with nine decimals."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), ONE)
    return f"{sign}{whole}.{rest:09d}"


def divide(numerator: int, denominator: int) -> int:
    """numerator / denominator in nanos, rounded half to even; `denominator` must not be 0.

    Both in the same unit: the quotient is a plain number, given in nanos.
    """
    return divide_by_count(numerator * ONE, denominator)


def divide_by_count(nanos: int, count: int) -> int:
    """nanos / count, rounded half to even; `count` must not be 0."""
    if count < 0:
        nanos, count = -nanos, -count
    quotient, remainder = divmod(nanos, count)
    twice = 2 * remainder
    if twice > count or (twice == count and quotient % 2):
        quotient += 1
    return quotient
