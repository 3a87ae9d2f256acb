"""Factor sets: versioned tables of emission factors, conversions, exchange rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field

from impact_schemas.catalog.forms import FILE, UNIT, Day, Number, Part, Text

if TYPE_CHECKING:
    from decimal import Decimal


class Edition(Part):
    """The factors that hold from a day on, until the next edition does."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["value"]}, {"required": ["values"]}]}
    )

    version: Text
    """its name, like 2024 in quotes"""
    valid_from: Day
    """the first day (UTC) that it holds for"""
    value: Number | None = None
    """the factor, of a set without keys"""
    values: dict[str, Number] = Field(default_factory=dict)
    """the factors by key: {short: 0.15, long: 0.11}"""
    source: str | None = None
    """where this edition comes from"""

    def by_key(self) -> dict[str, int | Decimal]:
        """The factors by key; of a set without keys the one factor under an empty key."""
        return dict(self.values) if self.value is None else {"": self.value}


class FactorSet(Part):
    """One factor, or one for each key, in editions."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["editions"]}, {"required": ["file"]}]}
    )

    unit: Annotated[str, UNIT]
    """UCUM, or a ratio of ISO 4217 codes: kg/km, USD/KES"""
    source: str | None = None
    """where the factors come from"""
    editions: tuple[Edition, ...] = ()
    """{version, valid_from, value or values, source}, the first day of validity of each"""
    file: Annotated[str, FILE] | None = None
    """instead of editions: a CSV file beside this one, with version,valid_from,key,value,source"""
