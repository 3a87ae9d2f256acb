"""Who may see and do what: keys sent by programs, or exchanged for a signed cookie."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from impact_reports.problems import Problem, unauthorized
from impact_schemas.keys import opens, split_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from impact_schemas.keys import ApiKey, KeyStore

COOKIE = "impact_session"
SESSION_S = 12 * 3600
SECOND_US = 1_000_000
READ = frozenset({"read", "admin"})
FILES = frozenset({"import", "admin"})  # to see partners' files
UPLOAD = FILES | {"write"}  # to have one looked at
APPROVE = frozenset({"admin"})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: `product` is the only one that they may see, None: all of them."""

    product: str | None
    signed_in: bool = False
    scopes: frozenset[str] | None = None  # None: all

    @property
    def may_see_files(self) -> bool:
        """Whether partners' files are for them."""
        return self.scopes is None or bool(self.scopes & FILES)

    def require(self, product: str) -> None:
        """Raises Problem 403."""
        if self.product not in (None, product):
            raise Problem(403, "other_product", f"Your key opens {self.product}, and not this product.")


class Access:
    """Keys and sessions. `open_to_all`: without either, who asks on this machine sees everything."""

    def __init__(
        self, keys: KeyStore, session_key: bytes, clock: Callable[[], int], *, open_to_all: bool
    ) -> None:
        self._keys = keys
        self._session_key = session_key
        self._clock = clock
        self._open = open_to_all

    async def viewer(self, request: Request) -> Viewer:
        """Who may read numbers, by the request's key, else its cookie. Raises Problem 401 or 403."""
        return _with(await self._who(request), READ, "read numbers: use one with the scope read")

    async def partner(self, request: Request) -> Viewer:
        """The same, who may see partners' files."""
        return _with(await self._who(request), FILES, "see partners' files: use one with the scope import")

    async def key(self, text: str, scopes: frozenset[str], product: str) -> ApiKey:
        """The key that somebody gave for one deed. Raises Problem 401 or 403."""
        found = await self._opened(
            text, f"ask whoever runs the service for one: {_command(product, scopes)}."
        )
        Viewer(found.product).require(product)
        if not found.scopes & scopes:
            detail = f"This needs a key with another scope: {_command(product, scopes)}."
            raise Problem(403, "scope_missing", detail)
        return found

    async def _who(self, request: Request) -> Viewer:
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            key = await self._opened(text if scheme.lower() == "bearer" else "")
            return Viewer(key.product, scopes=key.scopes)
        of_session = await self._of_session(request.cookies.get(COOKIE, ""))
        if of_session is not None:
            return Viewer(of_session.product, signed_in=True, scopes=of_session.scopes)
        if self._open and _from_here(request):
            return Viewer(None)
        raise unauthorized("Send `Authorization: Bearer <key>` with a key that has the scope read.")

    async def sign_in(self, text: str, response: Response, *, secure: bool) -> Viewer:
        """Gives the holder of the key a session. Raises Problem 401 or 403."""
        key = await self._opened(text)
        viewer = _with(
            Viewer(key.product, signed_in=True, scopes=key.scopes),
            READ | FILES,
            "see anything here: use one with the scope read, or import for partners' files",
        )
        expires = self._clock() // SECOND_US + SESSION_S
        response.set_cookie(
            COOKIE,
            f"{key.key_id}.{expires}.{self._mac(key.key_id, expires)}",
            max_age=SESSION_S,
            httponly=True,
            samesite="lax",
            secure=secure,
        )
        return viewer

    async def _opened(self, text: str, advice: str = "impact keys create --scope read.") -> ApiKey:
        parts = split_key(text.strip())
        key = None if parts is None else await self._keys.find(parts[0])
        if key is None or parts is None or not opens(key, parts[1], self._clock()):
            raise unauthorized(f"The key is unknown, expired or revoked: {advice}")
        return key

    async def _of_session(self, cookie: str) -> ApiKey | None:
        """The key of a session that is signed by us, not over, and whose key is still valid."""
        key_id, _, rest = cookie.partition(".")
        expires, _, mac = rest.partition(".")
        if not expires.isascii() or not expires.isdecimal() or len(expires) > len("9999999999"):
            return None
        now = self._clock()
        signed = hmac.compare_digest(mac.encode(), self._mac(key_id, int(expires)).encode())
        if not signed or int(expires) * SECOND_US <= now:
            return None
        key = await self._keys.find(key_id)
        if (
            key is None
            or key.revoked_at is not None
            or (key.expires_at is not None and key.expires_at <= now)
        ):
            return None
        return key

    def _mac(self, key_id: str, expires: int) -> str:
        return hmac.new(self._session_key, f"session {key_id} {expires}".encode(), hashlib.sha256).hexdigest()


def _from_here(request: Request) -> bool:
    """Whether it asks for this machine by a name of its own, and no proxy says that it forwards it.

    Another site's name that leads to 127.0.0.1 lets its scripts ask here, in the browser of somebody here.
    """
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host"))
    host = (request.url.hostname or "").lower()
    try:
        return not forwarded and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


def _command(product: str, scopes: frozenset[str]) -> str:
    """What makes a key that will do."""
    return f"impact keys create {product} --scope {' or '.join(sorted(scopes - {'write'}))}"


def _with(viewer: Viewer, scopes: frozenset[str], deed: str) -> Viewer:
    if viewer.scopes is not None and not viewer.scopes & scopes:
        raise Problem(403, "scope_missing", f"The key may not {deed}.")
    return viewer


def same_origin(request: Request) -> None:
    """Raises Problem 403 for a form that another site sent."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Problem(
            403, "other_origin", "This form came from another site: open the page here, and try again."
        )
