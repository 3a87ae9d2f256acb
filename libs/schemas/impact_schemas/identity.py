"""What an event is called and whom it speaks of, as keyed hashes: nothing raw leaves the door.

All keys come from one master key outside the database (HKDF-SHA-256, RFC 5869), so that every process
and every rebuild computes the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

IDENTITY_BYTES = 16
MIN_MASTER_KEY_BYTES = 16


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

    def of(self, product: str, source: str, event_id: str) -> bytes:
        """16 bytes, uniform; also decides the event's partition."""
        name = _length_prefixed(product, source, event_id)
        return hashlib.blake2b(name, digest_size=IDENTITY_BYTES, key=self._key).digest()


class Pseudonyms:
    """Pseudonyms of subjects: HMAC-SHA-256 with a key per product, cut to 128 bits, base64url (22 characters)."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._keys: dict[str, bytes] = {}

    def of(self, product: str, value: str) -> str:
        """The same value has the same pseudonym for life within a product, and another in every other product."""
        key = self._keys.get(product)
        if key is None:
            key = self._keys[product] = derive_key(self._master, f"pseudonym/{product}")
        digest = hmac.digest(key, value.encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def content_digest(event_type: str, time: str | None, canonical_data: bytes) -> int:
    """A signed 64-bit digest of an event's content: `type`, `time` as sent (or absent), canonical `data`.

    Two events with one identity and different digests are an `id_conflict`.
    """
    head = f"{event_type}\n{'' if time is None else time}\n".encode()
    digest = hashlib.blake2b(head + canonical_data, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
