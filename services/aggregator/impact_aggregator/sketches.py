"""Mergeable summaries whose result depends only on what was added, never on the order or the split.

- Distinct: how many different values. Exact up to 1,024; beyond that HyperLogLog with 2^14 registers
  (Flajolet et al. 2007) under Ertl's improved raw estimator (arXiv:1702.01284), standard error 0.81 %.
- Places: each place's latest value, exact; their sum is a state over all places.
- Quantiles: counts in logarithmic buckets (DDSketch, Masson et al. 2019), relative error 1 %.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

EXACT_LIMIT = 1024
_PRECISION = 14
_REGISTERS = 1 << _PRECISION
_REST_BITS = 64 - _PRECISION
_REST_MASK = (1 << _REST_BITS) - 1
_EXACT_TAG = b"E"
_REGISTERS_TAG = b"R"


_HASH = hashlib.blake2b(digest_size=8)


def hash64(value: str) -> int:
    """A uniform unsigned 64-bit hash of a value's text: the same in every process."""
    state = _HASH.copy()  # half the price of a new one
    state.update(value.encode())
    return int.from_bytes(state.digest(), "big")


class Distinct:
    """How many different 64-bit hashes were added."""

    __slots__ = ("_members", "_registers")

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        """`hashes` come from `hash64`."""
        self._members = set(hashes)
        self._registers: bytearray | None = None
        if len(self._members) > EXACT_LIMIT:
            self._to_registers()

    def merge(self, other: Distinct) -> None:
        """Adds all that `other` holds."""
        if other._registers is not None:
            mine = np.frombuffer(self._to_registers(), dtype=np.uint8)
            np.maximum(mine, np.frombuffer(other._registers, dtype=np.uint8), out=mine)
        elif self._registers is None:
            self._members |= other._members
            if len(self._members) > EXACT_LIMIT:
                self._to_registers()
        else:
            _register(self._registers, other._members)

    def estimate(self) -> int:
        """The number of different values: exact up to EXACT_LIMIT."""
        return len(self._members) if self._registers is None else _estimate(self._registers)

    def replace(self, old: Iterable[int], new: int) -> bool:
        """Puts one value in the place of others, where it is exact; whether any of those was there."""
        there = self._members.intersection(old)
        if there:
            self._members -= there
            self._members.add(new)
        return bool(there)

    def without(self, other: Distinct) -> Distinct:
        """What is in this and not in the other; all of this, where one of them is not exact."""
        if self._registers is not None or other._registers is not None:
            return self
        return Distinct(self._members - other._members)

    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 200 + (100 * len(self._members) if self._registers is None else _REGISTERS)

    def to_bytes(self) -> bytes:
        """The same bytes for the same content."""
        if self._registers is None:
            members = np.array(list(self._members), dtype=np.uint64)
            members.sort()
            return _EXACT_TAG + members.astype(">u8").tobytes()
        return _REGISTERS_TAG + zlib.compress(self._registers, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Distinct:
        """What `to_bytes` gave."""
        sketch = cls()
        if data[:1] == _EXACT_TAG:
            sketch._members = set(struct.unpack(f">{(len(data) - 1) // 8}Q", data[1:]))
        else:
            sketch._registers = bytearray(zlib.decompress(data[1:]))
        return sketch

    def _to_registers(self) -> bytearray:
        if self._registers is None:
            self._registers = bytearray(_REGISTERS)
            _register(self._registers, self._members)
            self._members = set()
        return self._registers


def _register(registers: bytearray, hashes: set[int]) -> None:
    values = np.fromiter(hashes, dtype=np.uint64, count=len(hashes))
    places = (values >> np.uint64(_REST_BITS)).astype(np.intp)
    rest = (values & np.uint64(_REST_MASK)).astype(np.float64)  # 50 bits: exact
    ranks = _REST_BITS + 1 - np.frexp(rest)[1]  # the exponent is the bit length
    np.maximum.at(np.frombuffer(registers, dtype=np.uint8), places, ranks.astype(np.uint8))


def _estimate(registers: bytearray) -> int:
    counts = np.bincount(np.frombuffer(registers, dtype=np.uint8), minlength=_REST_BITS + 2)
    total = _REGISTERS * _tau(1 - counts[_REST_BITS + 1] / _REGISTERS)
    for rank in range(_REST_BITS, 0, -1):
        total = 0.5 * (total + float(counts[rank]))
    total += _REGISTERS * _sigma(counts[0] / _REGISTERS)
    return round(_REGISTERS * _REGISTERS / (2 * math.log(2) * float(total)))


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1 - x
    while True:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
        if z == before:
            return z / 3


Latest = tuple[int, bytes, int]  # time, identity (of equal times the greater), value in nanos


class Places:
    """The latest value of each place."""

    __slots__ = ("_latest",)

    def __init__(self, values: Iterable[tuple[str, Latest]] = ()) -> None:
        self._latest: dict[str, Latest] = {}
        for place, latest in values:
            self._add(place, latest)

    def merge(self, other: Places) -> None:
        """Adds all that `other` holds."""
        for place, latest in other._latest.items():
            self._add(place, latest)

    def total(self) -> int:
        """The sum over all places, in nanos."""
        return sum(value for _, _, value in self._latest.values())

    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 200 + 300 * len(self._latest)

    def to_bytes(self) -> bytes:
        """The same bytes for the same content."""
        rows = [
            (place, time, identity, str(value))
            for place, (time, identity, value) in sorted(self._latest.items())
        ]
        return zlib.compress(msgspec.msgpack.encode(rows), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Places:
        """What `to_bytes` gave."""
        rows = msgspec.msgpack.decode(zlib.decompress(data), type=list[tuple[str, int, bytes, str]])
        return cls((place, (time, identity, int(value))) for place, time, identity, value in rows)

    def _add(self, place: str, latest: Latest) -> None:
        before = self._latest.get(place)
        if before is None or latest > before:
            self._latest[place] = latest


_ACCURACY = 0.01
_GAMMA = (1 + _ACCURACY) / (1 - _ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_ZERO = -(1 << 30)  # the index of the value 0; no index of a number within range comes near it


class Quantiles:
    """Counts of values by logarithmic bucket; values are in nanos (integers of 10^-9)."""

    __slots__ = ("_negative", "_positive")

    def __init__(self, nanos: Iterable[int] = ()) -> None:
        self._positive: dict[int, int] = {}  # index -> count, 0 included
        self._negative: dict[int, int] = {}
        for value in nanos:
            side = self._negative if value < 0 else self._positive
            index = _index(abs(value))
            side[index] = side.get(index, 0) + 1

    def merge(self, other: Quantiles) -> None:
        """Adds all that `other` holds."""
        for mine, theirs in ((self._positive, other._positive), (self._negative, other._negative)):
            for index, count in theirs.items():
                mine[index] = mine.get(index, 0) + count

    def quantile(self, q: float) -> int | None:
        """The value in nanos at rank ceil(q x n), within 1 % of its size; None without values."""
        ordered = [(-_middle(index), count) for index, count in sorted(self._negative.items(), reverse=True)]
        ordered += [(_middle(index), count) for index, count in sorted(self._positive.items())]
        total = sum(count for _, count in ordered)
        rank = max(1, math.ceil(q * total))
        passed = 0
        for value, count in ordered:
            passed += count
            if passed >= rank:
                return value
        return None

    def weight(self) -> int:
        """About how many bytes it takes in memory."""
        return 200 + 100 * (len(self._positive) + len(self._negative))

    def to_bytes(self) -> bytes:
        """The same bytes for the same content: JSON rows of index, value and count, which SQL can read."""
        rows = [(index, numbers.to_text(-_middle(index)), count) for index, count in self._negative.items()]
        rows += [(index, numbers.to_text(_middle(index)), count) for index, count in self._positive.items()]
        return msgspec.json.encode(sorted(rows, key=_of_negative_first))

    @classmethod
    def from_bytes(cls, data: bytes) -> Quantiles:
        """What `to_bytes` gave."""
        sketch = cls()
        for index, value, count in msgspec.json.decode(data, type=list[tuple[int, str, int]]):
            side = sketch._negative if value.startswith("-") else sketch._positive
            side[index] = count
        return sketch


def _of_negative_first(row: tuple[int, str, int]) -> tuple[bool, int]:
    return not row[1].startswith("-"), row[0]


def _index(size: int) -> int:
    return math.ceil(math.log(size) / _LOG_GAMMA) if size else _ZERO


def _middle(index: int) -> int:
    return 0 if index == _ZERO else round(2 * math.exp(index * _LOG_GAMMA) / (_GAMMA + 1))


Sketch = Distinct | Places | Quantiles
