"""Protected metrics: what was published of each closed block."""

import sqlalchemy as sa
from alembic import op

from impact_schemas.tables import Exact, ExactSquare, Instant

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the blocks of protected metrics, and whom their buckets are about."""
    op.add_column("metric_version", sa.Column("block", sa.String()))
    op.add_column("bucket", sa.Column("subjects", sa.LargeBinary()))
    op.add_column("rolling_value", sa.Column("hidden_blocks", sa.Integer()))
    op.add_column("rolling_value", sa.Column("window_start", Instant()))
    op.add_column("rolling_value", sa.Column("window_end", Instant()))
    op.add_column("period_value", sa.Column("hidden_blocks", sa.Integer()))
    op.create_table(
        "block_cell",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_start", Instant(), nullable=False),
        sa.Column("is_hidden", sa.Boolean(), nullable=False),
        sa.Column("is_restated", sa.Boolean(), nullable=False),
        sa.Column("decided_at", Instant(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("sum", Exact()),
        sa.Column("sum_squares", ExactSquare()),
        sa.Column("top_count", sa.BigInteger()),
        sa.Column("value", Exact()),
        sa.Column("sketch", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("series_id", "block_start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "block_account",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_start", Instant(), nullable=False),
        sa.Column("changed_at", Instant()),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("sum", Exact()),
        sa.Column("sum_squares", ExactSquare()),
        sa.Column("top_count", sa.BigInteger()),
        sa.Column("subjects", sa.LargeBinary()),
        sa.Column("sketch", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("series_id", "block_start"),
        sqlite_with_rowid=False,
    )
