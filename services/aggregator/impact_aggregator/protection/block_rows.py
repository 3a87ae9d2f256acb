"""Rows of `block_cell` and `block_account`, and the difference that is carried from block to block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from impact_aggregator.bucket_rows import sketch_bytes, sketch_of
from impact_aggregator.partial import Partial
from impact_aggregator.sketches import Distinct

if TYPE_CHECKING:
    from impact_aggregator.sketches import Sketch


class FrozenCell(NamedTuple):
    """A cell of a block as it was decided."""

    series_id: int
    block_start: int
    is_hidden: bool
    is_restated: bool
    decided_at: int
    state: Partial


def frozen_row(cell: FrozenCell, value: int | None) -> tuple[object, ...]:
    """A row of `block_cell`, in its columns' order; `value` is that of the block alone."""
    state = cell.state
    numbers = (state.seen, state.count, state.sum, state.sum_squares, state.top_count)
    return (*cell[:5], *numbers, value, sketch_bytes(state.sketch))


def frozen_of(row: tuple[Any, ...]) -> FrozenCell:
    """What `frozen_row` was made of; subjects are not kept."""
    state = _state_of(row[5:10])
    if row[-1] is not None:
        state.sketch = sketch_of(bytes(row[-1]))
    return FrozenCell(row[0], row[1], bool(row[2]), bool(row[3]), row[4], state)


def account_row(
    series_id: int, block_start: int, changed_at: int | None, state: Partial
) -> tuple[object, ...]:
    """A row of `block_account`, in its columns' order."""
    numbers = (state.seen, state.count, state.sum, state.sum_squares, state.top_count)
    subjects = None if state.subjects is None else state.subjects.to_bytes()
    return (series_id, block_start, changed_at, *numbers, subjects, sketch_bytes(state.sketch))


def account_of(row: tuple[Any, ...]) -> tuple[int, int, Partial]:
    """Series, block, and what the block held when it was last looked at."""
    state = _state_of(row[3:8])
    if row[8] is not None:
        state.subjects = Distinct.from_bytes(bytes(row[8]))
    if row[9] is not None:
        state.sketch = sketch_of(bytes(row[9]))
    return row[0], row[1], state


def difference(now: Partial, before: Partial) -> Partial:
    """What is in `now` and not in `before`; its numbers may be negative.

    Of sets what was added, exactly while both are exact, else all of `now`: a union stays right by it. What
    was taken away cannot be taken out of a union, so it is left in.
    """
    more = Partial()
    more.seen, more.count = now.seen - before.seen, now.count - before.count
    more.sum = _minus(now.sum, before.sum)
    more.sum_squares = _minus(now.sum_squares, before.sum_squares)
    more.top_count = _minus(now.top_count, before.top_count)
    more.subjects = _added(now.subjects, before.subjects)
    more.sketch = _added(now.sketch, before.sketch)
    return more


def _state_of(numbers: tuple[Any, ...]) -> Partial:
    state = Partial()
    state.seen, state.count, state.sum, state.sum_squares, state.top_count = numbers
    return state


def _minus(now: int | None, before: int | None) -> int | None:
    return None if now is None and before is None else (now or 0) - (before or 0)


def _added(now: Sketch | None, before: Sketch | None) -> Distinct | None:
    if not isinstance(now, Distinct):
        return None
    return now if not isinstance(before, Distinct) else now.without(before)
