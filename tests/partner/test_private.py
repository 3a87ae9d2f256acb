"""What a journal may hold of a row: nothing that says whom it is about."""

from __future__ import annotations

import pytest

from impact_schemas.catalog.row_mapping import RowMapping
from impact_schemas.partner_plan import as_content
from impact_schemas.partner_private import Private, hides_something
from impact_schemas.partner_rows import Content

MAPPING = RowMapping.model_validate(
    {
        "source": "/clinic/north",
        "type": "visit",
        "key": ["patient", "day", "row", "house"],
        "subject": "patient",
        "time": "day",
        "data": {"minutes": {"column": "minutes", "type": "number"}, "home.id": "house"},
    }
)
SECRET = b"k" * 32


def private(secret: bytes = SECRET) -> Private:
    return Private(secret, MAPPING, frozenset({"home.id"}))


def content(subject: str | None = "anna", house: str = "17", minutes: int = 5) -> Content:
    return Content("visit", {"minutes": minutes, "home": {"id": house}}, "2026-01-01T00:00:00Z", subject)


def test_equal_rows_are_equal_and_others_are_not() -> None:
    written = private().written
    assert written(content()) == written(content())
    others = [content("ben"), content(house="18"), content(minutes=6), content(None)]
    assert len({written(one) for one in (content(), *others)}) == 5


def test_nothing_personal_is_in_it_and_the_rest_is() -> None:
    text = private().written(content())
    assert "anna" not in text
    assert '"17"' not in text
    assert as_content(text).data["minutes"] == 5


def test_one_value_looks_different_in_every_place_and_under_every_key() -> None:
    text = as_content(private().written(content("same", "same")))
    assert text.subject != text.data["home"]["id"]
    assert private(b"x" * 32).written(content()) != private().written(content())


def test_of_the_key_only_what_the_log_has_as_it_is() -> None:
    assert private().kept(("anna", "2026-01-01", "7", "17")) == (None, "2026-01-01", None, None)


@pytest.mark.parametrize(
    ("subject", "data", "hides"),
    [("anna", {}, True), (None, {"home": {"id": "17"}}, True), (None, {"home": {}}, False)],
)
def test_what_is_hidden_is_noticed(subject: str | None, data: dict[str, object], hides: bool) -> None:
    written = private().written(Content("visit", {"minutes": 1, **data}, None, subject))
    assert hides_something(as_content(written)) is hides
