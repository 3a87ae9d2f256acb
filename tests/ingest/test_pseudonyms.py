"""Pseudonyms are the standard's HMAC, so that anybody with the key can compute them."""

from __future__ import annotations

import base64
import hmac

from hypothesis import given
from hypothesis import strategies as st

from impact_schemas.identity import Pseudonyms, derive_key

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.binary(min_size=16), TEXTS)
def test_a_pseudonym_is_half_of_hmac_sha_256_in_base64url(master: bytes, value: str) -> None:
    expected = hmac.digest(derive_key(master, "pseudonym/water"), value.encode(), "sha256")[:16]
    assert Pseudonyms(master).of("water", value) == base64.urlsafe_b64encode(expected).decode().rstrip("=")


@given(TEXTS)
def test_products_have_pseudonyms_of_their_own(value: str) -> None:
    pseudonyms = Pseudonyms(b"a master key for tests")
    assert pseudonyms.of("water", value) != pseudonyms.of("wallet", value)
    assert pseudonyms.of("water", value) == pseudonyms.of("water", value)
