"""How many people cells are about."""

from __future__ import annotations

from impact_aggregator.partial import Partial
from impact_aggregator.protection.holdings import Part, sizes


def test_no_cell_at_all_is_about_nobody() -> None:
    """A crossing line of a table need not have any cell."""
    state = Partial()
    state.count = 4
    size = sizes([Part("count", frozenset(), {(("language", '"es"'),): state})], [])
    assert size([]) == 0
    assert size([(("language", '"es"'),)]) == 4
