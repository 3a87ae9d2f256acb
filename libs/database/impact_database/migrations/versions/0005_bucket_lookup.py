"""How buckets are looked up."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """An index by time for each resolution in place of one for all."""
    op.drop_index("bucket_by_time", "bucket")
    for resolution in ("1m", "1h", "1d"):
        condition = sa.text(f"resolution = '{resolution}'")
        name = f"bucket_{resolution}_by_time"
        op.create_index(name, "bucket", ["bucket_start"], postgresql_where=condition, sqlite_where=condition)
