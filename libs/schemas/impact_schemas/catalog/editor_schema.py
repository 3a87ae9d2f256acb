"""The catalog's JSON Schema, for editors: completion, descriptions and the form of each field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from impact_schemas.catalog.data_shape import DRAFT
from impact_schemas.catalog.models import Catalog

if TYPE_CHECKING:
    from pydantic_core import core_schema


class _WithoutTitles(GenerateJsonSchema):
    """Editors would show "North Star" for north_star: the description says more."""

    def field_title_should_be_set(self, schema: core_schema.CoreSchema | Any) -> bool:  # noqa: ARG002  the base class has it
        return False


def catalog_json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of the form; names and paths are checked by `parse_catalog` only."""
    schema = Catalog.model_json_schema(by_alias=True, schema_generator=_WithoutTitles)
    return {"$schema": DRAFT, **schema, "title": "Impact Telemetry catalog"}
