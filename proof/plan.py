"""Which rounds come next: one of each fault, then more seeds; what is stored is done.

Pure. A plan can be worked off in pieces: whoever starts again goes on where it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from proof.scene import Fault

# seeds that are run on one service, before the next fault has its turn
_TURNS = (range(1, 2), range(2, 4), range(4, 8), range(8, 12), range(12, 16), range(16, 21))
_UNITS = {"s": 1, "m": 60, "h": 3600}


def turns(faults: Sequence[Fault], done: Collection[str]) -> Iterator[list[tuple[Fault, list[int]]]]:
    """Turn by turn: of each fault the seeds that are due and not yet `done` ("fault/seed")."""
    for turn in _TURNS:
        pieces = [(fault, [seed for seed in turn if seed <= fault.seeds]) for fault in faults]
        left = [
            (fault, [seed for seed in seeds if f"{fault.name}/{seed}" not in done]) for fault, seeds in pieces
        ]
        yield [(fault, seeds) for fault, seeds in left if seeds]


def seconds(text: str) -> float:
    """Of a duration such as 90s, 45m or 2h. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 90s, 45m or 2h")
    return float(match[1]) * _UNITS[match[2]]
