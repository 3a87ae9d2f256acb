"""The catalog of one product: what its events look like and which numbers they become.

These models say which fields there are, of which type and form. They also read the short forms of the
file (`event: a.b.v1` for a list of one, `evidence: counted`, `language: data.language`), so that
everything else sees one form only. What needs more than one field to judge is in `rules`.

The text below a field is its description in the editors' JSON Schema and in the fault of a missing field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic_core import PydanticCustomError, core_schema

from impact_schemas.catalog.wording import shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

Aggregate = Literal["count", "sum", "mean", "min", "max", "latest", "unique", "p50", "p90", "p95", "p99"]
Window = Literal["5m", "1h", "24h", "7d", "28d", "90d", "365d", "all"]
Role = Literal["impact", "business", "guardrail"]
Level = Literal["input", "activity", "output", "outcome", "impact"]
Direction = Literal["up", "down"]
EvidenceLevel = Literal["counted", "estimated", "modelled", "compared"]

AGGREGATES: tuple[str, ...] = get_args(Aggregate)
WINDOWS: tuple[str, ...] = get_args(Window)


def _refusal(expected: str, value: object) -> PydanticCustomError:
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
            raise _refusal(self.words, value)
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
DURATION = Form(r"^[1-9][0-9]{0,4}[smhdw]$", "a number and one of s, m, h, d, w, like 1d")

DataPath = Annotated[str, PATH]
Text = Annotated[str, Field(min_length=1)]


def _read_scalar(value: object) -> str | bool | int | Decimal:
    if isinstance(value, str | bool | int | Decimal):
        return value
    raise _refusal("text, a number, true or false", value)


def _read_number(value: object) -> int | Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return value
    raise _refusal("a number", value)


def _read_day(value: object) -> date:
    try:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return date.fromisoformat(value)
    except ValueError:
        raise _refusal("a day that the calendar has", value) from None
    raise _refusal("a day, like 2026-12-31", value)


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _read_duration(value: object) -> timedelta:
    if isinstance(value, str) and DURATION.fits(value):
        return timedelta(seconds=int(value[:-1]) * _SECONDS[value[-1]])
    raise _refusal(DURATION.words, value)


def _read_values(value: object) -> tuple[str | bool | int | Decimal | None, ...]:
    values = value if isinstance(value, list) else [value]
    if values and all(one is None or isinstance(one, str | bool | int | Decimal) for one in values):
        return tuple(values)
    raise _refusal("a value (text, a number, true, false or null), or a list of at least one", value)


def _one_as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _path_as_dimension(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _level_as_evidence(value: object) -> object:
    return {"level": value} if isinstance(value, str) else value


Scalar = Annotated[
    str | bool | int | Decimal, BeforeValidator(_read_scalar, json_schema_input_type=str | bool | float)
]
Number = Annotated[int | Decimal, BeforeValidator(_read_number, json_schema_input_type=float)]
Day = Annotated[date, BeforeValidator(_read_day, json_schema_input_type=date)]
Duration = Annotated[
    timedelta, BeforeValidator(_read_duration, json_schema_input_type=Annotated[str, DURATION])
]
Values = Annotated[
    tuple[str | bool | int | Decimal | None, ...],
    BeforeValidator(
        _read_values, json_schema_input_type=str | bool | float | None | list[str | bool | float | None]
    ),
]


class Part(BaseModel):
    """A mapping of the file: an unknown field is a fault, and what was read never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Mission(Part):
    """What the product is for, and for whom."""

    statement: Text
    """what shall change for people or the planet, in one sentence"""
    beneficiaries: Text
    """the people, or the part of nature, that it is for"""
    north_star: str | None = None
    """the metric that stands for the mission"""


class EventType(Part):
    """Events of one type: whom they are about and what their data may hold."""

    description: str | None = None
    """what happened, in one sentence"""
    subject: Literal["required", "optional", "none"] = "optional"
    """whether such an event names its subject; only the subject's pseudonym is kept"""
    pseudonymous: tuple[DataPath, ...] = ()
    """more paths that are hashed like the subject: [data.household]"""
    data: Annotated[
        dict[str, Any],
        Field(json_schema_extra={"$ref": "https://json-schema.org/draft/2020-12/schema"}),
    ] = Field(default_factory=dict)
    """JSON Schema (2020-12) of the data; properties that it does not name are dropped before the log"""
    keep_unknown: StrictBool = False
    """true: properties that the schema does not name are kept"""


class OneOf(Part):
    """A condition of `where`: the value at the path is one of these (None: it is there, and null)."""

    values: tuple[str | bool | int | Decimal | None, ...]


class Compare(Part):
    """A condition of `where`: every bound that is given holds, and the value is none of `ne`."""

    gt: Number | None = None
    """greater than this number"""
    gte: Number | None = None
    """this number or greater"""
    lt: Number | None = None
    """less than this number"""
    lte: Number | None = None
    """this number or less"""
    ne: Values = ()
    """any value but this one, or these"""


def _read_condition(value: object) -> OneOf | Compare:
    if not isinstance(value, dict):
        return OneOf(values=_read_values(value))
    if not value:
        raise _refusal("a value, a list of values, or at least one of gt, gte, lt, lte, ne", value)
    return Compare.model_validate(value)


Condition = Annotated[
    OneOf | Compare,
    BeforeValidator(
        _read_condition,
        json_schema_input_type=str | bool | float | None | list[str | bool | float | None] | Compare,
    ),
]


class Dimension(Part):
    """By what a metric is split."""

    path: DataPath
    """where the value stands in the event: data.language"""
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    """the values to show; all others become "(other)\""""


class Ratio(Part):
    """Two metrics of the same file; they are rolled up apart, and divided at the end."""

    numerator: str
    """the metric above the line"""
    denominator: str
    """the metric below the line"""


class Evidence(Part):
    """How a number is known."""

    level: EvidenceLevel = "counted"
    """whether it is counted, estimated, modelled, or compared with a control"""
    method: str | None = None
    """how it is worked out"""
    source: str | None = None
    """where factors or studies come from"""
    owner: str | None = None
    """who answers for it"""


class Codes(Part):
    """The same thing in the standards that stakeholders know."""

    sdg: tuple[Annotated[str, SDG], ...] = ()
    """SDG goals, targets and indicators: ["3.8.1"]"""
    iris: tuple[Annotated[str, IRIS], ...] = ()
    """IRIS+ metrics: ["PI4060"]"""


class Privacy(Part):
    """Small cells are suppressed at every exit."""

    min_cell: Annotated[int, Field(strict=True, ge=2)]
    """the fewest subjects that a cell must have to be shown"""
    block: Literal["day", "week", "month"] = "week"
    """the grid of time on which it is published"""


class Equity(Part):
    """The gaps of a dimension's other values to one of them."""

    dimension: str
    """a dimension of this metric"""
    reference: Scalar
    """the value that the others are compared with"""


class Baseline(Part):
    """Where a target starts from."""

    value: Number
    """the value at the start"""
    at: Day
    """the day of the start"""


class Target(Part):
    """The value that a window shall have reached by a day."""

    window: Window
    """one of the metric's windows"""
    baseline: Baseline | None = None
    """where it starts: {value, at}"""
    value: Number
    """the value to reach"""
    due: Day
    """the day by which it is to be reached"""


class Experiment(Part):
    """Where an event says which arm of an experiment it belongs to."""

    arm: DataPath
    """where the arm stands in the event: data.arm"""
    control: Scalar
    """the arm that the others are compared with"""


class Metric(Part):
    """A rule that turns events into a number: `event` and `aggregate`, or `ratio`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["event", "aggregate"]}, {"required": ["ratio"]}]}
    )

    title: Text
    """the name that people read"""
    description: str | None = None
    """what it means, in a sentence or two"""
    event: Annotated[
        tuple[str, ...], BeforeValidator(_one_as_list, json_schema_input_type=str | list[str])
    ] = ()
    """the event type that it counts, or a list of types"""
    where: Annotated[
        dict[str, Condition], Field(json_schema_extra={"propertyNames": {"pattern": PATH.pattern}})
    ] = Field(default_factory=dict)
    """count only events with these values: path -> value, list of values, or {gt|gte|lt|lte|ne: value}"""
    aggregate: Aggregate | None = None
    """how the values of many events become one number"""
    of: Annotated[str, SUBJECT_OR_PATH] | None = None
    """what is aggregated: subject, or data.<path>; not for count"""
    per: DataPath | None = None
    """for latest: the sum over the places at this path of each one's latest"""
    ratio: Ratio | None = None
    """instead of event and aggregate: two metrics of this file, {numerator, denominator}"""
    unit: Annotated[str, UNIT] = "1"
    """UCUM, or ISO 4217 for money"""
    quantity: Annotated[str, SLUG] | None = None
    """the kind of quantity, any slug; unlike kinds never mix"""
    role: Role
    """impact, business, or guardrail (a harm that must stay low)"""
    level: Level = "output"
    """how far along the chain from input to impact"""
    direction: Direction = "up"
    """which way is better"""
    dimensions: Annotated[
        dict[
            str,
            Annotated[Dimension, BeforeValidator(_path_as_dimension, json_schema_input_type=str | Dimension)],
        ],
        Field(json_schema_extra={"propertyNames": {"pattern": NAME.pattern}}),
    ] = Field(default_factory=dict)
    """by what it is split: name -> path, or {path, values: [...]}"""
    cuts: tuple[tuple[str, ...], ...] = ()
    """combinations of dimensions to publish too: [[language, clinic]]"""
    windows: Annotated[tuple[Window, ...], Field(min_length=1)] = ("24h", "28d", "all")
    """the windows to publish"""
    cadence: Duration | None = None
    """a longer silence than this means stale: 1d"""
    evidence: Annotated[
        Evidence, BeforeValidator(_level_as_evidence, json_schema_input_type=EvidenceLevel | Evidence)
    ] = Evidence()
    """how the number is known: a level, or {level, method, source, owner}"""
    codes: Codes = Codes()
    """the same thing in standards: {sdg: [...], iris: [...]}"""
    privacy: Privacy | None = None
    """suppression of small cells: {min_cell, block}"""
    equity: Equity | None = None
    """gaps between groups: {dimension, reference}"""
    targets: tuple[Target, ...] = ()
    """values to reach: {window, baseline, value, due}"""
    experiment: Experiment | None = None
    """the arms to compare: {arm, control}"""


class Catalog(Part):
    """One file: one product."""

    api_version: Annotated[Literal["impact/v1"], Field(alias="apiVersion")]
    """the version of this format: impact/v1"""
    product: Annotated[str, NAME]
    """the product's name in every number"""
    title: Text
    """the product's name that people read"""
    mission: Mission | None = None
    """what it is for: {statement, beneficiaries, north_star}"""
    sources: Annotated[tuple[Annotated[str, SOURCE], ...], Field(min_length=1)] = ("*",)
    """the sources that its keys may write; * matches any characters, / too"""
    since: Day | None = None
    """an event before this day is rejected as time_too_old"""
    events: Annotated[
        dict[str, EventType], Field(json_schema_extra={"propertyNames": {"pattern": EVENT_TYPE.pattern}})
    ]
    """the types of its events: type -> what such an event holds"""
    metrics: Annotated[
        dict[str, Metric], Field(json_schema_extra={"propertyNames": {"pattern": NAME.pattern}})
    ]
    """its numbers: name -> the rule that turns events into it"""
