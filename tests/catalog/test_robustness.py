"""No text, however odd or hostile, does more than get its faults."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_schemas.catalog import CatalogFaults, parse_catalog

CAREMESSAGE = (Path(__file__).parent / "caremessage.yaml").read_text()

YAML_PIECES = st.sampled_from(
    [
        *("a", "b: ", "- ", "? ", ": ", "[", "]", "{", "}", ", ", "\n", "\n  ", "&x ", "*x", "<<: ", "#"),
        *(
            "!!str ",
            "!foo ",
            "!<t> ",
            "|\n",
            ">-\n",
            "'",
            '"',
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "%TAG ! t:\n",
        ),
        *("1", ".inf", "0x1", "1e5", "~", "\\", "\t", "\x00", "\ufeff", "\u2028", "é"),
    ]
)
FIELDS = st.sampled_from(CAREMESSAGE.split())
SCALARS = st.sampled_from(
    ["", "~", "[]", "{}", "[1]", "{a: 1}", "true", "-1", "1.5", "data.x", "subject", "all", "text", "'"]
)


def parse(text: str) -> None:
    with contextlib.suppress(CatalogFaults):
        parse_catalog(text, "any.yaml")


@given(st.text())
def test_any_text(text: str) -> None:
    parse(text)


@settings(max_examples=300)
@given(st.lists(YAML_PIECES, max_size=30).map("".join))
def test_any_yaml(text: str) -> None:
    parse(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_example_with_a_word_or_value_replaced(data: st.DataObject) -> None:
    old = data.draw(FIELDS)
    parse(
        CAREMESSAGE.replace(
            old, data.draw(st.one_of(FIELDS, SCALARS, YAML_PIECES)), data.draw(st.integers(1, 3))
        )
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(CAREMESSAGE)), st.integers(0, 80), st.text(max_size=3))
def test_the_example_with_a_piece_cut_out(start: int, length: int, between: str) -> None:
    parse(CAREMESSAGE[:start] + between + CAREMESSAGE[start + length :])


BOMB = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{level}: &a{level + 1} [{', '.join([f'*a{level}'] * 10)}]\n" for level in range(30)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "[" * 100_000, "{a: " * 50_000, "- " * 50_000, "a: " + "9" * 1_000_000, "a: 1e" + "9" * 10_000],
    ids=["aliases of aliases", "lists", "mappings", "dashes", "digits", "exponent"],
)
def test_hostile_text_is_refused_soon(text: str) -> None:
    started = time.process_time()
    with pytest.raises(CatalogFaults):
        parse_catalog(text, "hostile.yaml")
    assert time.process_time() - started < 20
