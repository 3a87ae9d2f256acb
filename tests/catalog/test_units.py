"""Units: the grammar, exact conversions, and the table against an independent library."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ucumvert import PintUcumRegistry

from impact_schemas.unit_tables import METRIC, PLAIN
from impact_schemas.units import UnitMismatch, UnknownUnit, conversion, quotient, read_unit


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("g", "t", Fraction(1, 10**6)),
        ("kg", "kg", Fraction(1)),
        ("kg{CO2e}", "t{flowers}", Fraction(1, 1000)),
        ("{person}", "{device}", Fraction(1)),  # what the quantity kind is for
        ("%", "1", Fraction(1, 100)),
        ("kW.h", "MJ", Fraction("3.6")),
        ("km/h", "m/s", Fraction(5, 18)),
        ("L", "m3", Fraction(1, 1000)),
        ("mL/(kg.d)", "L/kg/wk", Fraction(7, 1000)),
        ("/min", "Hz", Fraction(1, 60)),
        ("10*3.{person}", "{person}", Fraction(1000)),
        ("mo", "a", Fraction(1, 12)),
        ("[lb_av]", "kg", Fraction("0.45359237")),
        ("USD/{person}", "USD/10*6{person}", Fraction(10**6)),
        ("KES", "KES", Fraction(1)),
        ("Cel", "Cel", Fraction(1)),
        ("[acr_us]", "m2", Fraction("4046.87260987425")),  # by the library
    ],
)
def test_a_conversion_is_exact(source: str, target: str, factor: Fraction) -> None:
    assert conversion(source, target) == factor
    assert conversion(target, source) == 1 / factor


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("kg", "L"),
        ("USD", "KES"),
        ("USD", "1"),
        ("Cel", "K"),
        ("[degF]", "Cel"),
        ("m", "m2"),
        ("kg/km", "kg"),
    ],
)
def test_unlike_units_are_not_converted(source: str, target: str) -> None:
    with pytest.raises(UnitMismatch, match="different things"):
        conversion(source, target)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kgCO2eq", r"like kg\{CO2e\}"),
        ("tCO2e", r"like kg\{CO2e\}"),
        ("kg/kWh", r"like kW\.h"),
        ("persons", r"in braces, like \{persons\}"),
        ("kg//km", "joined by"),
        ("kg/", "joined by"),
        (".kg", "joined by"),
        ("(kg", "joined by"),
        ("kg)", "joined by"),
        ("kg{a", "brackets and braces"),
        ("kg{a}{b}", "joined by"),
        ("[lb_av", "brackets and braces"),
        ("m0", "no UCUM unit"),
        ("m99999999999", "no UCUM unit"),
        ("usd", "no ISO 4217 code"),
        ("0", "no UCUM unit"),
        ("", "joined by"),
    ],
)
def test_what_is_no_unit_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnknownUnit, match=reason):
        read_unit(text)


def test_a_factor_takes_part_in_the_conversion() -> None:
    assert quotient("m", "t", "kg/km") == Fraction(1, 10**6)
    assert quotient("USD", "KES", "KES/USD") == 1
    with pytest.raises(UnitMismatch, match="kg times kg/km cannot be converted to t"):
        quotient("kg", "t", "kg/km")


@pytest.fixture(scope="module")
def library() -> PintUcumRegistry:
    return PintUcumRegistry()


@pytest.mark.parametrize(
    "name", [*METRIC, *(f"k{name}" for name in METRIC), *(f"m{name}" for name in METRIC), *PLAIN]
)
def test_the_table_says_what_the_library_says(name: str, library: PintUcumRegistry) -> None:
    known, unit = library.from_ucum(name), read_unit(name)
    if name in ("Cel", "[degF]"):
        assert unit.dimensions == ((name, 1),)
        return
    base = known.to_base_units()
    assert float(unit.factor) == pytest.approx(base.magnitude, rel=1e-14)
    assert dict(unit.dimensions) == {base_unit: int(power) for base_unit, power in base.unit_items()}


def test_common_units_do_not_load_the_library() -> None:
    common = ["1", "{person}", "kg{CO2e}/km", "%", "USD/{person}", "kW.h", "10*6{person}", "mL/(kg.d)"]
    code = (
        "import sys; from impact_schemas.units import read_unit;"
        f"[read_unit(text) for text in {common}]; sys.exit('pint' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_atoms = st.sampled_from([*METRIC, *PLAIN, "{x}", "USD", "10*3", "7"])
_texts = st.recursive(
    st.tuples(_atoms, st.sampled_from(["", "2", "-1"])).map(lambda one: one[0] + (one[1] * one[0].isalpha())),
    lambda inner: st.tuples(inner, st.sampled_from("./"), inner).map("".join) | inner.map("({})".format),
    max_leaves=6,
)


@given(_texts, _texts)
def test_products_of_units_multiply_their_factors(one: str, other: str) -> None:
    first, second = read_unit(one), read_unit(other)
    assert read_unit(f"({one}).({other})").factor == first.factor * second.factor
    assert read_unit(f"({one})/({one})") == read_unit("1")


@given(st.text(alphabet="kgmLsd{}[]()./*^0123456789-+%eqCO ", max_size=12))
def test_any_text_is_a_unit_or_is_refused(text: str) -> None:
    with contextlib.suppress(UnknownUnit):
        assert read_unit(text).factor > 0
