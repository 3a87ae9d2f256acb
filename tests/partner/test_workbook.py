"""Workbooks: what their cells say, what is refused before it is inflated, and templates."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from impact_reports import workbook
from impact_schemas.catalog.row_mapping import RowMapping
from impact_schemas.partner_rows import WrongFile, read_rows
from impact_schemas.partner_template import ColumnHint

FIELDS: dict[str, Any] = {
    "source": "/water/north",
    "type": "water.month.v1",
    "key": ["site", "month"],
    "time": {"column": "month", "format": "%Y-%m"},
    "data": {
        "site": "site",
        "litres": {"column": "litres", "type": "number"},
        "clean": {"column": "clean", "type": "boolean"},
    },
}
HEADER = ("site", "month", "litres", "clean")


def mapping(**changes: Any) -> RowMapping:
    return RowMapping.model_validate(FIELDS | changes)


def written(*rows: tuple[object, ...], header: tuple[str, ...] = HEADER) -> bytes:
    book = Workbook()
    for row in (header, *rows):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def lines(content: bytes, **changes: Any) -> list[tuple[int, list[str]]]:
    return list(workbook.read_lines(content, mapping(**changes)))


def test_cells_are_written_as_the_mapping_reads_them() -> None:
    content = written(
        ("Lake", date(2026, 3, 1), 1.5, True),
        ("Hill", "2026-04", 7, False),
        ("Well", datetime(2026, 5, 1), 12.0, None),  # noqa: DTZ001 (workbooks know no zones)
    )
    assert lines(content) == [
        (1, list(HEADER)),
        (2, ["Lake", "2026-03", "1.5", "true"]),
        (3, ["Hill", "2026-04", "7", "false"]),
        (4, ["Well", "2026-05", "12", ""]),
    ]
    rows = read_rows(lines(content), mapping())
    assert not rows.wrong
    assert [row.line for row in rows.right] == [2, 3, 4]


def test_numbers_follow_the_mapping_s_decimal_sign() -> None:
    (_, (_, cells)) = lines(written(("Lake", "2026-03", 0.1 + 0.2, None)), csv={"decimal": ","})
    assert cells[2] == "0,3"


def test_a_cell_beyond_the_header_is_a_wrong_row_and_an_empty_one_is_not() -> None:
    content = written(("Lake", "2026-03", 1, True, None), ("Hill", "2026-03", 1, True, "what?"))
    rows = read_rows(lines(content), mapping())
    assert [row.line for row in rows.right] == [2]
    assert [one.line for one in rows.wrong] == [3]


def test_a_formula_without_a_value_is_named() -> None:
    with pytest.raises(WrongFile, match="cell C2 is a formula without a value"):
        lines(written(("Lake", "2026-03", "=1+1", True)))


def test_a_text_that_begins_like_a_formula_is_text() -> None:
    book = Workbook()
    book.active.append(HEADER)
    book.active.append(("Lake", "2026-03", 1, True))
    book.active["A2"].value = "+254"
    book.active["A2"].data_type = "s"
    out = io.BytesIO()
    book.save(out)
    assert lines(out.getvalue())[1][1][0] == "+254"


def repacked(content: bytes, name: str, text: bytes) -> bytes:
    """The workbook with another content of one of its parts."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in source.infolist():
            new.writestr(part.filename, text if part.filename == name else source.read(part))
    return out.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (SHEET, b" " * (workbook.MAX_INFLATED_BYTES + 1), "too large"),
        (SHEET, b'<!DOCTYPE lolz [<!ENTITY lol "lol">]><worksheet/>', "no spreadsheet program writes"),
        (SHEET, b"<worksheet><", "cannot be read"),
        ("xl/workbook.xml", b"", "cannot be read"),
    ],
)
def test_what_is_no_honest_workbook_is_refused(name: str, text: bytes, said: str) -> None:
    with pytest.raises(WrongFile, match=said):
        lines(repacked(written(("Lake", "2026-03", 1, True)), name, text))


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_workbook_at_all_is_refused(content: bytes) -> None:
    with pytest.raises(WrongFile, match=r"no \.xlsx workbook"):
        lines(content)


def test_a_cell_far_below_does_not_make_a_million_lines() -> None:
    book = Workbook()
    book.active.append(HEADER)
    book.active.cell(1_048_576, 1, "x")
    out = io.BytesIO()
    book.save(out)
    with pytest.raises(WrongFile, match="remove the empty ones"):
        lines(out.getvalue())


COLUMNS = [
    ColumnHint("site", "text", required=True, is_key=True, is_personal=False),
    ColumnHint("month", "time", required=True, is_key=True, is_personal=False),
    ColumnHint("litres", "number", required=False, is_key=False, is_personal=False, limits="0 or more"),
    ColumnHint("clean", "yes or no", required=False, is_key=False, is_personal=False, allowed=["yes", "no"]),
]


def test_a_template_can_be_filled_in_and_read() -> None:
    book = load_workbook(
        io.BytesIO(workbook.template(COLUMNS, "Water: north/south, a title that is too long"))
    )
    sheet = book.active
    assert [cell.value for cell in sheet[1]] == list(HEADER)
    assert sheet["C2"].value == "number, 0 or more, may be empty"
    [choices] = sheet.data_validations.dataValidation
    assert choices.formula1 == '"yes,no"'
    sheet.append(("Lake", "2026-03", 4, "yes"))
    out = io.BytesIO()
    book.save(out)
    rows = read_rows(lines(out.getvalue()), mapping())
    assert not rows.wrong
    assert [row.key for row in rows.right] == [("Lake", "2026-03")]


def test_a_column_s_name_is_never_run() -> None:
    columns = [ColumnHint("=1+1", "text", required=True, is_key=True, is_personal=False)]
    sheet = load_workbook(io.BytesIO(workbook.template(columns, "x"))).active
    assert (sheet["A1"].value, sheet["A1"].data_type) == ("=1+1", "s")
