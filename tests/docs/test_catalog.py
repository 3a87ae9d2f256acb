"""The catalog that its page shows is one that the service takes."""

from __future__ import annotations

from impact_schemas.catalog import catalog_warnings, parse_catalog
from tests.docs.documents import blocks, read

(PAGE,) = [block.text for block in blocks(read("docs/catalog.md")) if block.kind == "yaml"]


def test_it_has_no_fault_and_nothing_to_warn_of() -> None:
    assert parse_catalog(PAGE, "meals.yaml").product == "meals"
    assert catalog_warnings({"meals.yaml": PAGE}) == []
