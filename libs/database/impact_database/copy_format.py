"""Rows in the binary format of PostgreSQL's COPY, straight from what the tables' columns hold in Python.

The driver takes rows too, but of its own types: datetime and Decimal objects, which cost more to make than
all the rest of a row. Pure: no IO.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache, partial
from itertools import chain, repeat
from struct import Struct, pack
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Date, Integer, LargeBinary, String

from impact_schemas import numbers
from impact_schemas.tables import Day, Exact, ExactSquare, Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Column
    from sqlalchemy.types import TypeEngine

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_EPOCH = 946_684_800_000_000  # PostgreSQL counts from the year 2000
_FIRST_DAY = date(2000, 1, 1).toordinal()
_NEGATIVE = 0x4000

_bigint = partial(Struct(">iq").pack, 8)
_int = partial(Struct(">ii").pack, 4)
_bool = partial(Struct(">i?").pack, 1)
_length = Struct(">i").pack


def copy_rows(columns: Sequence[Column[Any]], rows: Collection[Sequence[Any]]) -> bytes:
    """`rows` with a value for each of `columns`."""
    by_column = zip(columns, zip(*rows, strict=True), strict=True)
    fields = [_fields(_encoder_of(column.type), values) for column, values in by_column]
    count = repeat(pack(">h", len(columns)), len(rows))
    return b"".join((_HEAD, *chain.from_iterable(zip(count, *fields, strict=True)), _END))


def _fields(encode: Callable[[Any], bytes], values: Sequence[Any]) -> list[bytes]:
    return [_NULL if value is None else encode(value) for value in values]


def _encoder_of(kind: TypeEngine[Any]) -> Callable[[Any], bytes]:
    return next(encode for known, encode in _ENCODERS.items() if isinstance(kind, known))


def _of_bytes(value: bytes) -> bytes:
    return _length(len(value)) + value


@lru_cache(maxsize=1 << 12)  # most are names, which come again and again
def _of_text(value: str) -> bytes:
    return _of_bytes(value.encode())


def _of_moment(value: int) -> bytes:
    return _bigint(value - _EPOCH)


def _of_day(value: date) -> bytes:
    return _int(value.toordinal() - _FIRST_DAY)


def _of_number(decimals: int, value: int) -> bytes:
    """NUMERIC from units of 10^-decimals: a sign, and digits of base 10,000 from the greatest on."""
    padding = -decimals % 4
    rest = abs(value) * 10**padding
    digits = []
    while rest:
        rest, digit = divmod(rest, 10_000)
        digits.append(digit)
    weight = len(digits) - 1 - (decimals + padding) // 4  # the power of 10,000 of the first digit
    sign = _NEGATIVE if value < 0 else 0
    size = 8 + 2 * len(digits)
    return pack(f">ihhHH{len(digits)}H", size, len(digits), weight, sign, decimals, *reversed(digits))


_ENCODERS: dict[type[TypeEngine[Any]], Callable[[Any], bytes]] = {
    BigInteger: _bigint,  # before Integer, of which it is a kind
    Integer: _int,
    Boolean: _bool,
    String: _of_text,
    LargeBinary: _of_bytes,
    Date: _of_day,
    Day: _of_day,
    Instant: _of_moment,
    Exact: partial(_of_number, numbers.SCALE),
    ExactSquare: partial(_of_number, 2 * numbers.SCALE),
}
