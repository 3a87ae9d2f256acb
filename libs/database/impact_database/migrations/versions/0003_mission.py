"""What the numbers mean: targets, gaps, pairs, violations, bets."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Nothing yet."""
