"""The catalog: one YAML file a product, read whole or refused with every fault at once. No IO."""

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
]
