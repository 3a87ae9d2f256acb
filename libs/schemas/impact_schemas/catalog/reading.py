"""Catalogs from the text of their files: all of them, or every fault of all of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from impact_schemas.catalog.attachments import attach
from impact_schemas.catalog.document import Document, Finding, Path, read_document
from impact_schemas.catalog.families import families
from impact_schemas.catalog.faults import CatalogFaults, Fault
from impact_schemas.catalog.privacy import look_for_persons
from impact_schemas.catalog.product_rules import look_at_purpose
from impact_schemas.catalog.protection import look_for_open_parts
from impact_schemas.catalog.rules import check_rules
from impact_schemas.catalog.shape import read_shape
from impact_schemas.catalog.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from impact_schemas.catalog.models import Catalog

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")


class _File(NamedTuple):
    name: str
    document: Document
    catalog: Catalog | None
    faults: list[Fault]


def parse_catalog(text: str, filename: str) -> Catalog:
    """The catalog in `text`, which refers to no files; `filename` is for the faults. Raises CatalogFaults."""
    (catalog,) = parse_catalogs({filename: text}).values()
    return catalog


def parse_catalogs(texts: Mapping[str, str]) -> dict[str, Catalog]:
    """File name -> text becomes product -> catalog. Raises CatalogFaults with all faults of all files.

    Texts of CSV files are those that catalogs beside them refer to (see `files_beside`).
    """
    files = [_read(name, text, texts) for name, text in _catalogs(texts)]
    faults = [fault for file in files for fault in file.faults]
    faults += _faults_between(files)
    if faults:
        order = {name: position for position, name in enumerate(texts)}
        raise CatalogFaults(sorted(dict.fromkeys(faults), key=lambda fault: (order[fault.file], *fault[1:])))
    return {file.catalog.product: file.catalog for file in files if file.catalog is not None}


def catalog_warnings(texts: Mapping[str, str]) -> list[Fault]:
    """What deserves a second look in catalogs that have no faults, in the order of files and lines."""
    warnings: list[Fault] = []
    for name, text in _catalogs(texts):
        file = _read(name, text, texts)
        if file.catalog is not None and not file.faults:
            findings = (
                *look_for_persons(file.catalog),
                *look_for_open_parts(file.catalog),
                *look_at_purpose(file.catalog),
            )
            warnings += sorted(_located(name, file.document, findings))
    return warnings


def _catalogs(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in texts.items() if not name.endswith(".csv"))


def _read(name: str, text: str, texts: Mapping[str, str]) -> _File:
    document = read_document(text)
    faults = [
        Fault(name, *place, shown_path(finding.path), finding.reason) for place, finding in document.broken
    ]
    if not isinstance(document.value, dict):
        if not faults:
            reason = (
                f"expected a mapping that starts with apiVersion: impact/v1, found {shown(document.value)}"
            )
            faults.append(Fault(name, 1, 1, "", reason))
        return _File(name, document, None, faults)
    catalog, findings, broken = read_shape(document.value)
    catalog, missing, wrong_rows = attach(catalog, name, texts)
    faults += wrong_rows
    findings += missing
    findings += check_rules(catalog, broken)
    unread = {finding.path for _, finding in document.broken}
    faults += _located(name, document, (finding for finding in findings if finding.path not in unread))
    product_read = ("product",) not in broken
    return _File(name, document, catalog if product_read else None, faults)


def _located(file: str, document: Document, findings: Iterable[Finding]) -> Iterator[Fault]:
    for finding in findings:
        yield Fault(
            file, *document.place(finding), shown_path(document.written(finding.path)), finding.reason
        )


def _faults_between(files: Iterable[_File]) -> Iterator[Fault]:
    """One product in two files; one Prometheus family with different labels in two products."""
    products: dict[str, str] = {}
    labels: dict[str, tuple[tuple[str, ...], str]] = {}
    for file in files:
        if file.catalog is None:
            continue
        product = file.catalog.product
        if product in products:
            reason = f"the product {product} is in {products[product]} already: one file a product"
            yield from _located(file.name, file.document, [Finding(("product",), reason)])
            continue
        products[product] = file.name
        for name in file.catalog.metrics:
            for family in families(name, file.catalog.metrics):
                there, where = labels.setdefault(family.name, (family.labels, file.name))
                if there != family.labels and where != file.name:
                    reason = f"its Prometheus family {family.name} has other labels in {where}: rename one"
                    finding = Finding(("metrics", name, *family.path), reason, on_key=True)
                    yield from _located(file.name, file.document, [finding])


def shown_path(path: Path) -> str:
    """`metrics.no_show_rate.targets[0].due`; a key that is no plain word is `["in.quotes"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part)}]"
    return text
