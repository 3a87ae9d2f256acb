"""A running door with a log in memory, for every test that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ingest.running import MemoryWriter, Service, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def writer() -> MemoryWriter:
    """The log that `service` writes."""
    return MemoryWriter()


@pytest.fixture
async def service(writer: MemoryWriter) -> AsyncIterator[Service]:
    """A running door with the limits of the contract."""
    async with running(writer) as service:
        yield service
