"""The metrics database's tables. Analysts read the views (`impact_schemas.views`); these are the store's own.

Times are `Instant` (microseconds since 1970, UTC) and numbers `Exact` (integers of 10^-9) on the Python
side; in SQL they are TIMESTAMPTZ and NUMERIC on PostgreSQL, sortable UTC text and decimal text on SQLite.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
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
        exact = value if isinstance(value, Decimal) else Decimal(value)
        return int(exact.scaleb(numbers.SCALE, numbers.EXACT))


class ExactSquare(TypeDecorator[int]):
    """A number in units of 10^-18, never through a float: what the squares of `Exact` numbers add up to."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite has no exact numbers: decimal text there, always with eighteen decimals."""
        kind = String() if dialect.name == "sqlite" else Numeric()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | str | None:
        """Units of 10^-18 to what the driver takes."""
        if value is None:
            return None
        exact = Decimal(value).scaleb(-2 * numbers.SCALE, numbers.EXACT)
        return f"{exact:.18f}" if dialect.name == "sqlite" else exact

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 (fixed by SQLAlchemy)
        """What the driver gives to units of 10^-18."""
        if value is None:
            return None
        return int(Decimal(value).scaleb(2 * numbers.SCALE, numbers.EXACT))


class Day(TypeDecorator[date]):
    """A day of the calendar."""

    impl = Date
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite gets text like 2026-12-31, which sorts by time."""
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else Date())

    def process_bind_param(self, value: date | None, dialect: Dialect) -> date | str | None:
        """A day to what the driver takes."""
        return value.isoformat() if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> date | None:  # noqa: ARG002 (fixed by SQLAlchemy)
        """What the driver gives to a day."""
        return date.fromisoformat(value) if isinstance(value, str) else value


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
    Column("aggregate", String, nullable=False),  # of one made of others: ratio, difference, sum_of
    Column("evidence", String, nullable=False),
    Column("method", Text),
    Column("source", Text),
    Column("owner", Text),
    Column("sdg", Text),  # JSON array
    Column("iris", Text),  # JSON array
    Column("min_cell", Integer),  # of protected metrics, with the grid on which they are published
    Column("definition", Text, nullable=False),  # JSON
    Column("block", String),  # day, week or month
)

# What the catalogs in force say beside metrics: rows are made anew whenever a catalog becomes active.

need = Table(
    "need",
    metadata,
    Column("product", String, primary_key=True),
    Column("need", String, primary_key=True),
    Column("statement", Text, nullable=False),
    Column("people", BigInteger),
    Column("source", Text),
)

bet = Table(
    "bet",
    metadata,
    Column("product", String, primary_key=True),
    Column("bet", String, primary_key=True),
    Column("title", Text),
    Column("need", String, nullable=False),
    Column("hypothesis", Text, nullable=False),
    Column("feature", Text),
    Column("launched", Date),
    Column("cost", Exact),
    Column("cost_unit", String),
    Column("business_metric", String),
    Column("expects", Text, nullable=False),  # JSON array of {metric, segment, change, by}
)

risk = Table(
    "risk",
    metadata,
    Column("product", String, primary_key=True),
    Column("risk", String, primary_key=True),
    Column("statement", Text, nullable=False),
    Column("who", Text),
    Column("metric", String),
    Column("review_every_days", Integer),
    Column("reviewed", Date),
    Column("owner", Text),
)

stakeholder = Table(
    "stakeholder",
    metadata,
    Column("product", String, primary_key=True),
    Column("stakeholder", String, primary_key=True),
    Column("title", Text),
    Column("audience", String, nullable=False),
    Column("metrics", Text, nullable=False),  # JSON array
    Column("period", String, nullable=False),
)

factor_value = Table(
    "factor_value",
    metadata,
    Column("product", String, primary_key=True),
    Column("factor", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("key", String, primary_key=True),  # empty: a set without keys
    Column("valid_from", Date, nullable=False),
    Column("value", Exact, nullable=False),
    Column("unit", String, nullable=False),
    Column("source", Text),
)

metric_dimension = Table(
    "metric_dimension",  # by what the metrics in force are split: the columns of their typed views
    metadata,
    Column("product", String, primary_key=True),
    Column("metric", String, primary_key=True),
    Column("dimension", String, primary_key=True),
    Column("position", Integer, nullable=False),
    sqlite_with_rowid=False,
)

import_form = Table(
    "import_form",  # files that partners send: how their rows become events
    metadata,
    Column("product", String, primary_key=True),
    Column("form", String, primary_key=True),
    Column("title", Text, nullable=False),
    Column("definition", Text, nullable=False),  # JSON: see impact_schemas.partner_template
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
    Column("sum_squares", ExactSquare),  # of the values; kept where a spread is asked for
    Column("top_count", BigInteger),  # scores in the top box; null: the metric has none
    Column("estimate", Exact),  # what the sketch says for this shard alone
    Column("updated_at", Instant, nullable=False),
    Column("subjects", LargeBinary),  # a sketch of whom a day of a protected metric is about
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
    # of a protected metric: the closed blocks that the window is made of
    Column("hidden_blocks", Integer),
    Column("window_start", Instant),
    Column("window_end", Instant),
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
    Column("hidden_blocks", Integer),
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
    "changed_series",  # written by the fold, read and deleted by the tick: which buckets changed
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
    Column("resolution", String),  # null: all of the series
    Column("bucket_start", Instant),
)

changed_day = Table(
    "changed_day",  # the same, for calendar periods: which day buckets changed
    metadata,
    Column("id", _row_id, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
    Column("day", Instant, nullable=False),
)

trend_day = Table(
    "trend_day",  # each window's value at the end of each day, as known now: late events correct it
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("time_window", String, primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("value", Exact),
    Column("n", BigInteger),
    Column("status", String, nullable=False),
    sqlite_with_rowid=False,
)

# --- what the numbers mean: written by the leader, each table a view ----------------------------------


def _meaning(name: str, keys: tuple[str, ...], *columns: Column[Any]) -> Table:
    """A table with text keys, its product first."""
    key = [Column(one, String, primary_key=True) for one in ("product", *keys)]
    return Table(name, metadata, *key, *columns, sqlite_with_rowid=False)


target_state = _meaning(
    "target_state",
    ("metric", "time_window", "segment"),
    Column("due", Day, primary_key=True),
    Column("baseline", Exact),
    Column("baseline_at", Day),
    Column("target", Exact, nullable=False),
    Column("value", Exact),
    Column("expected_now", Exact),
    Column("forecast", Exact),
    Column("forecast_low", Exact),
    Column("forecast_high", Exact),
    Column("trend_days", Integer, nullable=False),
    Column("progress", Exact),
    Column("status", String, nullable=False),
)

equity_gap = _meaning(
    "equity_gap",
    ("metric", "time_window", "dimension", "segment"),
    Column("reference_segment", String, nullable=False),
    Column("reference_value", Exact),
    Column("value", Exact),
    Column("gap", Exact),
    Column("ratio", Exact),
    Column("reference_n", BigInteger),
    Column("n", BigInteger),
    Column("ci_low", Exact),
    Column("ci_high", Exact),
    Column("status", String, nullable=False),
    Column("standing", String),
)

population_share = _meaning(
    "population_share",
    ("metric", "time_window", "dimension", "segment"),
    Column("value", Exact),
    Column("population", BigInteger, nullable=False),
    Column("share", Exact),
)

arm_contribution = _meaning(
    "arm_contribution",
    ("metric", "time_window", "segment", "arm"),
    Column("control", String, nullable=False),
    Column("value", Exact),
    Column("control_value", Exact),
    Column("difference", Exact),
    Column("ci_low", Exact),
    Column("ci_high", Exact),
    Column("n", BigInteger),
    Column("n_control", BigInteger),
    Column("method", String),
    Column("status", String, nullable=False),
)

feature_result = _meaning(
    "feature_result",
    ("metric", "time_window", "feature"),
    Column("value", Exact),
    Column("n", BigInteger),
    Column("share", Exact),
    Column("change", Exact),
    Column("rest_value", Exact),
    Column("rest_n", BigInteger),
    Column("difference", Exact),
    Column("ci_low", Exact),
    Column("ci_high", Exact),
    Column("method", String),
    Column("status", String, nullable=False),
)

net_value = _meaning(
    "net_value",
    ("metric", "time_window", "segment"),
    Column("gross", Exact),
    Column("net", Exact),
    Column("deadweight", Exact, nullable=False),
    Column("attribution", Exact, nullable=False),
    Column("displacement", Exact, nullable=False),
    Column("drop_off", Exact, nullable=False),
    Column("source", Text),
)

value_interval = _meaning(
    "value_interval",
    ("metric", "time_window", "segment"),
    Column("value", Exact),
    Column("ci_low", Exact),
    Column("ci_high", Exact),
    Column("n", BigInteger),
    Column("top_box_share", Exact),
)

dimension_coverage = _meaning(
    "dimension_coverage",
    ("metric", "dimension"),
    Column("known", BigInteger),
    Column("unknown", BigInteger),
    Column("share_unknown", Exact),
)

value_pair = _meaning(
    "value_pair",
    ("impact_metric", "business_metric", "time_window"),
    Column("impact_value", Exact),
    Column("business_value", Exact),
    Column("impact_per_business", Exact),
    Column("impact_change", Exact),
    Column("business_change", Exact),
    Column("diverges", Boolean),
    Column("both_up", Boolean),
)

violation = _meaning(
    "violation",
    ("rule", "metric", "segment"),
    Column("since", Instant, primary_key=True),
    Column("kind", String, nullable=False),
    Column("time_window", String),
    Column("until", Instant),
    Column("observed", Exact),
    Column("expected", Exact),
    Column("detail", Text, nullable=False),
    Column("severity", String, nullable=False),
)

metric_record = _meaning(
    "metric_record",
    ("metric", "time_window"),
    Column("best", Exact, nullable=False),
    Column("best_at", Instant, nullable=False),
)

benchmark = _meaning(
    "benchmark",
    ("metric", "label"),
    Column("benchmark", Exact, nullable=False),
    Column("unit", String),
    Column("source", Text),
    Column("year", Integer),
    Column("time_window", String, nullable=False),
    Column("value", Exact),
    Column("ratio", Exact),
)

bet_result = _meaning(
    "bet_result",
    ("bet", "metric", "segment"),
    Column("by", Day, primary_key=True),
    Column("need", String),
    Column("expected", Exact, nullable=False),
    Column("measured", Exact),
    Column("ci_low", Exact),
    Column("ci_high", Exact),
    Column("method", String),
    Column("evidence", String),
    Column("business_metric", String),
    Column("business_change", Exact),
    Column("quadrant", String),
    Column("status", String, nullable=False),
)

MEANINGS: tuple[Table, ...] = (
    target_state,
    equity_gap,
    population_share,
    arm_contribution,
    feature_result,
    net_value,
    value_interval,
    dimension_coverage,
    value_pair,
    violation,
    metric_record,
    benchmark,
    bet_result,
)

annotation = Table(
    "annotation",  # what happened beside the numbers; written by the fold
    metadata,
    Column("identity", LargeBinary, primary_key=True),
    Column("product", String, nullable=False),
    Column("at", Instant, nullable=False),
    Column("kind", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("url", Text),
    Column("metrics", Text, nullable=False),  # JSON array
    Column("bet", String),
    Column("event_id", Text, nullable=False),
    sqlite_with_rowid=False,
)

# --- protected metrics: what is published of closed blocks, frozen -------------------------------------

block_cell = Table(
    "block_cell",  # a series in a block, as it was decided once; of the total every block has one
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("block_start", Instant, primary_key=True),
    Column("is_hidden", Boolean, nullable=False),
    Column("is_restated", Boolean, nullable=False),  # holds what came late for blocks before it
    Column("decided_at", Instant, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("sum", Exact),
    Column("sum_squares", ExactSquare),
    Column("top_count", BigInteger),
    Column("value", Exact),  # of the block alone
    Column("sketch", LargeBinary),
    sqlite_with_rowid=False,
)

block_account = Table(
    "block_account",  # what a block held when it was last looked at: what is more goes into a later block
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("block_start", Instant, primary_key=True),
    Column("changed_at", Instant),  # when its buckets had last changed
    Column("seen", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("sum", Exact),
    Column("sum_squares", ExactSquare),
    Column("top_count", BigInteger),
    Column("subjects", LargeBinary),
    Column("sketch", LargeBinary),
    sqlite_with_rowid=False,
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

# --- what partners sent over the pages: nothing personal is in it ------------------------------------

import_run = Table(
    "import_run",
    metadata,
    Column("importid", String, primary_key=True),
    Column("product", String, nullable=False),
    Column("form", String, nullable=False),
    Column("source", String, nullable=False),
    Column("kind", String, nullable=False),  # send, undo
    Column("file", Text, nullable=False),  # its name; of an undo: the import that it takes back
    Column("digest", String, nullable=False),  # SHA-256 of the file
    Column("key_id", String, nullable=False),  # the key that approved it
    Column("stamp_time", String, nullable=False),  # of its corrections, RFC 3339
    Column("state", String, nullable=False),  # running, interrupted, done
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),  # when the process that sends it was last heard of
    Column("unchanged", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("wrong", Text, nullable=False),  # JSON array of [line, column] that were not sent
    Index("import_run_by_time", "product", "started_at"),
    # one at a time: two would not know of each other's rows
    Index(
        "import_run_running",
        "product",
        "source",
        unique=True,
        postgresql_where=text("state = 'running'"),
        sqlite_where=text("state = 'running'"),
    ),
)

import_row = Table(
    "import_row",  # what was sent of a row last
    metadata,
    Column("product", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("row_id", String, primary_key=True),  # the id of its first event, which follows from its key
    Column("row_key", Text, nullable=False),  # JSON array; null in place of a cell that the log does not keep
    Column("generation", Integer, nullable=False),
    Column("event_id", String, nullable=False),  # of the event that holds now
    Column("content", Text),  # JSON, with pseudonyms of its own; null: taken back
    Column("importid", String, nullable=False),
)

import_step = Table(
    "import_step",  # what an import did to one row
    metadata,
    Column("importid", String, primary_key=True),
    Column("row_id", String, primary_key=True),
    Column("row_key", Text, nullable=False),
    Column("action", String, nullable=False),  # new, changed, retracted
    Column("generation", Integer, nullable=False),  # after it
    Column("event_id", String, nullable=False),  # after it
    Column("before", Text),
    Column("after", Text),
    Column("before_known", Boolean, nullable=False),
    Column("state", String, nullable=False),  # waiting, accepted, rejected
    Column("problem", Text),
    Index("import_step_by_row", "row_id"),
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
