"""Excel workbooks (.xlsx): the first sheet as lines of text, and templates.

Nothing in a workbook is run: a formula counts as the value that the spreadsheet program saved with it.
"""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook, load_workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from impact_schemas.partner_rows import WrongFile
from impact_schemas.partner_template import remarks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from impact_schemas.catalog.row_mapping import RowMapping
    from impact_schemas.partner_template import ColumnHint

MAX_INFLATED_BYTES = 32 * 2**20  # 16 times what may be uploaded; 5,000 rows of 20 columns are 5 MiB
MAX_PARTS = 500
MAX_LINES = 50_000  # a cell far below makes all lines above it
MAX_COLUMNS = 200
_FORMULA_MARKS = (b"<f>", b"<f ", b"<f/", b":f>", b":f ", b":f/")  # its element, with a prefix or without
LISTED_LINES = 5_000
LISTED_CHARACTERS = 250  # Excel's limit for a list of choices is 255


def is_workbook(content: bytes) -> bool:
    """Whether this is a ZIP file, as workbooks are."""
    return content.startswith(b"PK\x03\x04")


def read_lines(content: bytes, mapping: RowMapping) -> Iterator[tuple[int, list[str]]]:
    """The lines of the first sheet, each as wide as the header at least. Raises WrongFile."""
    has_formulas = _has_formulas(content)
    try:
        values = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        lines = values.worksheets[0].iter_rows(max_col=MAX_COLUMNS)
        if has_formulas:  # a second reading: the first has their values, and not where they are
            formulas = load_workbook(io.BytesIO(content), read_only=True)
            both: Any = zip(lines, formulas.worksheets[0].iter_rows(max_col=MAX_COLUMNS), strict=True)
        else:
            both = ((cells, cells) for cells in lines)
        yield from _as_text(both, mapping)
    except WrongFile:
        raise
    except Exception as error:
        raise WrongFile(
            f"the workbook cannot be read ({type(error).__name__}): save it again as .xlsx, or as CSV"
        ) from error


def _has_formulas(content: bytes) -> bool:
    """Looks at the parts before any is parsed: they are not too large, and none defines entities."""
    found = False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            parts = packed.infolist()
            if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_INFLATED_BYTES:
                raise WrongFile("the workbook is too large: send fewer rows, without pictures, or as CSV")
            for part in parts:
                text = packed.read(part) if part.filename.endswith((".xml", ".rels")) else b""
                if b"<!DOCTYPE" in text:
                    raise WrongFile(
                        "the workbook has parts that no spreadsheet program writes: save it again"
                    )
                found = found or any(mark in text for mark in _FORMULA_MARKS)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, WrongFile):
            raise
        raise WrongFile("this is no .xlsx workbook: save it again as .xlsx, or as CSV") from error
    return found


def _as_text(lines: Any, mapping: RowMapping) -> Iterator[tuple[int, list[str]]]:
    width = None
    for number, (cells, written) in enumerate(lines, 1):
        if number > MAX_LINES:
            raise WrongFile(
                f"the sheet has more than {MAX_LINES:,} lines: remove the empty ones, or send CSV"
            )
        texts = [_cell(*pair, mapping) for pair in zip(cells, written, strict=True)]
        if width is None:
            width = _last(texts)
        yield number, texts[: max(width, _last(texts))] + [""] * (width - len(texts))


def _last(texts: Sequence[str]) -> int:
    return max((place for place, text in enumerate(texts, 1) if text.strip()), default=0)


def _cell(cell: Any, written: Any, mapping: RowMapping) -> str:
    value = cell.value
    if value is None:
        if written.value is not None and written.data_type == "f":
            raise WrongFile(
                f"cell {written.coordinate} is a formula without a value: open the workbook in a spreadsheet "
                "program and save it, or paste values"
            )
        return ""
    if cell.data_type == "e":
        raise WrongFile(f"cell {cell.coordinate} is the error {value}: correct its formula")
    return _text(value, mapping)


def _text(value: object, mapping: RowMapping) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 10**15
        return str(int(value)) if whole else f"{value:.15g}".replace(".", mapping.csv.decimal)
    if isinstance(value, datetime | date | time):
        return _moment(value, mapping)
    return str(value)


def _moment(value: date | time, mapping: RowMapping) -> str:
    """Spreadsheet programs make dates of what looks like one: written as the mapping reads it."""
    if mapping.time is not None and mapping.time.format is not None:
        return value.strftime(mapping.time.format)
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return value.isoformat()


def template(columns: Sequence[ColumnHint], title: str) -> bytes:
    """A workbook with the columns, a line of remarks, and lists of the cells that are right."""
    book = Workbook()
    sheet = book.active
    sheet.title = "".join(char for char in title if char not in "[]:*?/\\")[:31] or "rows"
    sheet.append([column.name for column in columns])
    sheet.append(remarks(columns))
    sheet.freeze_panes = "A3"
    for number, column in enumerate(columns, 1):
        letter = get_column_letter(number)
        sheet.column_dimensions[letter].width = max(16, len(column.name) + 4)
        sheet.cell(1, number).font = Font(bold=True)
        sheet.cell(2, number).font = Font(italic=True, color="666666")
        sheet.cell(2, number).alignment = Alignment(wrap_text=True, vertical="top")
        for line in (1, 2):  # text, whatever it begins with
            sheet.cell(line, number).data_type = "s"
        choices = ",".join(column.allowed)
        if choices and len(choices) <= LISTED_CHARACTERS and all("," not in one for one in column.allowed):
            listed = DataValidation(type="list", formula1=f'"{choices}"', allow_blank=not column.required)
            listed.add(f"{letter}3:{letter}{LISTED_LINES}")
            sheet.add_data_validation(listed)
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()
