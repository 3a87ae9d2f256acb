"""Which metrics of a catalog are protected: no cell of theirs that is of few leaves by any exit.

A metric that is made of others is protected if it asks for it itself, or if one of those does. Metrics that
are made of one another are a family: what is hidden of one is hidden of all, on one grid of time and with one
least cell, for what one of them shows could be worked out of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from impact_schemas.catalog.document import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from impact_schemas.catalog.metric import Metric
    from impact_schemas.catalog.models import Catalog

_COARSER = ("day", "week", "month")


class Family(NamedTuple):
    """Protected metrics that are made of one another, with all that they are made of."""

    min_cell: int  # the fewest subjects of a cell that is shown
    block: str  # the grid of time on which they are published: day, week or month
    protected: frozenset[str]  # those whose small cells are hidden
    counted: tuple[str, ...]  # those of the family that are counted from events, protected or not


def families(catalog: Catalog) -> tuple[Family, ...]:
    """The families of a catalog's protected metrics, each metric in one at most."""
    groups: list[set[str]] = []
    for name in _protected(catalog.metrics):
        group = {name, *_sources(catalog.metrics, name)}
        for other in [one for one in groups if one & group]:
            group |= other
            groups.remove(other)
        groups.append(group)
    return tuple(_family(catalog.metrics, group) for group in groups)


def family_of(catalog: Catalog, name: str) -> Family | None:
    """The family that a metric belongs to, protected itself or not."""
    return next((one for one in families(catalog) if name in one.protected or name in one.counted), None)


def look_for_open_parts(catalog: Catalog) -> Iterator[Finding]:
    """A finding for each metric that shows the small groups of a protected one that is made of it."""
    for family in families(catalog):
        for name in sorted(set(family.counted) - family.protected):
            made = ", ".join(sorted(family.protected))
            reason = f"shows small groups, though {made} is protected: give it the same `privacy`"
            yield Finding(("metrics", name), reason, on_key=True)


def _family(metrics: Mapping[str, Metric], group: set[str]) -> Family:
    asked = [privacy for name in group if (privacy := metrics[name].privacy) is not None]
    return Family(
        max(one.min_cell for one in asked),
        max((one.block for one in asked), key=_COARSER.index),
        frozenset(group & set(_protected(metrics))),
        tuple(sorted(name for name in group if not metrics[name].derived_from)),
    )


def _protected(metrics: Mapping[str, Metric]) -> list[str]:
    return [
        name
        for name in metrics
        if any(metrics[one].privacy is not None for one in (name, *_sources(metrics, name)))
    ]


def _sources(metrics: Mapping[str, Metric], name: str) -> Iterator[str]:
    """All that a metric is made of; a catalog that was read has no circles."""
    for source in metrics[name].derived_from:
        yield source
        yield from _sources(metrics, source)
