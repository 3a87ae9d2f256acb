"""`impact digest`: of each product ten lines for those who decide, from the same views as analysts use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from impact_cli.databases import migrated
from impact_cli.terminal import Refused, WrongUse
from impact_reports import digest, queries

if TYPE_CHECKING:
    from impact_cli.settings import Settings
    from impact_reports.digest import Digest

MAX_DAYS = 180  # two spans of which the days are kept
_SPAN = re.compile(r"([1-9][0-9]{0,2})([dw])")


def days_of(since: str) -> int:
    """Of '7d' or '4w'. Raises WrongUse."""
    match = _SPAN.fullmatch(since)
    days = int(match[1]) * (7 if match[2] == "w" else 1) if match else 0
    if not 0 < days <= MAX_DAYS:
        raise WrongUse(
            f"--since {since!r} is no number of days or weeks up to {MAX_DAYS} days, such as 7d or 4w"
        )
    return days


async def read(settings: Settings, product: str | None, days: int, stakeholder: str | None) -> list[Digest]:
    """Raises Refused where there is no such product or stakeholder, or nothing is known yet."""
    async with migrated(settings) as engine, queries.snapshot(engine) as one:
        wanted = {} if product is None else {"product": product}
        names = [row["product"] for row in await one.rows("products", order=("product",), **wanted)]
        if not names:
            raise Refused(f"there is no product {product or 'yet'}: impact status shows what is counted")
        found, unknown = [], ""
        for name in names:
            try:
                found.append(digest.digest(await queries.digest(one, name), days, stakeholder))
            except digest.NoSuchStakeholder as error:
                unknown = f"{name}: {error}"
    told = [one_digest for one_digest in found if one_digest is not None]
    if not told:
        raise Refused(unknown or "no whole day is counted yet: there is nothing to compare")
    return told


def plain(one: Digest) -> dict[str, Any]:
    """For JSON: all sentences, not only those of the ten lines."""
    return {
        "product": one.product,
        "title": one.title,
        "reader": one.reader or None,
        "since": one.since.isoformat(),
        "until": one.until.isoformat(),
        "changed": None if one.changed is None else list(one.changed),
        "at_risk": list(one.at_risk),
        "to_decide": None if one.to_decide is None else list(one.to_decide),
    }
