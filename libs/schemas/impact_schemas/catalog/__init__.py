"""The catalog: one YAML file a product, read whole or refused with every fault at once. No IO.

catalogs = parse_catalogs({"caremessage.yaml": text})   # raises CatalogFaults
catalogs["caremessage"].metrics["appointments"].aggregate
"""

from impact_schemas.catalog.attachments import beside, files_beside
from impact_schemas.catalog.counting import (
    Compare,
    Difference,
    Dimension,
    Experiment,
    FactorUse,
    OneOf,
    Ratio,
)
from impact_schemas.catalog.editor_schema import catalog_json_schema
from impact_schemas.catalog.factors import Edition, FactorSet
from impact_schemas.catalog.families import family, family_by
from impact_schemas.catalog.faults import CatalogFaults, Fault
from impact_schemas.catalog.judging import (
    Benchmark,
    Divergence,
    Equity,
    Evidence,
    Limits,
    Net,
    Population,
    Target,
)
from impact_schemas.catalog.loop import Bet, Expectation, Mission, Need, Risk, Stakeholder
from impact_schemas.catalog.metric import Metric
from impact_schemas.catalog.models import Catalog, Consistency, EventType
from impact_schemas.catalog.reading import catalog_warnings, parse_catalog, parse_catalogs

__all__ = [
    "Benchmark",
    "Bet",
    "Catalog",
    "CatalogFaults",
    "Compare",
    "Consistency",
    "Difference",
    "Dimension",
    "Divergence",
    "Edition",
    "Equity",
    "EventType",
    "Evidence",
    "Expectation",
    "Experiment",
    "FactorSet",
    "FactorUse",
    "Fault",
    "Limits",
    "Metric",
    "Mission",
    "Need",
    "Net",
    "OneOf",
    "Population",
    "Ratio",
    "Risk",
    "Stakeholder",
    "Target",
    "beside",
    "catalog_json_schema",
    "catalog_warnings",
    "family",
    "family_by",
    "files_beside",
    "parse_catalog",
    "parse_catalogs",
]
