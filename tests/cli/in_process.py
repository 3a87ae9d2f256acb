"""Commands in this process, which is twenty times quicker than in one of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from impact_cli.main import app

if TYPE_CHECKING:
    from typer.testing import Result


def impact(*arguments: str, **settings: str) -> Result:
    """One command to its end, without the settings that a developer has."""
    unset = {name: None for name in os.environ if name.startswith("IMPACT_")}
    runner = CliRunner(env={**unset, "COLUMNS": "200", **settings})
    return runner.invoke(app, arguments, catch_exceptions=False)
