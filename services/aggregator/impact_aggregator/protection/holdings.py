"""What a block holds of a family of protected metrics: cells, and their distinct subjects. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from impact_aggregator.partial import Partial
from impact_aggregator.rules import TOTAL as TOTAL_SEGMENT
from impact_aggregator.sketches import Distinct
from impact_schemas import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from impact_aggregator.protection.suppression import Cell, Size, Split

    Signed = Sequence[tuple[int, "Part"]]  # counts, or distinct values, added or subtracted


class Part(NamedTuple):
    """One counted metric of the family."""

    aggregate: str
    splits: frozenset[Split]
    cells: Mapping[Cell, Partial]  # those that hold anything


def cell_of(segment: str) -> Cell:
    """A segment as a cell."""
    values = {} if segment == TOTAL_SEGMENT else msgspec.json.decode(segment, type=dict[str, msgspec.Raw])
    return tuple((name, bytes(value).decode()) for name, value in sorted(values.items()))


def segment_of(cell: Cell) -> str:
    """A cell as a segment: JSON with sorted keys."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in cell) + "}"


def holds_anything(state: Partial) -> bool:
    """Whether events are in it; one that was taken back leaves a difference behind."""
    return bool(state.count or state.sum or (state.subjects is not None and state.subjects.estimate()))


def sizes(parts: Sequence[Part], sums: Iterable[Signed]) -> Size:
    """A function from cells to the fewest distinct subjects that any of the metrics shows of them together.

    `sums` are what can be worked out of the parts as a number: the parts of a ratio, and what is left of its
    whole. Of these no subjects are known, so that events are counted: their subjects may be fewer yet.
    """
    counters = [_people_of(part) for part in parts]
    counters += [_sum_of(signed) for signed in sums]
    for part in parts:
        if part.aggregate == "mean" and all(_is_yes_or_no(state) for state in part.cells.values()):
            counters += [_count_of(part, _yes), _count_of(part, _no)]
        if any(state.top_count is not None for state in part.cells.values()):
            counters += [_count_of(part, _top), _count_of(part, _below)]
    known: dict[Cell, int] = {}

    def size(cells: Collection[Cell]) -> int:
        if len(cells) != 1:
            return _least(counters, cells)
        (cell,) = cells
        if cell not in known:
            known[cell] = _least(counters, cells)
        return known[cell]

    return size


def _least(counters: Iterable[Size], cells: Collection[Cell]) -> int:
    return min((count for counter in counters if (count := counter(cells)) > 0), default=0)


def _people_of(part: Part) -> Size:
    return lambda cells: people(part.cells[cell] for cell in cells if cell in part.cells)


def people(states: Iterable[Partial]) -> int:
    """Distinct subjects of these together; where no event names one, events."""
    subjects = Distinct()
    events = 0
    named = there = False
    for state in states:
        there = there or holds_anything(state)
        events += max(state.count, 0)
        if state.subjects is not None:
            named = True
            subjects.merge(state.subjects)
    return max(subjects.estimate() if named else events, int(there))


def _sum_of(signed: Signed) -> Size:
    return lambda cells: sum(sign * _number(part, cells) for sign, part in signed)


def _number(part: Part, cells: Collection[Cell]) -> int:
    """Events, or distinct values, of cells together."""
    together = Partial()
    for cell in cells:
        if cell in part.cells:
            together.merge(part.cells[cell])
    return (together.value(part.aggregate) or 0) // numbers.ONE


def _count_of(part: Part, count: Callable[[Partial], int]) -> Size:
    return lambda cells: sum(count(part.cells[cell]) for cell in cells if cell in part.cells)


def _is_yes_or_no(state: Partial) -> bool:
    return {state.min, state.max} <= {0, numbers.ONE, None}


def _yes(state: Partial) -> int:
    return (state.sum or 0) // numbers.ONE


def _no(state: Partial) -> int:
    return state.count - _yes(state)


def _top(state: Partial) -> int:
    return state.top_count or 0


def _below(state: Partial) -> int:
    return state.count - _top(state)
