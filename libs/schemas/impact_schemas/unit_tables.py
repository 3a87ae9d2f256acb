"""The units that need no library: prefixes, common UCUM units with exact factors, ISO 4217 codes."""

from __future__ import annotations

from fractions import Fraction as F  # noqa: N817 (a column of a table)

Dimensions = dict[str, int]

_TENS = {
    "Y": 24,
    "Z": 21,
    "E": 18,
    "P": 15,
    "T": 12,
    "G": 9,
    "M": 6,
    "k": 3,
    "h": 2,
    "da": 1,
    "d": -1,
    "c": -2,
    "m": -3,
    "u": -6,
    "n": -9,
    "p": -12,
    "f": -15,
}
_TWOS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
PREFIXES = {
    **{name: F(10) ** power for name, power in _TENS.items()},
    **{name: F(2) ** power for name, power in _TWOS.items()},
}

_MASS: Dimensions = {"kilogram": 1}
_LENGTH: Dimensions = {"meter": 1}
_VOLUME: Dimensions = {"meter": 3}
_AREA: Dimensions = {"meter": 2}
_TIME: Dimensions = {"second": 1}
_ENERGY: Dimensions = {"kilogram": 1, "meter": 2, "second": -2}
_POWER: Dimensions = {"kilogram": 1, "meter": 2, "second": -3}
_DATA: Dimensions = {"bit": 1}
_MINUTE, _DAY = F(60), F(86_400)
_YEAR = F(36_525, 100) * _DAY  # UCUM's year is the Julian one, its month a twelfth of it

# Units that take prefixes, in kilograms, metres, seconds, ...
METRIC: dict[str, tuple[F, Dimensions]] = {
    "g": (F(1, 1000), _MASS),
    "t": (F(1000), _MASS),
    "m": (F(1), _LENGTH),
    "L": (F(1, 1000), _VOLUME),
    "l": (F(1, 1000), _VOLUME),
    "ar": (F(100), _AREA),
    "s": (F(1), _TIME),
    "Hz": (F(1), {"second": -1}),
    "J": (F(1), _ENERGY),
    "W": (F(1), _POWER),
    "cal": (F("4.184"), _ENERGY),
    "Pa": (F(1), {"kilogram": 1, "meter": -1, "second": -2}),
    "bar": (F(100_000), {"kilogram": 1, "meter": -1, "second": -2}),
    "N": (F(1), {"kilogram": 1, "meter": 1, "second": -2}),
    "A": (F(1), {"ampere": 1}),
    "V": (F(1), {"kilogram": 1, "meter": 2, "second": -3, "ampere": -1}),
    "K": (F(1), {"kelvin": 1}),
    "mol": (F(1), {"mole": 1}),
    "bit": (F(1), _DATA),
    "By": (F(8), _DATA),
}

# Units that take none. Temperatures with an offset are only converted to themselves.
PLAIN: dict[str, tuple[F, Dimensions]] = {
    "min": (_MINUTE, _TIME),
    "h": (60 * _MINUTE, _TIME),
    "d": (_DAY, _TIME),
    "wk": (7 * _DAY, _TIME),
    "mo": (_YEAR / 12, _TIME),
    "a": (_YEAR, _TIME),
    "%": (F(1, 100), {}),
    "[ppth]": (F(1, 1000), {}),
    "[ppm]": (F(1, 10**6), {}),
    "Cel": (F(1), {"Cel": 1}),
    "[degF]": (F(1), {"[degF]": 1}),
    "[in_i]": (F("0.0254"), _LENGTH),
    "[ft_i]": (F("0.3048"), _LENGTH),
    "[yd_i]": (F("0.9144"), _LENGTH),
    "[mi_i]": (F("1609.344"), _LENGTH),
    "[oz_av]": (F("0.45359237") / 16, _MASS),
    "[lb_av]": (F("0.45359237"), _MASS),
    "[gal_us]": (F("0.003785411784"), _VOLUME),
}

# ISO 4217:2026, the codes of money in use.
_CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD"
    " CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS"
    " GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD"
    " KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK"
    " NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP"
    " STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST"
    " XAD XAF XAG XAU XCD XCG XDR XOF XPD XPF XPT XSU XUA YER ZAR ZMW ZWG"
)
CURRENCIES = frozenset(_CODES.split())
