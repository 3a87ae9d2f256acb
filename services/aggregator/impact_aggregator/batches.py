"""What passes from counting to the store: claims, batches, and the states of buckets. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from impact_aggregator.fold import BucketKey
from impact_aggregator.partial import Partial

if TYPE_CHECKING:
    from impact_aggregator.amendments import Amendment
    from impact_aggregator.fold import Folded
    from impact_eventlog import Partition


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to count one partition, for as long as nobody raises the epoch."""

    partition: Partition
    epoch: int
    next_offset: int


@dataclass(slots=True)
class Recounted:
    """Buckets as they are without the batch at hand; those of all time follow from their days."""

    buckets: dict[BucketKey, Partial] = field(default_factory=dict)
    causes: dict[BucketKey, list[Amendment]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one partition's records change; moves its claim to `next_offset`."""

    claim: Claim
    next_offset: int
    folded: Folded
    recounted: Recounted = field(default_factory=Recounted)
    revises: bool = True  # whether day buckets that change late are noted as revised


States = dict[tuple[BucketKey, int], Partial]  # by bucket and shard
