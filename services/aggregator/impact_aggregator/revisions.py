"""Revisions: day buckets that change after they could have been reported, with the value before.

A retraction or correction writes one for each day bucket that it changes, with the value after it. Late
events write one a bucket and day of arrival, with the value before the first of them; the value after is
that before the next revision, or what the bucket holds now.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import insert

from impact_aggregator.bucket_rows import partial_of
from impact_aggregator.partial import Partial
from impact_aggregator.windows import DAY, floor
from impact_database import bulk
from impact_schemas.tables import bucket, metric_revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from impact_aggregator.batches import Batch, States
    from impact_aggregator.fold import BucketKey
    from impact_aggregator.rules import Rules

_MAX_CAUSES = 5  # event ids named in one revision


class Revisions:
    """Looks at the buckets of a transaction before they change, and writes what was revised."""

    def __init__(self, rules: Rules, now: int) -> None:
        self._rules = rules
        self._now = now
        self._reasons: dict[BucketKey, tuple[str, str | None]] = {}
        self._shards: dict[BucketKey, dict[int, Partial]] = defaultdict(dict)
        self._old: dict[BucketKey, int | None] = {}
        self._own: list[int] = []  # the shards that the transaction changes

    async def look(self, connection: AsyncConnection, batches: Sequence[Batch], states: States) -> None:
        """Before anything changes: finds what will be revised, and what it is worth now."""
        self._own = [batch.claim.partition.number for batch in batches]
        for batch in batches:
            shard = batch.claim.partition.number
            for key in batch.folded.buckets:
                if key.resolution == "1d" and self._comes_late(key, states.get((key, shard))):
                    self._reasons[key] = ("late", None)
        for batch in batches:
            for key, causes in batch.recounted.causes.items():
                if key.resolution == "1d" and causes:
                    ids = ", ".join(sorted({one.event_id for one in causes})[:_MAX_CAUSES])
                    self._reasons[key] = (causes[-1].kind, ids)
        if self._reasons:
            await self._read(connection)

    async def write(self, connection: AsyncConnection, states: States) -> None:
        """After the changes to `states`."""
        rows = [
            {
                "series_id": key.series_id,
                "resolution": key.resolution,
                "bucket_start": key.start,
                "reported_at": self._now,
                "old_value": self._old[key],
                "new_value": None if reason == "late" else self._value(key, states),
                "reason": reason,
                "caused_by": caused_by,
            }
            for key, (reason, caused_by) in self._reasons.items()
        ]
        if rows:
            await connection.execute(insert(metric_revision), rows)

    def _comes_late(self, key: BucketKey, state: Partial | None) -> bool:
        """The first to come on a later day than all that the bucket holds."""
        today = floor(self._now, DAY)
        return (
            key.start < today
            and state is not None
            and state.updated_at is not None
            and state.updated_at < today
        )

    async def _read(self, connection: AsyncConnection) -> None:
        columns = (bucket.c.series_id, bucket.c.resolution, bucket.c.bucket_start)
        for row in await bulk.select_by_key(connection, tuple(bucket.c), columns, sorted(self._reasons)):
            key, shard, partial = partial_of(row)
            self._shards[key][shard] = partial
        today = floor(self._now, DAY)
        for key, (reason, _) in list(self._reasons.items()):
            shards = self._shards[key].values()
            if reason == "late" and any((one.updated_at or 0) >= today for one in shards):
                del self._reasons[key]  # another shard has met today's first late event
            else:
                self._old[key] = self._merged(key, shards)

    def _value(self, key: BucketKey, states: States) -> int | None:
        shards = dict(self._shards[key])
        for shard in self._own:
            if (key, shard) in states:
                shards[shard] = states[key, shard]
        return self._merged(key, shards.values())

    def _merged(self, key: BucketKey, partials: Iterable[Partial]) -> int | None:
        total = Partial()
        for partial in partials:
            total.merge(partial)
        return None if total.is_empty else total.value(self._rules.aggregate_of(key.series_id))
