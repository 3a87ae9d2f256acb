"""The catalogs that dashboards and alerts are made from: those that are named, or those of the examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from impact_cli.catalogs import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from impact_schemas.catalog import Catalog

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def catalogs(files: Sequence[str] = ()) -> dict[str, Catalog]:
    """By product. Raises CatalogFaults."""
    found: dict[str, Catalog] = {}
    for file in map(Path, files) if files else sorted(EXAMPLES.glob("*/catalog.yaml")):
        found |= load(file)
    return found
