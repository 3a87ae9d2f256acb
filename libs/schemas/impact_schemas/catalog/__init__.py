"""The catalog: one YAML file a product, read whole or refused with every fault at once. No IO.

catalogs = parse_catalogs({"caremessage.yaml": text})   # raises CatalogFaults
catalogs["caremessage"].metrics["appointments"].aggregate
"""

from impact_schemas.catalog.editor_schema import catalog_json_schema
from impact_schemas.catalog.families import family, family_by
from impact_schemas.catalog.faults import CatalogFaults, Fault
from impact_schemas.catalog.models import (
    Catalog,
    Compare,
    Dimension,
    EventType,
    Evidence,
    Metric,
    Mission,
    OneOf,
    Ratio,
)
from impact_schemas.catalog.reading import catalog_warnings, parse_catalog, parse_catalogs

__all__ = [
    "Catalog",
    "CatalogFaults",
    "Compare",
    "Dimension",
    "EventType",
    "Evidence",
    "Fault",
    "Metric",
    "Mission",
    "OneOf",
    "Ratio",
    "catalog_json_schema",
    "catalog_warnings",
    "family",
    "family_by",
    "parse_catalog",
    "parse_catalogs",
]
