"""What came through each feature."""

import sqlalchemy as sa
from alembic import op

from impact_schemas.tables import Exact

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """A table of the mission layer."""
    op.create_table(
        "feature_result",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("time_window", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("value", Exact()),
        sa.Column("n", sa.BigInteger()),
        sa.Column("share", Exact()),
        sa.Column("change", Exact()),
        sa.Column("rest_value", Exact()),
        sa.Column("rest_n", sa.BigInteger()),
        sa.Column("difference", Exact()),
        sa.Column("ci_low", Exact()),
        sa.Column("ci_high", Exact()),
        sa.Column("method", sa.String()),
        sa.Column("status", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("product", "metric", "time_window", "feature"),
        sqlite_with_rowid=False,
    )
