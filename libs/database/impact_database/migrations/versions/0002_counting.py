"""What counting keeps besides: units, factors, arms and sums of squares."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Nothing yet."""
