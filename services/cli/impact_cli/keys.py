"""API keys: made, listed and revoked in the database, and kept in the data folder of `impact up`."""

from __future__ import annotations

import json
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import msgspec

from impact_cli.terminal import WrongUse
from impact_database.engine import connect
from impact_database.keys import active_keys, create_key, list_keys, revoke_key
from impact_schemas.keys import opens, split_key
from impact_schemas.tables import to_datetime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_schemas.keys import ApiKey

DAY_US = 86_400 * 1_000_000


class MadeKey(msgspec.Struct, frozen=True):
    """A new key: its text is in no other place."""

    key: str
    key_id: str
    product: str


class ListedKey(msgspec.Struct, frozen=True):
    """What may be told about a key."""

    key_id: str
    product: str
    scopes: list[str]
    label: str | None
    created_at: str
    expires_at: str | None
    state: Literal["active", "expired", "revoked"]


async def create(
    url: str,
    product: str,
    scopes: Sequence[str],
    label: str | None = None,
    expires_in_days: int | None = None,
) -> MadeKey:
    """Makes a key in the database at `url`."""
    expires_at = _now() + expires_in_days * DAY_US if expires_in_days else None
    async with _database(url) as engine:
        try:
            text, made = await create_key(engine, product, scopes, label=label, expires_at=expires_at)
        except ValueError as error:
            raise WrongUse(str(error)) from error
    return MadeKey(text, made.key_id, made.product)


async def listed(url: str, product: str | None = None) -> list[ListedKey]:
    """All keys, oldest first."""
    now = _now()
    async with _database(url) as engine:
        return [_told(key, now) for key in await list_keys(engine, product)]


async def revoke(url: str, key_id: str) -> bool:
    """False if there was nothing to revoke."""
    async with _database(url) as engine:
        return await revoke_key(engine, key_id)


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(url)
    try:
        yield engine
    finally:
        await engine.dispose()


def _told(key: ApiKey, now: int) -> ListedKey:
    if key.revoked_at is not None:
        state: Literal["active", "expired", "revoked"] = "revoked"
    else:
        state = "expired" if key.expires_at is not None and key.expires_at <= now else "active"
    expires = None if key.expires_at is None else _shown(key.expires_at)
    scopes = sorted(key.scopes)
    return ListedKey(key.key_id, key.product, scopes, key.label, _shown(key.created_at), expires, state)


def _shown(micros: int) -> str:
    return to_datetime(micros).strftime("%Y-%m-%d %H:%M")


def _now() -> int:
    return time.time_ns() // 1000


# --- keys.json: {"<product>": "<key>"} ------------------------------------------------------------------


def read_keys_file(file: Path) -> dict[str, str]:
    """Keys by product; empty if there is no such file. Raises WrongUse for one that is something else."""
    try:
        keys = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WrongUse(f"cannot read the keys file {file}: {error}") from error
    if isinstance(keys, dict) and all(isinstance(key, str) for key in keys.values()):
        return keys
    raise WrongUse(f'{file} is no keys file: expected {{"<product>": "<key>"}}')


async def ensure_keys(engine: AsyncEngine, file: Path, products: Iterable[str]) -> None:
    """Makes a key for every product whose key in `file` is missing or opens nothing any more."""
    keys = read_keys_file(file)
    valid = {key.key_id: key for key in await active_keys(engine)}
    lacking = [product for product in sorted(products) if not _works(keys.get(product), product, valid)]
    for product in lacking:
        # whoever has the folder may read its numbers anyway
        keys[product], _ = await create_key(
            engine, product, ("write", "read"), label=f"{file.name} of impact up"
        )
    if lacking:
        write_secret(file, json.dumps(keys, indent=2) + "\n")


def _works(text: str | None, product: str, valid: dict[str, ApiKey]) -> bool:
    parts = split_key(text) if text else None
    if parts is None or parts[0] not in valid:
        return False
    key = valid[parts[0]]
    return key.product == product and opens(key, parts[1], _now())


def write_secret(file: Path, text: str) -> None:
    """Writes `file` for its owner alone (0600), at once: a crash leaves the old file or the new one."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(0o600, exist_ok=False)
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
