"""Editions on disk: written once and never over another, found again, and checked."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from impact_reports import edition, periods, queries
from impact_reports.edition import MANIFEST, SUMS, WITHOUT_STAKEHOLDER, Earlier, NothingToReport
from impact_reports.queries import snapshot
from impact_reports.templating import asset, templates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from impact_reports.periods import Period

_SUM = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_.-]+)")
DATA = "data.json"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be reported: a product's period, for one stakeholder or for everybody."""

    product: str
    period: Period
    stakeholder: str | None = None

    def folder(self, out: Path) -> Path:
        """Where its editions are, one below the other, by the day of their numbers."""
        return out / self.product / (self.stakeholder or WITHOUT_STAKEHOLDER) / self.period.name


@dataclass(frozen=True, slots=True)
class Written:
    """An edition on disk; `new`: it was not there before."""

    folder: Path
    new: bool


async def write(engine: AsyncEngine, order: Order, out: Path, made_with: str) -> Written:
    """The edition, kept below `out` unless the same is there. Raises NothingToReport, OSError."""
    async with snapshot(engine) as one:
        moment = await queries.numbers_of(one, order.product)
        if moment is None:
            raise NothingToReport(
                f"{order.product} has no number to report: impact status shows what there is"
            )
        earlier = _latest(order.folder(out).parent, moment)
        rows = await queries.edition(one, order.product, order.period, earlier)
    content = edition.files(
        rows,
        order.period,
        moment,
        stakeholder=order.stakeholder,
        earlier=earlier,
        made_with=made_with,
        templates=templates(),
        style=asset("style.css").decode(),
    )
    return _keep(order.folder(out), moment.date().isoformat(), content)


async def due(engine: AsyncEngine, product: str | None, out: Path) -> list[Order]:
    """For each stakeholder's period that was over last, those of which there is no edition yet."""
    async with snapshot(engine) as one:
        moment = await queries.as_of(one)
        only = {} if product is None else {"product": product}
        rows = await one.rows("stakeholders", order=("product", "stakeholder"), **only)
    if moment is None:
        return []
    orders = [
        Order(row["product"], periods.last_closed(row["period"], moment), row["stakeholder"]) for row in rows
    ]
    return [order for order in orders if not any(order.folder(out).glob(f"*/{SUMS}"))]


def _keep(folder: Path, day: str, content: dict[str, bytes]) -> Written:
    """Under the day, or day-2 and so on where another edition of that day is."""
    number = 1
    while True:
        target = folder / (day if number == 1 else f"{day}-{number}")
        if not target.exists():
            break
        if (target / SUMS).is_file() and (target / SUMS).read_bytes() == content[SUMS]:
            return Written(target, new=False)
        number += 1
    folder.mkdir(parents=True, exist_ok=True)
    # all of it or nothing: a reader never meets half an edition
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as made:
        for name, body in content.items():
            (Path(made) / name).write_bytes(body)
        shutil.copytree(made, f"{made}-done")
        Path(f"{made}-done").rename(target)
    return Written(target, new=True)


def _latest(folder: Path, moment: datetime) -> Earlier | None:
    """The newest edition, of any period, whose numbers are older than `moment`."""
    found = [one for sums in folder.glob(f"*/*/{SUMS}") if (one := _read(sums.parent)) is not None]
    older = [one for one in found if one.numbers_of < moment]
    return max(older, key=lambda one: (one.numbers_of, one.period.starts_at), default=None)


def _read(folder: Path) -> Earlier | None:
    """None for what is no edition that holds together."""
    if verify(folder):
        return None
    data = json.loads((folder / DATA).read_bytes())
    return Earlier(
        period=periods.parse(data["period"]),
        numbers_of=datetime.fromisoformat(data["numbers_of"]),
        values={row["metric"]: row for row in data["values"] if row["segment"] == queries.TOTAL},
        sums=hashlib.sha256((folder / SUMS).read_bytes()).hexdigest(),
    )


# --- checking -------------------------------------------------------------------------------------------


def verify(folder: Path) -> list[str]:
    """What is wrong with the edition in `folder`; nothing: it is, byte for byte, as it was written."""
    try:
        listed = dict(_listed((folder / SUMS).read_text("ascii")))
    except (OSError, ValueError) as error:
        return [f"{SUMS} cannot be read: {error}"]
    there = {path.name for path in folder.iterdir()} - {SUMS}
    faults = [f"{name} is not there" for name in sorted(set(listed) - there)]
    faults += [f"{name} is not part of the edition" for name in sorted(there - set(listed))]
    faults += [
        f"{name} is not as it was written"
        for name in sorted(there & set(listed))
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != listed[name]
    ]
    return faults or _against_manifest(folder, listed)


def _listed(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines(keepends=True)
    for line in lines:
        match = _SUM.fullmatch(line.removesuffix("\n"))
        if match is None or not line.endswith("\n"):
            raise ValueError(f"not a line of it: {line!r}")
        yield match[2], match[1]
    if lines != sorted(lines, key=lambda line: line[66:]) or not lines:
        raise ValueError("its lines are not those that were written")


def _against_manifest(folder: Path, listed: dict[str, str]) -> list[str]:
    if MANIFEST not in listed:
        return [f"{SUMS} does not name {MANIFEST}"]
    named = json.loads((folder / MANIFEST).read_bytes())["files"]
    if named != {name: value for name, value in listed.items() if name != MANIFEST}:
        return [f"{MANIFEST} and {SUMS} name other files"]
    return []
