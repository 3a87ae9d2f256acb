"""API keys: `imp_<8 hex: its id>_<43 base64url: 256 random bits>`. Only the hash of the secret is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import NamedTuple, Protocol

SCOPES = ("write", "read", "import", "admin")
RANDOM_BYTES = 36  # 4 for the id, 32 for the secret

_KEY = re.compile(r"imp_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is stored of a key. Times are microseconds since 1970."""

    key_id: str
    product: str
    secret_hash: bytes
    scopes: frozenset[str]
    label: str | None
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None


class NewKey(NamedTuple):
    """A key at its birth: `text` is shown once and stored nowhere."""

    text: str
    key_id: str
    secret_hash: bytes


class KeyStore(Protocol):
    """Finds keys by their id; the caller checks the secret."""

    async def find(self, key_id: str) -> ApiKey | None:
        """The key, if it is known. Does not wait for IO when it is; never raises for a store that is down."""
        ...

    def known(self, key_id: str) -> ApiKey | None:
        """The key, if it is in memory."""
        ...


def make_key(random: bytes) -> NewKey:
    """A key from `RANDOM_BYTES` bytes of a cryptographic source."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} random bytes, not {len(random)}")
    key_id = random[:4].hex()
    secret = base64.urlsafe_b64encode(random[4:]).rstrip(b"=").decode()
    return NewKey(f"imp_{key_id}_{secret}", key_id, hash_secret(secret))


def split_key(text: str) -> tuple[str, str] | None:
    """(id, secret), or None if `text` has not the form of a key."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def hash_secret(secret: str) -> bytes:
    """SHA-256: a slow password hash would protect 256 random bits no better."""
    return hashlib.sha256(secret.encode()).digest()


def opens(key: ApiKey, secret: str, now: int) -> bool:
    """Whether `secret` is this key's and the key is valid at `now` (microseconds). Takes constant time."""
    return opens_by_hash(key, hash_secret(secret), now)


def opens_by_hash(key: ApiKey, secret_hash: bytes, now: int) -> bool:
    """As `opens`, for a secret that was hashed before."""
    same = hmac.compare_digest(key.secret_hash, secret_hash)
    expired = key.expires_at is not None and key.expires_at <= now
    return same and key.revoked_at is None and not expired
