"""Who sends: `Authorization: Bearer <key>`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from impact_ingest.problems import Problem
from impact_schemas.keys import hash_secret, opens_by_hash, split_key

if TYPE_CHECKING:
    from impact_schemas.keys import ApiKey, KeyStore


MAY_WRITE = frozenset({"write", "admin"})
MAY_ASK = MAY_WRITE | {"import"}  # for verdicts, and what became of an event


async def authenticate(header: bytes, keys: KeyStore, now: int) -> ApiKey:
    """The key that the header carries, if it may ask. `now`: microseconds. Raises Problem 401 or 403."""
    presented = _presented(header)
    if presented is None:
        raise _unauthorized("Send `Authorization: Bearer <key>` with a key that `impact keys create` made.")
    key_id, secret_hash = presented
    key = await keys.find(key_id)
    if key is None or not opens_by_hash(key, secret_hash, now):
        raise _unauthorized("The key is unknown, expired or revoked: make one with `impact keys create`.")
    _require(key, MAY_ASK)
    return key


def known_writer(header: bytes, keys: KeyStore, now: int) -> ApiKey | None:
    """The key that the header carries, if it is in memory and may write; None for every other."""
    presented = _presented(header)
    key = keys.known(presented[0]) if presented else None
    if presented is None or key is None or not opens_by_hash(key, presented[1], now):
        return None
    return key if key.scopes & MAY_WRITE else None


@lru_cache(maxsize=256)  # senders say the same in every request; store and clock are asked each time
def _presented(header: bytes) -> tuple[str, bytes] | None:
    """(id, hash of the secret) of the key in the header; None if it carries none."""
    scheme, _, text = header.decode("latin-1").partition(" ")
    split_text = split_key(text.strip()) if scheme.lower() == "bearer" else None
    return None if split_text is None else (split_text[0], hash_secret(split_text[1]))


def require_writer(key: ApiKey) -> None:
    """Raises Problem 403."""
    _require(key, MAY_WRITE)


def _require(key: ApiKey, scopes: frozenset[str]) -> None:
    if not key.scopes & scopes:
        detail = "The key may not write events: use one with the scope `write`."
        raise Problem(403, "scope_missing", detail)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="impact"'})
