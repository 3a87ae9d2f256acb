"""Opens the metrics database for a command that works on its tables."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from impact_database.engine import connect
from impact_database.migrate import check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_cli.settings import Settings


@asynccontextmanager
async def migrated(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Raises SettingsError without a URL, SchemaOutOfDate."""
    engine = connect(settings.required_database_url())
    try:
        await check(engine)
        yield engine
    finally:
        await engine.dispose()
