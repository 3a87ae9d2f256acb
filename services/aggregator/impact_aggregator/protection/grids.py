"""The blocks of one family of protected metrics: which changed, which are decided, which may be now. Pure.

A block is decided once, when it is closed and has been quiet for a while. As long as others that wait are
still being filled, as by an import of history, all of them wait together, but none for longer than a minute.
A busy machine ticks seldom, and counts in fits and starts: the while is never shorter than between two ticks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from impact_aggregator.protection.blocks import block_end, block_start, closed_before
from impact_aggregator.windows import MINUTE

if TYPE_CHECKING:
    from impact_aggregator.values import Name
    from impact_schemas.catalog.protection import Family

GRACE = MINUTE  # after a block's end: events on their way are not late
SETTLE = 2_000_000  # microseconds without a change, and a block is decided
MAX_SETTLE = 15_000_000
PATIENCE = MINUTE  # for other blocks that still change
MAX_BLOCKS = 60  # that are decided in one tick
MAX_CELLS = 20_000  # the same, of cells


@dataclass(slots=True)
class Grid:
    """What the leader remembers of one family."""

    product: str
    family: Family
    parts: tuple[Name, ...]  # counted metrics
    protected: tuple[Name, ...]  # these, and those made of them
    changed: dict[Name, dict[int, int]] = field(default_factory=dict)  # block -> when a bucket last changed
    accounted: dict[int, dict[Name, int | None]] = field(default_factory=dict)  # the same, at the last look
    closed: int | None = None  # the end of the last closed block, as of the last tick
    ticked_at: int | None = None
    settle: int = SETTLE
    is_waiting: bool = False  # whether there are events in blocks that are not decided
    unread: set[int] = field(default_factory=set)  # blocks that are decided, and not yet in any window

    def close(self, now: int) -> bool:
        """Moves on to `now`; whether another block is closed by it."""
        pause = 0 if self.ticked_at is None else now - self.ticked_at
        self.ticked_at, self.settle = now, min(max(pause, SETTLE), MAX_SETTLE)
        before, self.closed = self.closed, closed_before(self.family.block, now - GRACE)
        return before != self.closed

    def note(self, name: Name, days: dict[int, int]) -> None:
        """When the buckets of each day of a metric last changed."""
        blocks: dict[int, int] = {}
        for day, moment in days.items():
            start = block_start(self.family.block, day)
            blocks[start] = max(moment, blocks.get(start, moment))
        self.changed[name] = blocks

    def end(self, block: int) -> int:
        """Where a block ends."""
        return block_end(self.family.block, block)

    def settled(self, now: int) -> list[int]:
        """The blocks that may be decided now, in order of time."""
        closed = [block for block in self._undecided() if self.end(block) <= self._closed]
        last = {block: self._last_change(block) for block in closed}
        newest = max(last.values(), default=now)
        return sorted(
            block
            for block, moment in last.items()
            if now - moment >= self.settle and (now - newest >= self.settle or now - moment >= PATIENCE)
        )

    def dirty(self) -> list[int]:
        """Decided blocks that have changed since they were last looked at."""
        return sorted(
            block
            for block, seen in self.accounted.items()
            if any(self.changed.get(name, {}).get(block) != seen.get(name) for name in self.parts)
        )

    def account(self, block: int) -> dict[Name, int | None]:
        """Takes a block as it is now for looked at; gives when each metric's buckets had last changed."""
        seen = {name: self.changed.get(name, {}).get(block) for name in self.parts}
        self.accounted[block] = seen
        return seen

    def waits(self) -> bool:
        """Whether there are events in blocks that are not decided, the running one included."""
        return bool(self._undecided())

    @property
    def _closed(self) -> int:
        return 0 if self.closed is None else self.closed

    def _undecided(self) -> set[int]:
        return {block for blocks in self.changed.values() for block in blocks} - self.accounted.keys()

    def _last_change(self, block: int) -> int:
        return max(blocks[block] for blocks in self.changed.values() if block in blocks)


def share_of_tick(blocks: list[int], series: int) -> list[int]:
    """As many of the blocks as one tick decides, from the first on."""
    return blocks[: max(1, min(MAX_BLOCKS, MAX_CELLS // max(series, 1)))]
