"""What a journal on a server may hold of a partner's rows: nothing that says whom they are about. Pure.

Whom a row is about, and what the catalog calls pseudonymous, is replaced by a keyed hash that tells only
whether it is the same as before. A cell of the key that the event log does not have as it is, is left out.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Any

from impact_schemas.identity import derive_key
from impact_schemas.partner_plan import as_text
from impact_schemas.partner_rows import Content

if TYPE_CHECKING:
    from impact_schemas.catalog.row_mapping import RowMapping
    from impact_schemas.partner_rows import Key

HIDDEN = "~"  # how a hashed value begins: pseudonyms of the service do not, so nobody takes one for the other

KeptKey = tuple[str | None, ...]


class Private:
    """Hides what is personal in the rows of one kind of file."""

    def __init__(self, secret: bytes, mapping: RowMapping, pseudonymous: frozenset[str]) -> None:
        self._key = derive_key(secret, f"partner rows/{mapping.source}")
        self._paths = pseudonymous
        self._open = mapping.open_columns(pseudonymous)
        self._columns = mapping.key

    def written(self, content: Content) -> str:
        """The content as a journal may hold it; equal contents are equal texts."""
        subject = None if content.subject is None else self._hashed("subject", content.subject)
        data = self._without("", content.data)
        return as_text(Content(content.type, data, content.time, subject))

    def kept(self, key: Key) -> KeptKey:
        """The key without its personal cells."""
        return tuple(
            cell if name in self._open else None for name, cell in zip(self._columns, key, strict=True)
        )

    def _without(self, before: str, data: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in data.items():
            path = f"{before}{name}"
            if path in self._paths:
                found[name] = self._hashed(path, str(value))
            else:
                found[name] = self._without(f"{path}.", value) if isinstance(value, dict) else value
        return found

    def _hashed(self, path: str, value: str) -> str:
        digest = hmac.digest(self._key, f"{path}\0{value}".encode(), "sha256")
        return HIDDEN + base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def hides_something(content: Content) -> bool:
    """Whether a content of a journal lacks what an event needs."""
    return content.subject is not None or _has_hidden(content.data)


def _has_hidden(data: dict[str, Any]) -> bool:
    return any(
        _has_hidden(value) if isinstance(value, dict) else isinstance(value, str) and value.startswith(HIDDEN)
        for value in data.values()
    )
