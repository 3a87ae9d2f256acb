"""What can be worked out about hidden cells from the published ones: bounds by linear programming.

The attacker knows every published number, that parts add up to their whole, that no count is negative, and
which cells hold nothing. Solved with HiGHS (Huangfu and Hall, Math. Prog. Comp. 10, 2018) through scipy.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from impact_aggregator.protection.suppression import split_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from impact_aggregator.protection.suppression import Cell, Split

_ROUNDING = 1e-6  # of the solver: counts are whole


class Bounds(NamedTuple):
    """What a hidden count must lie in."""

    low: float
    high: float  # infinity where nothing bounds it


class Equation(NamedTuple):
    """Hidden cells that add up, with their signs, to a known number."""

    terms: tuple[tuple[Cell, int], ...]
    known: int


def revealed(
    cells: Mapping[Cell, int | None], min_cell: int, more: Sequence[Equation] = ()
) -> dict[Cell, Bounds]:
    """The hidden cells (None) that can be few, and not none, and are bounded more tightly than by `min_cell`.

    `cells` are all that are named in one block; those that are not named hold nothing. `more` is what else
    is known of the hidden ones.
    """
    return {
        cell: found
        for cell, found in bounds(cells, more).items()
        if found.low < min_cell - _ROUNDING
        and found.high > _ROUNDING
        and found.high - found.low < min_cell - _ROUNDING
    }


def bounds(cells: Mapping[Cell, int | None], more: Sequence[Equation] = ()) -> dict[Cell, Bounds]:
    """The least and the greatest that each hidden cell can be."""
    unknown = [cell for cell, count in cells.items() if count is None]
    equations = [*_additive(cells), *more]
    if not unknown:
        return {}
    place = {cell: number for number, cell in enumerate(unknown)}
    matrix = _matrix(equations, place)
    right = np.array([equation.known for equation in equations], dtype=float)
    return {cell: Bounds(*_extremes(place[cell], len(unknown), matrix, right)) for cell in unknown}


def _extremes(target: int, count: int, matrix: csr_array, right: np.ndarray) -> Iterator[float]:
    for sign in (1, -1):
        aim = np.zeros(count)
        aim[target] = sign
        equal = {"A_eq": matrix, "b_eq": right} if len(right) else {}
        solved = linprog(aim, **equal, bounds=(0, None), method="highs")
        # unbounded; or none fits, as where more was taken back than came: then nothing can be concluded
        yield sign * solved.fun if solved.status == 0 else sign * float("-inf")


def _additive(cells: Mapping[Cell, int | None]) -> Iterator[Equation]:
    """The parts of each split add up to every cell that is coarser by one or more dimensions."""
    by_split: dict[Split, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_split[split_of(cell)].append(cell)
    for coarse, wholes in by_split.items():
        for fine, parts in by_split.items():
            if set(coarse) < set(fine):
                groups = _grouped(parts, coarse)
                for whole in wholes:
                    yield _equation(cells, whole, groups[whole])


def _grouped(parts: Sequence[Cell], coarse: Split) -> dict[Cell, list[Cell]]:
    groups: dict[Cell, list[Cell]] = defaultdict(list)
    for part in parts:
        groups[tuple(pair for pair in part if pair[0] in coarse)].append(part)
    return groups


def _equation(cells: Mapping[Cell, int | None], whole: Cell, parts: Sequence[Cell]) -> Equation:
    terms = [(part, 1) for part in parts if cells[part] is None]
    known = -sum(cells[part] or 0 for part in parts)
    if cells[whole] is None:
        terms.append((whole, -1))
    return Equation(tuple(terms), known + (cells[whole] or 0))


def _matrix(equations: Sequence[Equation], place: Mapping[Cell, int]) -> csr_array:
    entries = [
        (row, place[cell], sign) for row, equation in enumerate(equations) for cell, sign in equation.terms
    ]
    rows, columns, signs = zip(*entries, strict=True) if entries else ((), (), ())
    return csr_array((signs, (rows, columns)), shape=(len(equations), len(place)), dtype=float)
