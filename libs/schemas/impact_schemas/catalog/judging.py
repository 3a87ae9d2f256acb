"""How a number is judged: evidence, standards, small cells, groups, targets, limits, benchmarks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from impact_schemas.catalog.counting import Window
from impact_schemas.catalog.forms import (
    FILE,
    IRIS,
    SDG,
    UNIT,
    Day,
    Duration,
    Number,
    Part,
    Scalar,
    Segment,
    Share,
    Text,
)

EvidenceLevel = Literal["counted", "estimated", "modelled", "compared"]


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
    reviewed: Day | None = None
    """the day of the last review"""


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


class Population(Part):
    """How many people there are in each group, whether or not they are reached."""

    source: str | None = None
    """where the figures come from"""
    year: Annotated[int, Field(strict=True, ge=1900, le=2999)] | None = None
    """the year that they are of"""
    values: dict[str, Annotated[int, Field(strict=True, ge=1)]] = Field(default_factory=dict)
    """group -> people: {en: 120000, es: 80000}"""
    file: Annotated[str, FILE] | None = None
    """instead of values: a CSV file beside this one, with the columns segment and people"""


class Equity(Part):
    """The gaps of a dimension's other values to one of them."""

    dimension: str
    """a dimension of this metric"""
    reference: Scalar
    """the value that the others are compared with"""
    population: Population | None = None
    """the people in each group, for the share that is reached: {source, year, values} or {file}"""


class Baseline(Part):
    """Where a target starts from."""

    value: Number
    """the value at the start"""
    at: Day
    """the day of the start"""


class Waypoint(Part):
    """A point on the way to a target."""

    at: Day
    """the day"""
    value: Number
    """the value that is expected by then"""


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
    segment: Segment = Field(default_factory=dict)
    """for one segment instead of the total: {language: es}"""
    path: tuple[Waypoint, ...] = ()
    """points on the way, instead of the straight line: [{at, value}]"""


class Limits(Part):
    """The bounds of a guardrail: beyond them the harm is too great."""

    max: Number | None = None
    """the greatest value that is tolerable"""
    min: Number | None = None
    """the least value that is tolerable"""
    window: Window | None = None
    """one of the metric's windows; without it the first"""


class Net(Part):
    """What of the gross number is owed to the product.

    net = gross x (1 - deadweight) x attribution x (1 - displacement), less drop_off for each full year
    since the first baseline (SROI Network 2012, A Guide to Social Return on Investment, stage 4).
    """

    deadweight: Share = 0
    """the share that would have happened anyway"""
    attribution: Share = 1
    """the share that is due to this product and not to others"""
    displacement: Share = 0
    """the share that only moved harm elsewhere"""
    drop_off: Share = 0
    """the share that is lost each year"""
    source: str | None = None
    """where the shares come from"""


class Benchmark(Part):
    """What others reach, or what the usual way reaches."""

    label: Text
    """what it is: usual care, last year, the best of the field"""
    value: Number
    """its value, in the metric's unit"""
    unit: Annotated[str, UNIT] | None = None
    """its unit; none: the metric's"""
    source: str | None = None
    """where it comes from"""
    year: Annotated[int, Field(strict=True, ge=1900, le=2999)] | None = None
    """the year that it is of"""


class Divergence(Part):
    """The business metric that must not rise while this one falls."""

    business: str
    """a business metric of this file"""
    over: Duration | None = None
    """the span that is compared: 90d"""
