"""Units: UCUM and ISO 4217, what they are worth in each other, exactly. Pure.

    conversion("g", "t")            # Fraction(1, 1000000)
    conversion("kg{CO2e}", "L")     # raises UnitMismatch

The grammar is UCUM's (https://ucum.org/ucum, section 2.2): units joined by . and /, whole exponents,
brackets, and annotations in braces, which carry no meaning. Each currency is a dimension of its own.
Common units have exact factors here; any other is asked of ucumvert and pint, which take two seconds to load
and know a factor to 15 digits. They are loaded when the first such unit is met, or by `load_library`.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from impact_schemas.unit_tables import CURRENCIES, METRIC, PLAIN, PREFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ucumvert import PintUcumRegistry

_MOST_EXPONENT = 9  # m9 means nothing any more; it keeps factors small
_TOKEN = re.compile(r"\{[^{}]*\}|10[*^]|[./()]|(?:\[[^\[\]]*\]|[^./(){}\[\]])+")
_SIMPLE = re.compile(r"(?P<unit>.*?)(?P<exponent>[+-]?[0-9]+)?")


class UnknownUnit(ValueError):
    """A text is no unit; the message says why."""


class UnitMismatch(ValueError):
    """A unit cannot be converted to another; the message says why."""


class Unit(NamedTuple):
    """A unit as `factor` times a product of powers of base units."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]  # base unit or currency -> exponent, sorted, none is 0


def read_unit(text: str) -> Unit:
    """The unit that `text` is. Raises UnknownUnit."""
    found = _read(text)
    if isinstance(found, str):
        raise UnknownUnit(found)
    return found


def conversion(source: str, target: str) -> Fraction:
    """What a value in `source` is multiplied with to be in `target`. Raises UnknownUnit or UnitMismatch."""
    return quotient(source, target, "1")


def quotient(source: str, target: str, factor: str) -> Fraction:
    """The same for a value in `source` that is also multiplied with a factor in the unit `factor`."""
    found = _quotient(source, target, factor)
    if isinstance(found, str):
        raise UnitMismatch(found)
    return found


def load_library() -> None:
    """Loads what knows the uncommon units, so that nobody waits for it later."""
    _library()


@lru_cache(maxsize=4096)  # units come from events too: what was found, and why not, is bounded
def _quotient(source: str, target: str, factor: str) -> Fraction | str:
    each = [_read(text) for text in (source, factor, target)]
    for found in each:
        if isinstance(found, str):
            return found
    given, by, wanted = (found for found in each if not isinstance(found, str))
    product = _product([(given, 1), (by, 1)])
    if product.dimensions != wanted.dimensions:
        times = "" if factor == "1" else f" times {factor}"
        return f"{source}{times} cannot be converted to {target}: they measure different things"
    return product.factor / wanted.factor


@lru_cache(maxsize=4096)
def _read(text: str) -> Unit | str:
    try:
        return _Reader(text).read()
    except UnknownUnit as error:
        return str(error)


class _Reader:
    """Reads one text by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        if "".join(self._tokens) != text:
            raise UnknownUnit(f"{text} is no UCUM unit: its brackets and braces do not match")

    def read(self) -> Unit:
        found = self._term()
        if self._tokens:
            raise self._broken()
        return found

    def _term(self) -> Unit:
        parts = [(self._component(), 1)] if self._peek() != "/" else []
        while self._peek() in (".", "/"):
            sign = 1 if self._tokens.pop(0) == "." else -1
            parts.append((self._component(), sign))
        return _product(parts)

    def _component(self) -> Unit:
        piece = self._peek()
        if piece == "(":
            self._tokens.pop(0)
            found = self._term()
            if self._peek() != ")":
                raise self._broken()
            self._tokens.pop(0)
            return found
        if piece is None or piece in "./)":
            raise self._broken()
        self._tokens.pop(0)
        if piece.startswith("{"):
            return _ONE
        found = self._power_of_ten() if piece in ("10*", "10^") else _simple_unit(piece, self._text)
        if (following := self._peek()) is not None and following.startswith("{"):
            self._tokens.pop(0)
        return found

    def _power_of_ten(self) -> Unit:
        following = self._peek() or ""
        if re.fullmatch(r"[+-]?[0-9]{1,2}", following) is None:
            return _product([(Unit(Fraction(10), ()), 1)])
        self._tokens.pop(0)
        return Unit(Fraction(10) ** int(following), ())

    def _peek(self) -> str | None:
        return self._tokens[0] if self._tokens else None

    def _broken(self) -> UnknownUnit:
        return UnknownUnit(
            f"{self._text} is no UCUM unit: write units joined by . and /, like kg/km or kW.h/{{person}}"
        )


_ONE = Unit(Fraction(1), ())


def _product(parts: list[tuple[Unit, int]]) -> Unit:
    factor, dimensions = Fraction(1), Counter[str]()
    for unit, sign in parts:
        factor *= unit.factor**sign
        for name, exponent in unit.dimensions:
            dimensions[name] += sign * exponent
    return Unit(factor, tuple(sorted((name, power) for name, power in dimensions.items() if power)))


def _simple_unit(token: str, text: str) -> Unit:
    """A unit with its exponent, a currency, or a whole number."""
    if token.isdecimal() and token.isascii() and int(token):
        return Unit(Fraction(int(token)), ())
    match = _SIMPLE.fullmatch(token)
    name, exponent = (match["unit"], int(match["exponent"] or 1)) if match else (token, 1)
    atom = _atom(name)
    if atom is None or not 0 < abs(exponent) <= _MOST_EXPONENT:
        raise UnknownUnit(_reason(token, text))
    powers = tuple((base, power * exponent) for base, power in atom.dimensions)
    return Unit(atom.factor**exponent, powers)


@lru_cache(maxsize=4096)
def _atom(name: str) -> Unit | None:
    """What a unit without exponent and annotation is worth; None if there is none of this name."""
    if name in CURRENCIES:
        return Unit(Fraction(1), ((name, 1),))
    for factor, (worth, dimensions) in _readings(name):
        return Unit(factor * worth, tuple(sorted(dimensions.items())))
    return _asked_of_library(name) if re.fullmatch(r"[!-~]{1,24}", name) else None


def _readings(name: str) -> Iterator[tuple[Fraction, tuple[Fraction, dict[str, int]]]]:
    """The unit itself comes before a prefix with a shorter one: min is a minute and no milli-inch."""
    if name in PLAIN:
        yield Fraction(1), PLAIN[name]
    if name in METRIC:
        yield Fraction(1), METRIC[name]
    for prefix, factor in PREFIXES.items():
        if name.startswith(prefix) and name[len(prefix) :] in METRIC:
            yield factor, METRIC[name[len(prefix) :]]


def _reason(token: str, text: str) -> str:
    reason = f"{token} is no UCUM unit and no ISO 4217 code"
    if re.search(r"(?i)co2|eq$", token):
        return (
            f"{reason} (eq is a chemical equivalent there): say what is measured in braces, like kg{{CO2e}},"
            " and as `quantity`"
        )
    if token.endswith("Wh"):
        return f"{reason}: units are joined by a point, like {token[:-1]}.h"
    return f"{reason}: things are counted in braces, like {{{token if token == text else 'person'}}}"


# --- the library ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _library() -> PintUcumRegistry:
    from ucumvert import PintUcumRegistry  # it takes a second, and most catalogs need none of it

    return PintUcumRegistry()


def _asked_of_library(name: str) -> Unit | None:
    registry = _library()
    try:
        found = registry.from_ucum(name)
        if not found._is_multiplicative:  # noqa: SLF001 (no public name); an offset or a logarithm
            return Unit(Fraction(1), ((name, 1),))
        base = found.to_base_units()
    except Exception:  # noqa: BLE001 (a parser's, a grammar's and a registry's errors have nothing in common)
        return None
    powers = {unit: int(power) for unit, power in base.unit_items() if int(power) == power}
    return Unit(Fraction(f"{base.magnitude:.15g}"), tuple(sorted(powers.items())))
