"""What an event is called and whom it speaks of, as keyed hashes: nothing raw leaves the door.

All keys come from one master key outside the database (HKDF-SHA-256, RFC 5869), so that every process
and every rebuild computes the same.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

IDENTITY_BYTES = 16
PSEUDONYM_CHARACTERS = 22  # 16 bytes as base64 without its padding
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
MIN_MASTER_KEY_BYTES = 16
_MAX_SOURCES = 10_000


def derive_key(master: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose: HKDF-SHA-256 of `master` with `purpose` as its info."""
    extracted = hmac.digest(b"impact-telemetry", master, "sha256")
    return hmac.digest(extracted, purpose.encode() + b"\x01", "sha256")


def _length_prefixed(*parts: str) -> bytes:
    """Joins so that no two different tuples give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(b"%d:%b" % (len(part), part) for part in encoded)


class Identities:
    """Event identities: a 128-bit keyed BLAKE2b of (product, source, id)."""

    def __init__(self, master: bytes) -> None:
        self._key = derive_key(master, "identity")
        self._sources: dict[tuple[str, str], hashlib.blake2b] = {}

    def of(self, product: str, source: str, event_id: str) -> bytes:
        """16 bytes, uniform; also decides the event's partition."""
        state = self._sources.get((product, source))
        if state is None:
            state = self._source(product, source)
        state = state.copy()
        state.update(event_id.encode())
        return state.digest()

    def _source(self, product: str, source: str) -> hashlib.blake2b:
        """The hash as it stands before the id: sources are few, so most of the work is done once."""
        if len(self._sources) >= _MAX_SOURCES:
            self._sources.clear()
        state = hashlib.blake2b(_length_prefixed(product, source), digest_size=IDENTITY_BYTES, key=self._key)
        self._sources[product, source] = state
        return state


def _keyed_hmac(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """HMAC-SHA-256 (RFC 2104) as it stands after the key, which is half of its work for a short text."""
    block = key.ljust(64, b"\0")
    return (
        hashlib.sha256(bytes(byte ^ 0x36 for byte in block)),
        hashlib.sha256(bytes(byte ^ 0x5C for byte in block)),
    )


class Pseudonyms:
    """Pseudonyms: HMAC-SHA-256 with a key per product, cut to 128 bits, 22 characters base64url."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._keyed: dict[str, tuple[hashlib._Hash, hashlib._Hash]] = {}

    def of(self, product: str, value: str) -> str:
        """One value has one pseudonym for life within a product, and another one in every other product."""
        keyed = self._keyed.get(product)
        if keyed is None:
            keyed = self._keyed[product] = _keyed_hmac(derive_key(self._master, f"pseudonym/{product}"))
        inner, outer = keyed[0].copy(), keyed[1].copy()
        inner.update(value.encode())
        outer.update(inner.digest())
        text = binascii.b2a_base64(outer.digest()[:16])
        return text[:PSEUDONYM_CHARACTERS].translate(_URL_SAFE).decode()


_CONTENT = hashlib.blake2b(digest_size=8)
_signed = struct.Struct(">q").unpack


def content_digest(event_type: str, time: str | None, canonical_data: Buffer) -> int:
    """A signed 64-bit digest of an event's content: `type`, `time` as sent (or absent), canonical `data`.

    Two events with one identity and different digests are an `id_conflict`.
    """
    state = _CONTENT.copy()  # a new one costs more than all the rest
    state.update(f"{event_type}\n{'' if time is None else time}\n".encode())
    state.update(canonical_data)
    digest: int = _signed(state.digest())[0]
    return digest
