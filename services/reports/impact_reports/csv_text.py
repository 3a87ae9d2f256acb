"""CSV that no spreadsheet runs: a text that begins like a formula gets an apostrophe in front."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING

from impact_schemas import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# OWASP, "CSV Injection"; the full-width forms are taken for formulas by spreadsheets in Japanese
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 (meant)


def written(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """RFC 4180 with line feeds; numbers as plain decimals, None as nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def cell(value: object) -> str:
    """One value; a number is never taken for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return wording.exact(value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
