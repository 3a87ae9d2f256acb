"""CSV files beside a catalog: tables of factors and of populations, read into the catalog's own models."""

from __future__ import annotations

import csv
import io
import posixpath
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from impact_schemas.catalog.document import Finding, Path, read_document
from impact_schemas.catalog.factors import Edition
from impact_schemas.catalog.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from impact_schemas.catalog.models import Catalog

FACTOR_COLUMNS = ("version", "valid_from", "key", "value", "source")
POPULATION_COLUMNS = ("segment", "people")
_BOTH = "not together with file: the file says this"
_OPTIONAL = frozenset(["key", "source"])


class _BadRow(ValueError):
    """A row cannot be read; the message says why."""


class Attached(NamedTuple):
    """A catalog with what its files say, and what is wrong with them."""

    catalog: Catalog
    findings: list[Finding]
    faults: list[Fault]


@lru_cache(maxsize=64)  # a process that watches its files asks again and again
def files_beside(text: str) -> tuple[str, ...]:
    """The names of the files that a catalog's text refers to."""
    found = [name for _, name in _references(read_document(text).value)]
    return tuple(dict.fromkeys(found))


def beside(catalog_file: str, name: str) -> str:
    """Where a file beside a catalog is."""
    return posixpath.join(posixpath.dirname(catalog_file), name)


def attach(catalog: Catalog, catalog_file: str, texts: Mapping[str, str]) -> Attached:
    """The catalog with the tables of its files; `texts` are by their path."""
    findings: list[Finding] = []
    faults: list[Fault] = []

    def rows_of(name: str, path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
        place = beside(catalog_file, name)
        if place not in texts:
            findings.append(Finding((*path, "file"), f"there is no {name} beside this file"))
            return []
        rows, reason = _rows(texts[place], columns)
        if reason is not None:
            faults.append(Fault(place, 1, 1, "", reason))
        return rows

    factors = dict(catalog.factors)
    for name, factor_set in catalog.factors.items():
        if factor_set.file is not None:
            if factor_set.editions:
                findings.append(Finding(("factors", name, "editions"), _BOTH, on_key=True))
            rows = rows_of(factor_set.file, ("factors", name), FACTOR_COLUMNS)
            editions, wrong = _editions(rows, beside(catalog_file, factor_set.file))
            faults += wrong
            factors[name] = factor_set.model_copy(update={"editions": editions})
    metrics = dict(catalog.metrics)
    for name, metric in catalog.metrics.items():
        equity = metric.equity
        if equity is not None and equity.population is not None and equity.population.file is not None:
            file, place = equity.population.file, ("metrics", name, "equity", "population")
            if equity.population.values:
                findings.append(Finding((*place, "values"), _BOTH, on_key=True))
            rows = rows_of(file, place, POPULATION_COLUMNS)
            people, wrong = _people(rows, beside(catalog_file, file))
            faults += wrong
            population = equity.population.model_copy(update={"values": people})
            metrics[name] = metric.model_copy(
                update={"equity": equity.model_copy(update={"population": population})}
            )
    return Attached(catalog.model_copy(update={"factors": factors, "metrics": metrics}), findings, faults)


def _references(value: Any) -> Iterator[tuple[Path, str]]:
    """Wherever the file says `file: x.csv`, of factors and of populations."""
    if not isinstance(value, dict):
        return
    sections: list[tuple[Path, Any]] = [
        (("factors", name), one) for name, one in _mapping(value.get("factors")).items()
    ]
    for name, metric in _mapping(value.get("metrics")).items():
        population = _mapping(_mapping(metric).get("equity")).get("population")
        sections.append((("metrics", name, "equity", "population"), population))
    for path, section in sections:
        file = _mapping(section).get("file")
        if isinstance(file, str):
            yield path, file


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(text: str, columns: tuple[str, ...]) -> tuple[list[tuple[int, dict[str, str]]], str | None]:
    """(line, row) of a CSV text with a header, and what is wrong with it as a whole."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True, restval="")
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in columns if name not in names and name not in _OPTIONAL]
        if missing or set(names) - set(columns):
            return [], f"expected the columns {', '.join(columns)}, found {', '.join(names) or 'none'}"
        reader.fieldnames = names
        rows = []
        for row in reader:
            if None in row:
                return [], f"line {reader.line_num} has more fields than the header"
            rows.append((reader.line_num, {name: value.strip() for name, value in row.items()}))
    except csv.Error as error:
        return [], f"this is not CSV: {error}"
    return rows, None if rows else "the table has no rows"


class _Entry(NamedTuple):
    """An edition as its rows say it."""

    line: int
    valid_from: str
    source: str
    values: dict[str, Decimal]


def _editions(
    rows: Iterable[tuple[int, dict[str, str]]], file: str
) -> tuple[tuple[Edition, ...], list[Fault]]:
    entries: dict[str, _Entry] = {}
    faults = []
    for line, row in rows:
        try:
            entry = entries.setdefault(
                row["version"], _Entry(line, row["valid_from"], row.get("source", ""), {})
            )
            _enter_factor(entry, row)
        except _BadRow as error:
            faults.append(Fault(file, line, 1, "", str(error)))
    editions = []
    for version, entry in entries.items():
        try:
            editions.append(_edition(version, entry))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = first.get("ctx", {}).get("reason", first["msg"])
            faults.append(Fault(file, entry.line, 1, "", f"{first['loc'][0]}: {reason}"))
    return tuple(editions), faults


def _enter_factor(entry: _Entry, row: Mapping[str, str]) -> None:
    version, key = row["version"], row.get("key", "")
    value = _number(row["value"])
    if row["valid_from"] != entry.valid_from:
        days = f"{entry.valid_from} and from {row['valid_from']}"
        raise _BadRow(f"edition {version} is valid from {days}: one day an edition")
    if key in entry.values:
        raise _BadRow(f"edition {version} has {key or 'its factor'} twice")
    entry.values[key] = value


def _edition(version: str, entry: _Entry) -> Edition:
    """Raises ValidationError."""
    without_key = set(entry.values) == {""}
    return Edition.model_validate(
        {
            "version": version,
            "valid_from": entry.valid_from,
            "source": entry.source or None,
            "value": entry.values[""] if without_key else None,
            "values": {} if without_key else entry.values,
        }
    )


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise _BadRow(f"expected a number as value, found {text or 'nothing'}")
    return number


def _people(rows: Iterable[tuple[int, dict[str, str]]], file: str) -> tuple[dict[str, int], list[Fault]]:
    people: dict[str, int] = {}
    faults = []
    for line, row in rows:
        segment, count = row["segment"], row["people"]
        if not (count.isascii() and count.isdecimal() and int(count)):
            reason = f"expected a whole number of people, found {count or 'nothing'}"
            faults.append(Fault(file, line, 1, "", reason))
        elif segment in people:
            faults.append(Fault(file, line, 1, "", f"{segment} is there twice"))
        else:
            people[segment] = int(count)
    return people, faults
