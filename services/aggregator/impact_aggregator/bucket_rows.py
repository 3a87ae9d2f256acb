"""Bucket states to rows of the table `bucket` and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from impact_aggregator.fold import BucketKey
from impact_aggregator.partial import Partial
from impact_aggregator.sketches import Distinct, Places, Quantiles

if TYPE_CHECKING:
    from impact_aggregator.sketches import Sketch


def partial_of(row: tuple[Any, ...]) -> tuple[BucketKey, int, Partial]:
    """A row of the table `bucket`, in its columns' order: key, shard and state."""
    state = Partial()
    series_id, resolution, start, shard, state.seen, state.last_time, state.count = row[:7]
    state.sum, state.min, state.max, latest_time, latest_tiebreak, latest_value = row[7:13]
    state.sum_squares, state.top_count = row[13:15]
    state.updated_at, subjects, sketch = row[-3:]
    if latest_time is not None:
        state.latest = (latest_time, bytes(latest_tiebreak), latest_value)
    if subjects is not None:
        state.subjects = Distinct.from_bytes(bytes(subjects))
    if sketch is not None:
        state.sketch = sketch_of(bytes(sketch))
    return BucketKey(series_id, resolution, start), shard, state


_SKETCHES: dict[bytes, type[Sketch]] = {b"D": Distinct, b"P": Places, b"Q": Quantiles}
_TAGS = {kind: tag for tag, kind in _SKETCHES.items()}


def sketch_of(data: bytes) -> Sketch:
    """What `sketch_bytes` gave."""
    return _SKETCHES[data[:1]].from_bytes(data[1:])


def sketch_bytes(sketch: Sketch | None) -> bytes | None:
    """A sketch of any kind, with a mark of its kind; None where there is none."""
    return None if sketch is None else _TAGS[type(sketch)] + sketch.to_bytes()


def bucket_row(
    key: BucketKey, shard: int, state: Partial, estimate: int | None, now: int
) -> tuple[object, ...]:
    """The row in its columns' order; `estimate` is what the sketch says."""
    latest = state.latest or (None, None, None)
    return (
        key.series_id,
        key.resolution,
        key.start,
        shard,
        state.seen,
        state.last_time,
        state.count,
        state.sum,
        state.min,
        state.max,
        *latest,
        state.sum_squares,
        state.top_count,
        estimate,
        now,
        # whom it is about is asked of days alone: blocks are made of them
        state.subjects.to_bytes() if state.subjects and key.resolution == "1d" else None,
        sketch_bytes(state.sketch),
    )
