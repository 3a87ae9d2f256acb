"""What is hidden of a block cannot be worked out from what is shown of it: attacked by linear programming."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impact_aggregator.protection import suppression
from impact_aggregator.protection.attack import revealed
from impact_aggregator.protection.suppression import TOTAL, hidden_cells, split_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import pytest

    from impact_aggregator.protection.suppression import Cell, Split

MIN_CELL = 5
RING = [[1, 4, 9], [9, 4, 1], [4, 9, 4]]

Event = tuple[int, tuple[tuple[str, str], ...]]  # subject, and the value of each dimension


class Block:
    """Events of one block, cut into cells."""

    def __init__(self, events: Iterable[Event], splits: Collection[Split]) -> None:
        self.splits = splits
        self.events: dict[Cell, list[int]] = {}
        for subject, values in events:
            for split in splits:
                cell = tuple(pair for pair in values if pair[0] in split)
                self.events.setdefault(cell, []).append(subject)

    def size(self, cells: Collection[Cell]) -> int:
        return len({subject for cell in cells for subject in self.events.get(cell, ())})

    def hidden(self) -> set[Cell]:
        return hidden_cells(self.splits, self.events, self.size, MIN_CELL)

    def published(self) -> dict[Cell, int | None]:
        hidden = self.hidden()
        shown = {cell: len(subjects) for cell, subjects in self.events.items() if cell not in hidden}
        return {**shown, **dict.fromkeys(hidden)}


def cell(**values: str) -> Cell:
    return tuple(sorted(values.items()))


def line(**people: int) -> Block:
    """One dimension with so many people by value, each with one event."""
    values = [value for value, count in people.items() for _ in range(count)]
    return Block(((n, (("a", value),)) for n, value in enumerate(values)), [(), ("a",)])


def table(rows: Iterable[Iterable[int]], cut: Split = ("a", "b")) -> Block:
    """Two dimensions with so many people in each cell."""
    events: list[Event] = []
    for row, counts in enumerate(rows):
        for column, count in enumerate(counts):
            events += [(len(events) + n, (("a", f"a{row}"), ("b", f"b{column}"))) for n in range(count)]
    return Block(events, [(), ("a",), ("b",), cut])


def test_a_block_of_large_cells_is_shown_whole() -> None:
    assert line(es=5, en=9).hidden() == set()


def test_a_small_cell_takes_the_next_smallest_with_it() -> None:
    assert line(es=2, en=9, fr=6).hidden() == {cell(a="es"), cell(a="fr")}


def test_small_cells_that_are_many_together_need_no_other() -> None:
    assert line(es=3, en=9, fr=4).hidden() == {cell(a="es"), cell(a="fr")}


def test_small_cells_that_are_few_together_take_another() -> None:
    assert line(es=1, en=9, fr=2, de=30).hidden() == {cell(a="es"), cell(a="fr"), cell(a="en")}


def test_a_small_total_is_hidden_with_all_of_it() -> None:
    assert line(es=1, en=2).hidden() == {TOTAL, cell(a="es"), cell(a="en")}


def test_the_same_person_in_two_cells_does_not_make_them_many() -> None:
    twice = [(n, (("a", value),)) for n in range(3) for value in ("sms", "voice")]
    many = [(10 + n, (("a", "post"),)) for n in range(9)]
    assert Block([*twice, *many], [(), ("a",)]).hidden() == {cell(a=v) for v in ("sms", "voice", "post")}


def test_a_hidden_total_hides_one_cell_of_every_dimension() -> None:
    # the sum of a dimension that is shown whole would be the total
    values = [("x", "p"), ("x", "q"), ("x", "r")]
    block = Block([(n, (("a", a), ("b", b))) for n, (a, b) in enumerate(values)], [(), ("a",), ("b",)])
    assert TOTAL in block.hidden()
    assert {split_of(one) for one in block.hidden()} == {(), ("a",), ("b",)}


def test_a_ring_of_hidden_cells_that_bounds_itself_tightly_is_filled() -> None:
    # two hidden cells in each row and column, together enough, and yet each known to within 1 or 2
    assert not revealed(table(RING).published(), MIN_CELL)


def test_cells_without_events_within_the_hidden_rectangle_are_named_hidden_too() -> None:
    block = table([[0, 5, 9], [2, 9, 9], [9, 9, 9]])
    hidden = block.hidden()
    assert cell(a="a1", b="b0") in hidden
    rows = {one[0][1] for one in hidden if len(one) == 2}
    columns = {one[1][1] for one in hidden if len(one) == 2}
    assert hidden == {cell(a=row, b=column) for row in rows for column in columns}


SMALL_VALUES = st.integers(0, 3)
ROWS = st.lists(
    st.lists(st.one_of(st.just(0), st.integers(0, 12)), min_size=3, max_size=3), min_size=1, max_size=4
)
EVENTS = st.lists(
    st.tuples(st.integers(0, 25), st.tuples(SMALL_VALUES, SMALL_VALUES, st.integers(0, 2))), max_size=60
)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(rows=ROWS)
def test_no_cell_of_a_table_with_its_margins_can_be_bounded(rows: list[list[int]]) -> None:
    assert revealed(table(rows).published(), MIN_CELL) == {}


@quick
@given(events=EVENTS, cuts=st.sampled_from([[], [("a", "b")], [("a", "b", "c")]]))
def test_no_cell_can_be_bounded_where_people_come_often_and_in_several_cells(
    events: list[tuple[int, tuple[int, int, int]]], cuts: list[Split]
) -> None:
    named = [
        (subject, tuple((name, f"{name}{value}") for name, value in zip("abc", values, strict=True)))
        for subject, values in events
    ]
    block = Block(named, [(), ("a",), ("b",), ("c",), *cuts])
    assert revealed(block.published(), MIN_CELL) == {}


def test_the_attack_finds_what_primary_suppression_alone_would_give_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suppression._Suppression, "run", lambda self: self._hidden)
    assert revealed(line(es=2, en=9, fr=6).published(), MIN_CELL) == {cell(a="es"): (2, 2)}
    assert revealed(table([[2, 9], [9, 9]]).published(), MIN_CELL) == {cell(a="a0", b="b0"): (2, 2)}


def test_the_attack_finds_what_rows_and_columns_alone_would_give_away() -> None:
    hidden = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2)]
    published = dict(table(RING).published())
    for row, column in product(range(3), repeat=2):
        place = cell(a=f"a{row}", b=f"b{column}")
        published[place] = None if (row, column) in hidden else RING[row][column]
    assert revealed(published, MIN_CELL)


def test_nothing_is_concluded_where_more_was_taken_back_than_came() -> None:
    published = {TOTAL: 8, cell(a="es"): 9, cell(a="en"): None, cell(a="fr"): None}
    assert revealed(published, MIN_CELL) == {}
