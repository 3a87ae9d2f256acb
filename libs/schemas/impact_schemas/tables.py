"""The metrics database's tables. Analysts read the views (`impact_schemas.views`); these are the store's own.

Times are `Instant` (microseconds since 1970, UTC) and numbers `Exact` (integers of 10^-9) on the Python
side; in SQL they are TIMESTAMPTZ and NUMERIC on PostgreSQL, sortable UTC text and decimal text on SQLite.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from impact_schemas import numbers

if TYPE_CHECKING:
    from sqlalchemy import Dialect
    from sqlalchemy.types import TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_datetime(micros: int) -> datetime:
    """The UTC datetime of `micros` microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=1 << 14)  # bucket starts are few, and met again and again
def _to_text(micros: int) -> str:
    return to_datetime(micros).replace(tzinfo=None).isoformat(" ")


@lru_cache(maxsize=1 << 14)
def _from_text(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


class Instant(TypeDecorator[int]):
    """A moment in microseconds since 1970, UTC."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite gets text in the form of its own date functions, which sorts by time."""
        kind = String() if dialect.name == "sqlite" else DateTime(timezone=True)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> datetime | str | None:
        """Microseconds to what the driver takes."""
        if value is None:
            return None
        return _to_text(value) if dialect.name == "sqlite" else to_datetime(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 (fixed by SQLAlchemy)
        """What the driver gives to microseconds."""
        if value is None:
            return None
        return _from_text(value) if isinstance(value, str) else to_micros(value)


class Exact(TypeDecorator[int]):
    """A number in units of 10^-9, never through a float."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite has no exact numbers: decimal text there, always with nine decimals."""
        kind = String() if dialect.name == "sqlite" else Numeric(38, numbers.SCALE)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | str | None:
        """Nanos to what the driver takes."""
        if value is None:
            return None
        return numbers.to_text(value) if dialect.name == "sqlite" else numbers.from_nanos(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 (fixed by SQLAlchemy)
        """What the driver gives to nanos."""
        if value is None:
            return None
        if isinstance(value, str):
            return int(value.replace(".", ""))  # nine decimals: the digits are the nanos
        return int(Decimal(value).scaleb(numbers.SCALE, numbers.EXACT))


metadata = MetaData()

_row_id = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself there

# --- what is counted: catalog, products, metrics ------------------------------------------------------

catalog_state = Table(
    "catalog_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row: 1
    Column("generation", Integer, nullable=False),
    Column("hash", String, nullable=False),
    Column("activated_at", Instant, nullable=False),
)

product = Table(
    "product",
    metadata,
    Column("product", String, primary_key=True),
    Column("title", Text, nullable=False),
    Column("statement", Text),
    Column("beneficiaries", Text),
    Column("north_star", String),
    Column("active", Boolean, nullable=False),
)

metric_version = Table(
    "metric_version",
    metadata,
    Column("product", String, primary_key=True),
    Column("metric", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("counting_hash", String, nullable=False),  # of what decides its numbers: a new one, a new version
    Column("active", Boolean, nullable=False),
    Column("title", Text, nullable=False),
    Column("unit", String, nullable=False),
    Column("quantity", String),
    Column("role", String, nullable=False),
    Column("level", String),
    Column("direction", String, nullable=False),
    Column("aggregate", String, nullable=False),  # 'ratio' for a ratio
    Column("evidence", String, nullable=False),
    Column("method", Text),
    Column("source", Text),
    Column("owner", Text),
    Column("sdg", Text),  # JSON array
    Column("iris", Text),  # JSON array
    Column("min_cell", Integer),
    Column("definition", Text, nullable=False),  # JSON
)

series = Table(
    "series",
    metadata,
    # a hash of the rest: every aggregator and every rebuild gives a series the same id without asking
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("product", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("segment", Text, nullable=False),  # JSON with sorted keys
    UniqueConstraint("product", "metric", "version", "segment"),
)

# --- numbers ------------------------------------------------------------------------------------------

bucket = Table(
    "bucket",
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("resolution", String, primary_key=True),  # 1m, 1h, 1d, all
    Column("bucket_start", Instant, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),  # the partition: one writer a row
    Column("seen", BigInteger, nullable=False),  # events of the metric's types; kept on the total's rows
    Column("last_time", Instant),  # the latest of them
    Column("count", BigInteger, nullable=False),
    Column("sum", Exact),
    Column("min", Exact),
    Column("max", Exact),
    Column("latest_time", Instant),
    Column("latest_tiebreak", LargeBinary),  # of equal times the greater identity is the latest
    Column("latest_value", Exact),
    Column("estimate", Exact),  # what the sketch says for this shard alone
    Column("updated_at", Instant, nullable=False),
    Column("sketch", LargeBinary),  # last: on SQLite what stands behind a large value is slow to reach
    # Which series have a bucket at a time. Partial: they cannot serve a look-up by key, for which PostgreSQL
    # would take an index of (resolution, bucket_start) whenever its statistics are older than the rows.
    *(
        Index(
            f"bucket_{resolution}_by_time",
            "bucket_start",
            postgresql_where=text(f"resolution = '{resolution}'"),
            sqlite_where=text(f"resolution = '{resolution}'"),
        )
        for resolution in ("1m", "1h", "1d")
    ),
    sqlite_with_rowid=False,
)

merged_estimate = Table(
    "merged_estimate",  # of a sketch over all shards: estimates cannot be added
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("resolution", String, primary_key=True),
    Column("bucket_start", Instant, primary_key=True),
    Column("estimate", Exact, nullable=False),
    sqlite_with_rowid=False,
)

rolling_value = Table(
    "rolling_value",
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("time_window", String, primary_key=True),
    Column("value", Exact),
    Column("n", BigInteger),
    Column("status", String, nullable=False),
    Column("changed_at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

rolling_day = Table(
    "rolling_day",  # the rolling values as they stood at the end of each day
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("time_window", String, primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("value", Exact),
    Column("n", BigInteger),
    Column("status", String, nullable=False),
    sqlite_with_rowid=False,
)

period_value = Table(
    "period_value",  # calendar months, quarters and years
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("period", String, primary_key=True),
    Column("starts_at", Instant, primary_key=True),
    Column("ends_at", Instant, nullable=False),
    Column("value", Exact),
    Column("n", BigInteger),
    Column("status", String, nullable=False),
    Column("changed_at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

metric_revision = Table(
    "metric_revision",  # day buckets that changed after their day
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
    Column("resolution", String, nullable=False),
    Column("bucket_start", Instant, nullable=False),
    Column("reported_at", Instant, nullable=False),
    Column("old_value", Exact),
    Column("new_value", Exact),  # null: that of the next revision, or what the bucket holds now
    Column("reason", String, nullable=False),
    Column("caused_by", Text),
    Index("metric_revision_of", "series_id", "bucket_start"),
)

window_position = Table(
    "window_position",  # where each window stands as of the last tick
    metadata,
    Column("time_window", String, primary_key=True),
    Column("window_start", Instant),  # null: all time
    Column("as_of", Instant, nullable=False),
)

changed_series = Table(
    "changed_series",  # written by the fold, read and deleted by the tick
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
)

changed_day = Table(
    "changed_day",  # the same, for calendar periods: which day buckets changed
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
    Column("day", Instant, nullable=False),
)

changed_sketch = Table(
    "changed_sketch",  # the same, for buckets whose shards must be merged
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
    Column("resolution", String, nullable=False),
    Column("bucket_start", Instant, nullable=False),
)

# --- exactly once -------------------------------------------------------------------------------------

claim = Table(
    "claim",
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("log_id", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

leader = Table(
    "leader",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row: 1
    Column("holder", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

event_identity = Table(
    "event_identity",
    metadata,
    Column("identity", LargeBinary, primary_key=True),
    Column("digest", BigInteger, nullable=False),  # of the content: tells a resend from a conflict
    # where its first copy stands in the log of events
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),  # index within the record
    sqlite_with_rowid=False,
)

amendment = Table(
    "amendment",  # retractions and corrections, one row each, whether or not their target has come yet
    metadata,
    Column("target", LargeBinary, primary_key=True),  # the identity of the event that it speaks of
    Column("identity", LargeBinary, primary_key=True),  # its own
    Column("product", String, nullable=False),
    Column("kind", String, nullable=False),  # retraction or correction
    Column("time", Instant, nullable=False),  # of several corrections the greatest (time, event_id) holds
    Column("event_id", Text, nullable=False),
    Column("event", Text, nullable=False),  # the whole amendment as JSON
    Column("received_at", Instant, nullable=False),
    Column("topic", String, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    sqlite_with_rowid=False,
)

log_index = Table(
    "log_index",  # where in the log events of a time are to be found again
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),
    Column("least_time", Instant, nullable=False),
    Column("greatest_time", Instant, nullable=False),
    sqlite_with_rowid=False,
)

ledger_count = Table(
    "ledger_count",
    metadata,
    Column("product", String, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("counted", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("product", String, nullable=False),
    Column("code", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("pointer", Text),
    Column("received_at", Instant, nullable=False),
    Column("event_id", Text),
    Column("event_source", Text),
    Column("event_type", Text),
    Column("payload", Text),
    Column("replayed_at", Instant),
    Index("quarantine_by_time", "product", "received_at"),
    Index("quarantine_by_event", "product", "event_id"),
)

log_hole = Table(
    "log_hole",
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("found_at", Instant, nullable=False),
)

# --- access -------------------------------------------------------------------------------------------

api_key = Table(
    "api_key",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("product", String, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),  # SHA-256 of 256 random bits
    Column("scopes", String, nullable=False),  # space separated
    Column("label", Text),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
)
