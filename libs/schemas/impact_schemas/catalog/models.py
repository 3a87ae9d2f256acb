"""The catalog of one product: what its events look like and which numbers they become.

The models say which fields there are, of which type and form. They also read the short forms of the
file (`event: a.b.v1` for a list of one, `evidence: counted`, `language: data.language`), so that
everything else sees one form only. What needs more than one field to judge is in `rules`.

The text below a field is its description in the editors' JSON Schema and in the fault of a missing field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool

from impact_schemas.catalog.factors import FactorSet
from impact_schemas.catalog.forms import EVENT_TYPE, NAME, SOURCE, DataPath, Day, Part, Text
from impact_schemas.catalog.loop import Bet, Mission, Need, Risk, Stakeholder
from impact_schemas.catalog.metric import Metric
from impact_schemas.catalog.row_mapping import ImportForm

_NAMED = Field(json_schema_extra={"propertyNames": {"pattern": NAME.pattern}})


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


class Consistency(Part):
    """A rule between two metrics: the part is never more than the whole."""

    rule: Annotated[str, NAME]
    """the name of the rule"""
    part: str
    """the metric that is the part"""
    whole: str
    """the metric that is the whole"""


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
    needs: Annotated[dict[str, Need], _NAMED] = Field(default_factory=dict)
    """what people lack: name -> {statement, people, source}"""
    bets: Annotated[dict[str, Bet], _NAMED] = Field(default_factory=dict)
    """what is tried: name -> {need, hypothesis, feature, launched, cost, business_metric, expects}"""
    risks: tuple[Risk, ...] = ()
    """harms that it could do: {id, statement, who, metric, review_every, reviewed, owner}"""
    stakeholders: tuple[Stakeholder, ...] = ()
    """who is told what: {name, title, audience, metrics, period}"""
    factors: Annotated[dict[str, FactorSet], _NAMED] = Field(default_factory=dict)
    """factor sets: name -> {unit, source, editions or file}"""
    consistency: tuple[Consistency, ...] = ()
    """what must hold between metrics: {rule, part, whole}"""
    imports: Annotated[dict[str, ImportForm], _NAMED] = Field(default_factory=dict)
    """files that partners send: name -> {title, source, type, key, scope, time, subject, data, csv}"""
