"""`impact privacy audit`: what could be worked out about hidden cells from all that is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from impact_aggregator.protection.audit import Audit, audit
from impact_cli.databases import migrated
from impact_cli.terminal import Refused, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from impact_cli.settings import Settings

SHOWN = 20  # exposures; --json has all


async def run(settings: Settings, product: str | None) -> Audit:
    """Raises SettingsError, SchemaOutOfDate, and Refused if there is nothing to attack."""
    async with migrated(settings) as engine:
        with progress_bar("{task.fields[counted]}") as bar:
            task = bar.add_task("attacking the blocks", total=None, counted="", trouble="")
            found = await audit(
                engine, product, lambda done, total: bar.update(task, completed=done, total=total)
            )
    if not found.metrics:
        raise Refused(
            f"no metric {'' if product is None else f'of {product!r} '}is protected:"
            " give those of small groups 'privacy: {min_cell: 11}' in the catalog"
        )
    return found


def show(found: Audit, console: Console) -> None:
    """What was attacked, and a line for what gave way."""
    console.print(
        f"{found.metrics:,} protected metrics, {found.blocks:,} blocks, {found.hidden:,} hidden cells"
    )
    for part in found.open_parts:
        console.print(
            f"{escape(part)} has no privacy of its own, and a protected metric is made of it: it shows"
            " small groups",
            style="yellow",
        )
    if not found.exposures:
        console.print("no hidden cell can be bounded more tightly than by min_cell")
        return
    table = Table("metric", "block or window", "segment", "between", "min_cell")
    for one in found.exposures[:SHOWN]:
        place = f"{one.place} {(one.start or '')[:10]}".strip()
        bounds = f"{one.low:g} and {one.high:g}"
        table.add_row(
            *map(escape, (f"{one.product} {one.metric}", place, one.segment, bounds, str(one.min_cell)))
        )
    console.print(table)
    console.print(f"{len(found.exposures):,} can be bounded; --json has all", style="red")
