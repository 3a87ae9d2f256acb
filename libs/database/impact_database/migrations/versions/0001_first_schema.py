"""The first schema."""

import sqlalchemy as sa
from alembic import op

from impact_schemas.tables import Exact, Instant

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "amendment",
        sa.Column("target", sa.LargeBinary(), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("time", Instant(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("target", "identity"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_table(
        "bucket",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resolution", sa.String(), nullable=False),
        sa.Column("bucket_start", Instant(), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("last_time", Instant(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("sum", Exact(), nullable=True),
        sa.Column("min", Exact(), nullable=True),
        sa.Column("max", Exact(), nullable=True),
        sa.Column("latest_time", Instant(), nullable=True),
        sa.Column("latest_tiebreak", sa.LargeBinary(), nullable=True),
        sa.Column("latest_value", Exact(), nullable=True),
        sa.Column("estimate", Exact(), nullable=True),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("series_id", "resolution", "bucket_start", "shard"),
        sqlite_with_rowid=False,
    )
    op.create_index("bucket_by_time", "bucket", ["resolution", "bucket_start"], unique=False)
    op.create_table(
        "catalog_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("activated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "changed_day",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("day", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "changed_series",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "changed_sketch",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("resolution", sa.String(), nullable=False),
        sa.Column("bucket_start", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "claim",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition"),
    )
    op.create_table(
        "event_identity",
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.BigInteger(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("identity"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "ledger_count",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("product", "topic", "partition"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_hole",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_offset", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "first_offset"),
    )
    op.create_table(
        "log_index",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("least_time", Instant(), nullable=False),
        sa.Column("greatest_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "first_offset"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "merged_estimate",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resolution", sa.String(), nullable=False),
        sa.Column("bucket_start", Instant(), nullable=False),
        sa.Column("estimate", Exact(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "resolution", "bucket_start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_revision",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("resolution", sa.String(), nullable=False),
        sa.Column("bucket_start", Instant(), nullable=False),
        sa.Column("reported_at", Instant(), nullable=False),
        sa.Column("old_value", Exact(), nullable=True),
        sa.Column("new_value", Exact(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("caused_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("metric_revision_of", "metric_revision", ["series_id", "bucket_start"], unique=False)
    op.create_table(
        "metric_version",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("counting_hash", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("quantity", sa.String(), nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=True),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("aggregate", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("method", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("sdg", sa.Text(), nullable=True),
        sa.Column("iris", sa.Text(), nullable=True),
        sa.Column("min_cell", sa.Integer(), nullable=True),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("product", "metric", "version"),
    )
    op.create_table(
        "period_value",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("starts_at", Instant(), nullable=False),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.Column("value", Exact(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "period", "starts_at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "product",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=True),
        sa.Column("beneficiaries", sa.Text(), nullable=True),
        sa.Column("north_star", sa.String(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("product"),
    )
    op.create_table(
        "quarantine",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("pointer", sa.Text(), nullable=True),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("event_source", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("replayed_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", "position"),
    )
    op.create_index("quarantine_by_event", "quarantine", ["product", "event_id"], unique=False)
    op.create_index("quarantine_by_time", "quarantine", ["product", "received_at"], unique=False)
    op.create_table(
        "rolling_day",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time_window", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("value", Exact(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "time_window", "at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rolling_value",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time_window", sa.String(), nullable=False),
        sa.Column("value", Exact(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "time_window"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "series",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("series_id"),
        sa.UniqueConstraint("product", "metric", "version", "segment"),
    )
    op.create_table(
        "window_position",
        sa.Column("time_window", sa.String(), nullable=False),
        sa.Column("window_start", Instant(), nullable=True),
        sa.Column("as_of", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("time_window"),
    )
    # one row each, there from the start: who wants to change them locks them by an UPDATE
    op.execute(
        "INSERT INTO catalog_state (id, generation, hash, activated_at)"
        " VALUES (1, 0, '', '1970-01-01 00:00:00')"
    )
    op.execute("INSERT INTO leader (id, holder, epoch, expires_at) VALUES (1, '', 0, '1970-01-01 00:00:00')")
