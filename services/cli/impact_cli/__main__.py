"""`python -m impact_cli` is the command `impact`."""

from impact_cli.main import app

app()
