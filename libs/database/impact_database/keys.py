"""API keys in SQL, and the door's view of them in memory."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from impact_database.engine import durable, read_only
from impact_schemas.keys import RANDOM_BYTES, SCOPES, ApiKey, make_key
from impact_schemas.tables import api_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger()

REFRESH_S = 30.0  # a revoked key is refused after this at the latest
MIN_SPACING_S = 0.2  # between two loads: what a flood of unknown keys may cost the database
MISS_WAIT_S = 2.0  # how long a request with an unknown key waits for a slow database


def _now() -> int:
    return time.time_ns() // 1000


async def create_key(
    engine: AsyncEngine,
    product: str,
    scopes: Collection[str] = ("write",),
    *,
    label: str | None = None,
    expires_at: int | None = None,
) -> tuple[str, ApiKey]:
    """Makes and stores a key; the text is only in this answer. Raises ValueError for an unknown scope."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ValueError(f"unknown scopes {unknown}: choose from {', '.join(SCOPES)}")
    text, key_id, secret_hash = make_key(secrets.token_bytes(RANDOM_BYTES))
    key = ApiKey(key_id, product, secret_hash, frozenset(scopes), label, _now(), expires_at)
    async with durable(engine).begin() as connection:
        await connection.execute(
            insert(api_key).values(
                key_id=key_id,
                product=product,
                secret_hash=secret_hash,
                scopes=" ".join(sorted(scopes)),
                label=label,
                created_at=key.created_at,
                expires_at=expires_at,
            )
        )
    return text, key


async def list_keys(engine: AsyncEngine, product: str | None = None) -> list[ApiKey]:
    """All keys, the revoked too, oldest first."""
    query = select(api_key).order_by(api_key.c.created_at, api_key.c.key_id)
    if product is not None:
        query = query.where(api_key.c.product == product)
    return await _fetch(engine, query)


async def active_keys(engine: AsyncEngine) -> list[ApiKey]:
    """Keys that are not revoked; expiry is left to whoever checks a key."""
    return await _fetch(engine, select(api_key).where(api_key.c.revoked_at.is_(None)))


async def revoke_key(engine: AsyncEngine, key_id: str) -> bool:
    """False if there is no such key, or it was revoked before."""
    async with durable(engine).begin() as connection:  # a power cut must not open a door again
        result = await connection.execute(
            update(api_key)
            .where(api_key.c.key_id == key_id, api_key.c.revoked_at.is_(None))
            .values(revoked_at=_now())
        )
    return result.rowcount == 1


async def _fetch(engine: AsyncEngine, query: Select[Any]) -> list[ApiKey]:
    async with read_only(engine).connect() as connection:
        return [_to_key(row) for row in await connection.execute(query)]


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.key_id,
        row.product,
        row.secret_hash,
        frozenset(row.scopes.split()),
        row.label,
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )


class SqlKeyStore:
    """All active keys in memory, loaded again every `refresh_s` and when an unknown key shows up.

    While the database is down the keys that were known stay valid.
    """

    def __init__(self, engine: AsyncEngine, refresh_s: float = REFRESH_S) -> None:
        self._engine = engine
        self._refresh_s = refresh_s
        self._keys: Mapping[str, ApiKey] = {}
        self._loads_begun = 0
        self._loads_ended = 0
        self._loaded_once = False
        self._wanted = asyncio.Event()
        self._load_ended = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads the keys and keeps them fresh until `stop`. A database that is down is tried again."""
        await self._load()
        self._task = asyncio.create_task(self._keep_fresh())

    async def stop(self) -> None:
        """Ends the background loads."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def ready(self) -> bool:
        """Whether the keys were ever loaded."""
        return self._loaded_once

    async def find(self, key_id: str) -> ApiKey | None:
        """Known keys come from memory at once; an unknown one waits for one fresh load, at most 2 s."""
        if key_id not in self._keys and self._task is not None:
            await self._fresh_load()
        return self._keys.get(key_id)

    def known(self, key_id: str) -> ApiKey | None:
        """The key, if it was among those of the last load."""
        return self._keys.get(key_id)

    async def _fresh_load(self) -> None:
        """Waits until a load that began after this call has ended."""
        awaited = self._loads_begun + 1
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(MISS_WAIT_S), self._load_ended:
                await self._load_ended.wait_for(lambda: self._loads_ended >= awaited)

    async def _keep_fresh(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._refresh_s):
                    await self._wanted.wait()
            self._wanted.clear()
            await self._load()
            await asyncio.sleep(MIN_SPACING_S)

    async def _load(self) -> None:
        self._loads_begun += 1
        try:
            self._keys = {key.key_id: key for key in await active_keys(self._engine)}
            self._loaded_once = True
        except (SQLAlchemyError, OSError) as error:
            log.warning("keys_not_loaded", error=type(error).__name__, known_keys=len(self._keys))
        finally:
            self._loads_ended += 1
            async with self._load_ended:
                self._load_ended.notify_all()
