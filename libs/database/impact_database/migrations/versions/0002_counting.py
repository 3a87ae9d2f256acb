"""What counting keeps besides: sums of squares and top boxes; and what catalogs say beside metrics."""

import sqlalchemy as sa
from alembic import op

from impact_schemas.tables import Exact, ExactSquare

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds columns to `bucket`, and the tables of needs, bets, risks, stakeholders and factors."""
    op.add_column("bucket", sa.Column("sum_squares", ExactSquare()))
    op.add_column("bucket", sa.Column("top_count", sa.BigInteger()))
    op.create_table(
        "need",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("need", sa.String(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("people", sa.BigInteger()),
        sa.Column("source", sa.Text()),
        sa.PrimaryKeyConstraint("product", "need"),
    )
    op.create_table(
        "bet",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("bet", sa.String(), nullable=False),
        sa.Column("title", sa.Text()),
        sa.Column("need", sa.String(), nullable=False),
        sa.Column("hypothesis", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text()),
        sa.Column("launched", sa.Date()),
        sa.Column("cost", Exact()),
        sa.Column("cost_unit", sa.String()),
        sa.Column("business_metric", sa.String()),
        sa.Column("expects", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("product", "bet"),
    )
    op.create_table(
        "risk",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("risk", sa.String(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("who", sa.Text()),
        sa.Column("metric", sa.String()),
        sa.Column("review_every_days", sa.Integer()),
        sa.Column("reviewed", sa.Date()),
        sa.Column("owner", sa.Text()),
        sa.PrimaryKeyConstraint("product", "risk"),
    )
    op.create_table(
        "stakeholder",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("stakeholder", sa.String(), nullable=False),
        sa.Column("title", sa.Text()),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("product", "stakeholder"),
    )
    op.create_table(
        "factor_value",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("factor", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("value", Exact(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.PrimaryKeyConstraint("product", "factor", "version", "key"),
    )
