"""The forms of single fields: names, paths, units, days, numbers; and the short forms of a value.

A form is checked once, here; what needs more than one field to judge is in `rules`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, core_schema

from impact_schemas.catalog.wording import shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


def refusal(expected: str, value: object) -> PydanticCustomError:
    """The fault of a value that has not its form."""
    return PydanticCustomError("form", "{reason}", {"reason": f"expected {expected}, found {shown(value)}"})


@dataclass(frozen=True, slots=True)
class Form:
    """Text of one form: `pattern` for machines (the JSON Schema has it too), `words` for people."""

    pattern: str
    words: str

    def fits(self, value: str) -> bool:
        """Whether all of `value` has this form; a bare `$` would let a final newline pass."""
        return re.fullmatch(self.pattern, value) is not None

    def _check(self, value: str) -> str:
        if not self.fits(value):
            raise refusal(self.words, value)
        return value

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"pattern": self.pattern}


NAME = Form(r"^[a-z][a-z0-9_]{0,62}$", "at most 63 lower-case letters, digits and _, a letter first")
EVENT_TYPE = Form(r"^[^\s\u0000-\u001f\u007f]{1,255}$", "1 to 255 characters without blanks")
PATH = Form(r"^data(\.[^\s.]+)+$", "a path into the event's data, like data.language")
SUBJECT_OR_PATH = Form(r"^(subject|data(\.[^\s.]+)+)$", "subject, or a path into the data, like data.kg")
SOURCE = Form(r"^[^\s\u0000-\u001f\u007f]{1,255}$", "a source, or a pattern with *, without blanks")
UNIT = Form(r"^[!-~]{1,64}$", 'a unit without blanks, like kg, "{person}" or USD')
SLUG = Form(r"^[a-z][a-z0-9_-]{0,62}$", "a slug: lower-case letters, digits, _ and -, a letter first")
SDG = Form(
    r"^(1[0-7]|[1-9])(\.([1-9][0-9]?|[a-d])(\.[1-9][0-9]?)?)?$",
    'an SDG goal, target or indicator, like "3.8.1"',
)
IRIS = Form(r"^[A-Z]{2}[0-9]{4}$", 'an IRIS+ metric, like "PI4060"')
FILE = Form(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.csv$", "a CSV file beside this one, like factors.csv")
DURATION = Form(r"^[1-9][0-9]{0,4}[smhdw]$", "a number and one of s, m, h, d, w, like 1d")

DataPath = Annotated[str, PATH]
Text = Annotated[str, Field(min_length=1)]


def _read_scalar(value: object) -> str | bool | int | Decimal:
    if isinstance(value, str | bool | int | Decimal):
        return value
    raise refusal("text, a number, true or false", value)


def _read_number(value: object) -> int | Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return value
    raise refusal("a number", value)


def _read_share(value: object) -> int | Decimal:
    share = _read_number(value)
    if 0 <= share <= 1:
        return share
    raise refusal("a share from 0 to 1", value)


def _read_day(value: object) -> date:
    try:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return date.fromisoformat(value)
    except ValueError:
        raise refusal("a day that the calendar has", value) from None
    raise refusal("a day, like 2026-12-31", value)


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _read_duration(value: object) -> timedelta:
    if isinstance(value, str) and DURATION.fits(value):
        return timedelta(seconds=int(value[:-1]) * _SECONDS[value[-1]])
    raise refusal(DURATION.words, value)


def read_values(value: object) -> tuple[str | bool | int | Decimal | None, ...]:
    """A value, or a list of at least one, as a tuple."""
    values = value if isinstance(value, list) else [value]
    if values and all(one is None or isinstance(one, str | bool | int | Decimal) for one in values):
        return tuple(values)
    raise refusal("a value (text, a number, true, false or null), or a list of at least one", value)


Scalar = Annotated[
    str | bool | int | Decimal, BeforeValidator(_read_scalar, json_schema_input_type=str | bool | float)
]
Number = Annotated[int | Decimal, BeforeValidator(_read_number, json_schema_input_type=float)]
Share = Annotated[int | Decimal, BeforeValidator(_read_share, json_schema_input_type=float)]
Day = Annotated[date, BeforeValidator(_read_day, json_schema_input_type=date)]
Duration = Annotated[
    timedelta, BeforeValidator(_read_duration, json_schema_input_type=Annotated[str, DURATION])
]
Values = Annotated[
    tuple[str | bool | int | Decimal | None, ...],
    BeforeValidator(
        read_values, json_schema_input_type=str | bool | float | None | list[str | bool | float | None]
    ),
]
Segment = dict[str, Scalar | None]


class Part(BaseModel):
    """A mapping of the file: an unknown field is a fault, and what was read never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
