"""How buckets are looked up and which of them changed; by what metrics are split."""

import sqlalchemy as sa
from alembic import op

from impact_schemas.tables import Instant

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """An index by time for each resolution in place of one for all; changes name their buckets."""
    op.add_column("changed_series", sa.Column("resolution", sa.String()))
    op.add_column("changed_series", sa.Column("bucket_start", Instant()))
    op.execute(
        "INSERT INTO changed_series (series_id, resolution, bucket_start)"
        " SELECT series_id, resolution, bucket_start FROM changed_sketch"
    )
    op.drop_table("changed_sketch")
    op.drop_index("bucket_by_time", "bucket")
    for resolution in ("1m", "1h", "1d"):
        condition = sa.text(f"resolution = '{resolution}'")
        name = f"bucket_{resolution}_by_time"
        op.create_index(name, "bucket", ["bucket_start"], postgresql_where=condition, sqlite_where=condition)
    op.create_table(
        "metric_dimension",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("dimension", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("product", "metric", "dimension"),
        sqlite_with_rowid=False,
    )
    op.execute("UPDATE catalog_state SET hash = ''")  # the next start writes the catalog again
