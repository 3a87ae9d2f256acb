"""Partners' files on the pages: how they are read, and what was sent of them."""

import sqlalchemy as sa
from alembic import op

from impact_schemas.tables import Instant

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the forms of the catalogs, and a journal without anything personal."""
    op.create_table(
        "import_form",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("product", "form"),
    )
    op.create_table(
        "import_run",
        sa.Column("importid", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("stamp_time", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("wrong", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("importid"),
    )
    op.create_index("import_run_by_time", "import_run", ["product", "started_at"])
    running = sa.text("state = 'running'")
    op.create_index(
        "import_run_running",
        "import_run",
        ["product", "source"],
        unique=True,
        postgresql_where=running,
        sqlite_where=running,
    )
    op.create_table(
        "import_row",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("row_id", sa.String(), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("content", sa.Text()),
        sa.Column("importid", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("product", "source", "row_id"),
    )
    op.create_table(
        "import_step",
        sa.Column("importid", sa.String(), nullable=False),
        sa.Column("row_id", sa.String(), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("before_known", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("problem", sa.Text()),
        sa.PrimaryKeyConstraint("importid", "row_id"),
    )
    op.create_index("import_step_by_row", "import_step", ["row_id"])
    op.execute("UPDATE catalog_state SET hash = ''")  # the next start writes the catalog again
