"""Which cells of one block are hidden: those of few, and as many others as keep them from being worked out.

Pure. Primary: a cell of at least one but fewer than `min_cell` subjects. Complementary, along one dimension:
never one hidden cell alone, and the hidden ones together are not few, for their sum is what the others leave
of the total. Within a combination of two dimensions the hidden cells fill a rectangle whose rows and columns
each hold enough: what can be said of a cell of a rectangle from its margins is no more than

    max(0, row + column - all) <= cell <= min(row, column)

(Frechet's bounds, which are exact for two dimensions: Dobra and Fienberg, PNAS 97, 2000), an interval that is
at least as wide as the least of row, column, and what the rectangle holds beside them. Of combinations of
three dimensions and more all cells are hidden, or none.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING

Cell = tuple[tuple[str, str], ...]  # (dimension, value as JSON) of each, sorted; () is the total
Split = tuple[str, ...]  # names of dimensions, sorted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    Size = Callable[[Collection[Cell]], int]  # distinct subjects of some cells together

TOTAL: Cell = ()
MAX_COMBINATIONS = 10_000  # of three dimensions and more: beyond, cells without events are not named


def hidden_cells(splits: Iterable[Split], cells: Iterable[Cell], size: Size, min_cell: int) -> set[Cell]:
    """The cells to hide.

    `cells` are those that hold anything, of every split; `size` gives how many distinct subjects some of them
    have together. Cells that hold nothing may be among the result: a gap in a pattern would be telling.
    """
    return _Suppression(splits, cells, size, min_cell).run()


def split_of(cell: Cell) -> Split:
    """The dimensions of a cell."""
    return tuple(name for name, _ in cell)


class _Suppression:
    def __init__(self, splits: Iterable[Split], cells: Iterable[Cell], size: Size, min_cell: int) -> None:
        self._cells: dict[Split, list[Cell]] = defaultdict(list)
        for cell in sorted(cells):
            self._cells[split_of(cell)].append(cell)
        self._splits = sorted(set(splits), key=lambda split: (len(split), split))
        self._size = size
        self._min_cell = min_cell
        self._hidden = {cell for ones in self._cells.values() for cell in ones if self._is_few([cell])}

    def run(self) -> set[Cell]:
        before = -1
        while len(self._hidden) != before:  # it only grows
            before = len(self._hidden)
            for split in self._splits:
                if len(split) == 1:
                    self._close_line(self._cells[split])
                elif len(split) == 2:
                    self._close_table(split)
                elif split:
                    self._close_whole(split)
        return self._hidden

    def _is_few(self, cells: Collection[Cell]) -> bool:
        return 0 < self._size(cells) < self._min_cell

    def _smallest(self, cells: Iterable[Cell]) -> Cell:
        return min(cells, key=lambda cell: (self._size([cell]), cell))

    # --- one dimension --------------------------------------------------------------------------------

    def _close_line(self, line: list[Cell]) -> None:
        """One dimension's cells, which add up to the total."""
        hidden = [cell for cell in line if cell in self._hidden]
        if TOTAL in self._hidden:
            if line and not hidden:
                self._hidden.add(self._smallest(line))
            return
        while hidden and (len(hidden) == 1 or self._is_few(hidden)):
            shown = [cell for cell in line if cell not in self._hidden]
            enough = [cell for cell in shown if not self._is_few([*hidden, cell])]
            hidden.append(self._smallest(enough or shown) if shown else TOTAL)
            self._hidden.add(hidden[-1])
            if not shown:
                return

    # --- two dimensions -------------------------------------------------------------------------------

    def _close_table(self, split: Split) -> None:
        """The cells of two dimensions: what is hidden becomes a rectangle that is safe."""
        _Rectangle(
            split, self._cells[split], self._lines(split), self._hidden, self._size, self._is_few
        ).hide()

    def _lines(self, split: Split) -> tuple[list[str], ...]:
        return tuple([cell[0][1] for cell in self._cells[(name,)]] for name in split)

    # --- three and more -------------------------------------------------------------------------------

    def _close_whole(self, split: Split) -> None:
        """The cells of three dimensions or more: all of them, and of the combinations within, or none."""
        within = [one for one in self._splits if len(one) > 1 and set(one) <= set(split)]
        margins = [(name,) for name in split]
        concerned = (cell for one in (*within, *margins) for cell in self._cells[one])
        if self._hidden.isdisjoint(concerned):
            return
        for one in within:
            self._hidden.update(self._combinations(one))

    def _combinations(self, split: Split) -> Iterable[Cell]:
        values = self._lines(split)
        count = 1
        for line in values:
            count *= len(line)
        if count > MAX_COMBINATIONS:
            return self._cells[split]
        return (tuple(zip(split, combination, strict=True)) for combination in product(*values))


class _Rectangle:
    """The hidden rows and columns of one table of two dimensions; it grows until it is safe."""

    def __init__(
        self,
        split: Split,
        cells: Iterable[Cell],
        lines: tuple[list[str], ...],
        hidden: set[Cell],
        size: Size,
        is_few: Callable[[Collection[Cell]], bool],
    ) -> None:
        self._split = split
        self._there = set(cells)
        self._lines = lines
        self._hidden = hidden
        self._size = size
        self._is_few = is_few
        self._in = tuple({cell[axis][1] for cell in self._there & hidden} for axis in (0, 1))

    def hide(self) -> None:
        """Hides the rectangle, if there is anything to hide."""
        if not self._begin():
            return
        while self._grow(0) or self._grow(1):
            pass
        for row, column in product(sorted(self._in[0]), sorted(self._in[1])):
            self._hidden.add(self._cell(0, row, column))

    def _begin(self) -> bool:
        """What is hidden already: cells; and of a hidden margin its whole line."""
        margins = [
            {value for value in self._lines[axis] if self._margin(axis, value) in self._hidden}
            for axis in (0, 1)
        ]
        for axis in (0, 1):
            self._in[axis].update(margins[axis])
            if margins[axis]:
                self._in[1 - axis].update(self._lines[1 - axis])
        return any(self._in)

    def _grow(self, axis: int) -> bool:
        """Adds one row (or column, by `axis`) where another one or a crossing line asks for it."""
        outside = [value for value in self._lines[axis] if value not in self._in[axis]]
        if not outside:
            return False
        crossing = [[value] for value in sorted(self._in[1 - axis]) if not self._is_hidden(1 - axis, value)]
        hidden = [value for value in sorted(self._in[1 - axis]) if self._is_hidden(1 - axis, value)]
        asking = [group for group in (*crossing, hidden) if group and self._is_few(self._of(1 - axis, group))]
        if len(self._in[axis]) > 1 and not asking:
            return False
        group = asking[0] if asking else sorted(self._in[1 - axis])
        self._in[axis].add(min(outside, key=lambda value: self._cost(axis, value, group)))
        return True

    def _cost(self, axis: int, value: str, group: Iterable[str]) -> tuple[bool, int, str]:
        """What is lost with one more line; one that adds nothing to the lines that ask comes last."""
        added = self._size(self._present(axis, [value], group))
        lost = self._size(self._present(axis, [value], self._in[1 - axis]))
        return added == 0, lost, value

    def _of(self, axis: int, values: Iterable[str]) -> list[Cell]:
        """The cells of these lines within the rectangle."""
        return self._present(axis, values, self._in[1 - axis])

    def _present(self, axis: int, values: Iterable[str], others: Iterable[str]) -> list[Cell]:
        cells = (self._cell(axis, value, other) for value, other in product(values, others))
        return [cell for cell in cells if cell in self._there]

    def _is_hidden(self, axis: int, value: str) -> bool:
        return self._margin(axis, value) in self._hidden

    def _margin(self, axis: int, value: str) -> Cell:
        return ((self._split[axis], value),)

    def _cell(self, axis: int, value: str, other: str) -> Cell:
        pair = ((self._split[axis], value), (self._split[1 - axis], other))
        return pair if axis == 0 else (pair[1], pair[0])
