"""A partner's CSV file by its mapping: what each row says, and what is wrong with which cell."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from impact_cli.partner_mapping import read_mapping
from impact_cli.terminal import WrongUse
from impact_schemas.catalog.row_mapping import RowMapping
from impact_schemas.partner_rows import Content, Rows, WrongFile, read_csv, row_id

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: dict[str, Any] = {
    "source": "/water/north",
    "type": "water.month.v1",
    "key": ["site", "month"],
    "time": {"column": "month", "format": "%Y-%m", "zone": "Africa/Nairobi"},
    "data": {
        "site": "site",
        "litres": {"column": "litres", "type": "number"},
        "visits": {"column": "visits", "type": "integer", "required": True},
        "quality.clean": {"column": "clean", "type": "boolean"},
        "kind": {"column": "kind", "values": {"W": "well", "P": "pump"}},
        "country": {"value": "KE"},
    },
}
HEADER = "site,month,litres,visits,clean,kind\n"


def mapping(**changes: Any) -> RowMapping:
    return RowMapping.model_validate(FIELDS | changes)


def rows(*lines: str, header: str = HEADER, **changes: Any) -> Rows:
    return read_csv((header + "\n".join(lines)).encode(), mapping(**changes))


def wrong(*lines: str, **changes: Any) -> list[tuple[int, str | None]]:
    return [(one.line, one.column) for one in rows(*lines, **changes).wrong]


def test_a_row_becomes_the_content_that_the_mapping_says() -> None:
    read = rows(" Lake , 2026-03 , 1.50 , 7 , yes , W ")
    assert not read.wrong
    assert read.right[0].key == ("Lake", "2026-03")
    assert read.right[0].content == Content(
        type="water.month.v1",
        time="2026-02-28T21:00:00Z",  # the first of March in Nairobi
        data={
            "site": "Lake",
            "litres": Decimal("1.5"),
            "visits": 7,
            "quality": {"clean": True},
            "kind": "well",
            "country": "KE",
        },
    )


def test_an_empty_cell_is_absent_and_never_zero() -> None:
    read = rows("Lake,2026-03,,7,,")
    assert read.right[0].content.data == {"site": "Lake", "visits": 7, "country": "KE"}


def test_every_wrong_cell_is_named_and_other_rows_are_read() -> None:
    read = rows(
        "Lake,2026-03,many,7.5,maybe,X",
        ",2026-03,1,,true,W",
        "Hill,March,1,1,true,W",
        "Dale,2026-03,1,1",
        "Moor,2026-03,1,1,true,W",
    )
    assert [(one.line, one.column) for one in read.wrong] == [
        *[(2, "litres"), (2, "visits"), (2, "clean"), (2, "kind")],
        *[(3, "site"), (3, "visits")],
        (4, "month"),
        (5, None),
    ]
    assert [row.key for row in read.right] == [("Moor", "2026-03")]


def test_numbers_are_exact_and_written_in_one_way() -> None:
    for cell, value in (
        ("0.1", Decimal("0.1")),
        ("+2.50", Decimal("2.5")),
        ("3.0", 3),
        ("9007199254740993", 2**53 + 1),
    ):
        assert rows(f"Lake,2026-03,{cell},1,,").right[0].content.data["litres"] == value
    assert wrong("Lake,2026-03,1e5,1,,") == [(2, "litres")]
    assert wrong("Lake,2026-03,NaN,1,,") == [(2, "litres")]
    assert wrong('Lake,2026-03,"1,5",1,,') == [(2, "litres")]


def test_a_decimal_comma_is_read_where_the_mapping_says_so() -> None:
    form = {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}
    header = HEADER.replace(",", ";")
    text = header + "Bär;2026-03;1,5;1;;\nLake;2026-03;1.500;1;;\nHill;2026-03;1,5,0;1;;\n"
    read = read_csv(text.encode("cp1252"), mapping(csv=form))
    assert (read.right[0].key[0], read.right[0].content.data["litres"]) == ("Bär", Decimal("1.5"))
    assert [(one.line, one.column) for one in read.wrong] == [(3, "litres"), (4, "litres")]


def test_rows_with_one_key_are_one_row_or_all_wrong() -> None:
    same = "Lake,2026-03,1,1,,"
    assert len(rows(same, same).right) == 1
    assert not rows(same, same).wrong
    read = rows(same, "Lake,2026-03,2,1,,", "Hill,2026-03,1,1,,")
    assert [(one.line, one.reason[:6]) for one in read.wrong] == [(2, "line 3"), (3, "line 2")]
    assert [row.key[0] for row in read.right] == ["Hill"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("site,month\n", "no column clean, kind"),
        ("", "no column"),
        (HEADER.replace("kind", "site,kind"), "more than once"),
    ],
)
def test_a_file_of_other_columns_is_refused_as_a_whole(header: str, said: str) -> None:
    with pytest.raises(WrongFile, match=said):
        rows(header=header)


def test_a_file_in_another_encoding_says_which_setting_to_change() -> None:
    with pytest.raises(WrongFile, match=r"csv\.encoding"):
        read_csv((HEADER + "Bär,2026-03,1,1,,").encode("cp1252"), mapping())


def test_the_id_of_a_row_depends_on_source_and_key_alone() -> None:
    # pinned: another id for the same row would count it twice
    assert row_id("/a", ("x", "y"), 0) == "row-1df890f023b953d4d65203ceef4f6871"
    ids = {row_id("/a", ("x", "y"), 0), row_id("/a", ("xy", ""), 0), row_id("/b", ("x", "y"), 0)}
    ids |= {row_id("/a", ("x", "y"), 1)}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("key: []", "key"),
        ("scope: [other]", "scope.0: other is no column of `key`"),
        ("time: {column: month, zone: Nowhere/Land}", "no time zone 'Nowhere/Land'"),
        ("csv: {encoding: klingon}", "no encoding 'klingon'"),
        ("colour: red", "colour"),
        ("data: {a: {column: x, value: 1}}", "either `column` or `value`"),
        ("data: {a: x, a.b: y}", "stands below another entry"),
        ("key: [a", "cannot read the mapping"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong_with_it(tmp_path: Path, change: str, said: str) -> None:
    fields = {"source": "/a", "type": "a.b", "key": "[site]", "data": "{site: site}"}
    name = change.split(":")[0]
    lines = [change, *(f"{field}: {value}" for field, value in fields.items() if field != name)]
    file = tmp_path / "mapping.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(WrongUse, match=said):
        read_mapping(file)
